"""The embedded servers, seen from outside."""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from sqlalchemy import create_engine, text

from learner.settings import normalised_database_url
from service.running.servers import EmbeddedServers, EmbeddedServersUnavailable
from tests.waiting import wait_until


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """Not below pytest's own directory; see the `servers` fixture."""
    with tempfile.TemporaryDirectory(prefix="cage-") as directory:
        yield Path(directory)


def ask(url: str, statement: str) -> object:
    engine = create_engine(normalised_database_url(url))
    with engine.begin() as connection:
        answer = connection.execute(text(statement))
        value = answer.scalar() if answer.returns_rows else None
    engine.dispose()
    return value


def test_data_outlives_the_servers_and_nothing_keeps_running(data_dir: Path) -> None:
    with EmbeddedServers(data_dir) as first:
        ask(first.database_url, "CREATE TABLE kept AS SELECT 7 AS number")
        redis.Redis.from_url(first.redis_url).close()
        with pytest.raises(EmbeddedServersUnavailable, match="another process"), EmbeddedServers(data_dir):
            pass
    with pytest.raises(redis.ConnectionError), redis.Redis.from_url(first.redis_url) as client:
        client.ping()
    with EmbeddedServers(data_dir) as second:
        assert ask(second.database_url, "SELECT number FROM kept") == 7


def test_redis_lets_no_one_in_without_the_password(data_dir: Path) -> None:
    with EmbeddedServers(data_dir) as servers:
        without = "redis://" + servers.redis_url.split("@")[1]
        with pytest.raises(redis.AuthenticationError), redis.Redis.from_url(without) as client:
            client.ping()
        assert (data_dir / "redis" / "redis.conf").stat().st_mode & 0o077 == 0


def test_servers_of_a_killed_process_are_taken_over(data_dir: Path) -> None:
    script = (
        "import sys, time\nfrom pathlib import Path\nfrom service.running.servers import EmbeddedServers\n"
        "with EmbeddedServers(Path(sys.argv[1])) as servers:\n"
        "    Path(sys.argv[1], 'running').write_text(servers.redis_url)\n"
        "    time.sleep(60)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script, str(data_dir)])
    running = data_dir / "running"
    wait_until(lambda: running.exists() and running.read_text(), seconds=30)
    orphan = running.read_text()
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    with EmbeddedServers(data_dir) as servers:
        assert ask(servers.database_url, "SELECT 1") == 1
        with pytest.raises(redis.ConnectionError), redis.Redis.from_url(orphan) as client:
            client.ping()
