"""Real servers for tests: PostgreSQL, Redis and Celery workers, started once, with a fresh database each."""

import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
import redis
from sqlalchemy import create_engine, make_url, text
from sqlalchemy.pool import NullPool

from learner.celery_app import worker_command
from learner.redis_connection import connect
from learner.settings import LearnerSettings, normalised_database_url
from learner.store import migrate
from learner.store.database import Database
from service.running.servers import EmbeddedServers
from tests.waiting import wait_until

# A gate should say the same thing twice; developers' runs go on searching.
hypothesis.settings.register_profile("gate", derandomize=True)
if os.environ.get("CI"):
    hypothesis.settings.load_profile("gate")

TEMPLATE = "cage_template"
SWEEP_SECONDS = 0.5


class WorkerProcess:
    """A Celery worker in processes of its own."""

    def __init__(self, settings: LearnerSettings, log: Path) -> None:
        self.log = log
        addresses = {
            "CAGE_DATABASE_URL": settings.database_url,
            "CAGE_REDIS_URL": settings.redis_url,
            "CAGE_SWEEP_INTERVAL_SECONDS": str(settings.sweep_interval_seconds),
        }
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                worker_command(1, with_sweep=True),
                env={**os.environ, **addresses},
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        wait_until(lambda: b" ready." in log.read_bytes(), seconds=30)

    def child_ids(self) -> list[int]:
        """Process ids of the pool, which run the tasks, and of the beat."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return [int(child) for child in children.split()]

    def kill(self) -> None:
        """SIGKILL to the worker and everything that it started."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        """Warm shutdown, as a deployment does it."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                self.kill()


@pytest.fixture(scope="session")
def servers() -> Iterator[EmbeddedServers]:
    """PostgreSQL and Redis for the whole run, with a migrated template database.

    Not below pytest's own directory: another run of pytest closes that to other system users, and as root
    PostgreSQL runs as one.
    """
    with tempfile.TemporaryDirectory(prefix="cage-") as directory, EmbeddedServers(Path(directory)) as running:
        _administer(running.database_url, "ALTER SYSTEM SET fsync = off")
        _administer(running.database_url, "SELECT pg_reload_conf()")
        _administer(running.database_url, f"CREATE DATABASE {TEMPLATE}")
        migrate.upgrade(_database_url(running, TEMPLATE))
        with pytest.MonkeyPatch.context() as environment:
            environment.setenv("CAGE_DATABASE_URL", _database_url(running, TEMPLATE))
            environment.setenv("CAGE_REDIS_URL", running.redis_url)
            yield running


@pytest.fixture
def database_url(servers: EmbeddedServers, request: pytest.FixtureRequest) -> Iterator[str]:
    """A migrated database that no other test sees."""
    name = f"test_{abs(hash(request.node.nodeid)):x}"
    _administer(servers.database_url, f"CREATE DATABASE {name} TEMPLATE {TEMPLATE}")
    yield _database_url(servers, name)
    _administer(servers.database_url, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """The learner's access to that database."""
    database = Database(database_url)
    yield database
    database.dispose()


@pytest.fixture
def redis_url(servers: EmbeddedServers) -> str:
    """Redis, emptied before the test."""
    with connect(servers.redis_url) as client:
        client.flushdb()
    return servers.redis_url


@pytest.fixture
def redis_client(redis_url: str) -> Iterator[redis.Redis]:
    """A client of that Redis."""
    with connect(redis_url) as client:
        yield client


@pytest.fixture
def learner_settings(database_url: str, redis_url: str) -> LearnerSettings:
    """Settings that point to the test's servers, with a short sweep."""
    return LearnerSettings(database_url=database_url, redis_url=redis_url, sweep_interval_seconds=SWEEP_SECONDS)


@pytest.fixture
def worker(learner_settings: LearnerSettings, tmp_path: Path) -> Iterator[WorkerProcess]:
    """A running worker that also sweeps."""
    process = WorkerProcess(learner_settings, tmp_path / "worker.log")
    yield process
    process.stop()


def _database_url(servers: EmbeddedServers, name: str) -> str:
    url = make_url(normalised_database_url(servers.database_url)).set(database=name)
    return url.render_as_string(hide_password=False)


def _administer(url: str, statement: str) -> None:
    engine = create_engine(normalised_database_url(url), poolclass=NullPool, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(statement))
