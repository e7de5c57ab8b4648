"""Everything in one go on one machine: PostgreSQL, Redis, migrations, a worker, the API, a demo tenant."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

from cage_core.checkpoints import check_checkpoint
from learner.store.database import Database
from learner.store.migrate import upgrade
from service.running.addresses import Running, announced
from service.running.demo_tenant import ensure_demo_tenant, ensure_operator_key
from service.running.servers import EmbeddedServers
from service.running.worker_process import worker_process
from service.settings import HttpSettings, ModelSettings, ServiceSettings

Progress = Callable[[str], None]


class PortTaken(Exception):
    """Something else listens where the API should; the message says what to do."""


def up(data_dir: Path, progress: Progress, ready: Callable[[str, str], None]) -> None:
    """Run everything until SIGINT or SIGTERM; data stays in `data_dir`.

    Args:
        progress: told what is being started.
        ready: told the API's URL and the demo tenant's key once requests are answered.
    Raises:
        PortTaken, EmbeddedServersUnavailable, InvalidModel: what cannot start, and what to do.
    """
    # Unhandled, these would end the process without stopping what it started; SIGHUP is a closed terminal.
    for ending in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, _leave)
    with contextlib.ExitStack() as stack:
        check_checkpoint(ModelSettings().model_directory)
        _check_port(HttpSettings())
        # Torch and transformers take seconds to import; meanwhile the servers start.
        threading.Thread(target=import_module, args=("service.server",), daemon=True).start()
        _provide_servers(stack, data_dir, progress)
        settings = ServiceSettings.from_environment()
        progress("migrations")
        upgrade(settings.database_url)
        key = _ensure_keys(settings, data_dir)
        progress("learner: Celery worker and beat")
        stack.enter_context(worker_process(data_dir))
        progress("model and API")
        stack.enter_context(announced(data_dir, Running(settings.database_url, settings.redis_url, settings.url)))
        announce = threading.Thread(target=_announce, args=(settings, lambda: ready(settings.url, key)), daemon=True)
        announce.start()
        from service.server import serve

        with contextlib.suppress(KeyboardInterrupt):
            serve(settings)
        progress("stopping")


def _leave(signum: int, frame: object) -> None:
    raise SystemExit(0)


def _provide_servers(stack: contextlib.ExitStack, data_dir: Path, progress: Progress) -> None:
    """Embedded servers for whatever the environment does not name; children inherit the environment."""
    data_dir.mkdir(parents=True, exist_ok=True)
    if {"CAGE_DATABASE_URL", "CAGE_REDIS_URL"} <= os.environ.keys():
        return
    progress("PostgreSQL and Redis")
    servers = stack.enter_context(EmbeddedServers(data_dir))
    os.environ.setdefault("CAGE_DATABASE_URL", servers.database_url)
    os.environ.setdefault("CAGE_REDIS_URL", servers.redis_url)


def _check_port(settings: HttpSettings) -> None:
    with socket.socket(socket.AF_INET6 if ":" in settings.host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.host, settings.port))
        except OSError as error:
            raise PortTaken(
                f"cannot listen on {settings.host}:{settings.port} ({error.strerror}); "
                "stop what runs there or set CAGE_PORT to another port"
            ) from error


def _ensure_keys(settings: ServiceSettings, data_dir: Path) -> str:
    """Keys of the demo tenant and of the operator in the data directory; returns the former."""
    database = Database(settings.database_url, pool_size=1)
    try:
        ensure_operator_key(database, data_dir)
        return ensure_demo_tenant(database, settings, data_dir)
    finally:
        database.dispose()


def _announce(settings: HttpSettings, ready: Callable[[], None]) -> None:
    """Call `ready` as soon as the API listens."""
    pause = threading.Event()
    while True:
        with contextlib.suppress(OSError), socket.create_connection((settings.host, settings.port), timeout=1):
            break
        pause.wait(0.05)
    ready()
