"""The API under uvicorn, with an orderly end."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType

import uvicorn
from fastapi import FastAPI

from learner.logs import LogSettings, configure_logs
from learner.tracing import start_tracing
from service.app import create_app
from service.http_protocol import LARGEST_HEADERS_BYTES, protocol
from service.services import Services
from service.settings import ServiceSettings

_END_SECONDS = 2
_SWITCH_SECONDS = 0.0005


class _Server(uvicorn.Server):
    """Ends in three steps: says so at `/ready`, lets open answers go on, ends those that take too long."""

    def __init__(self, config: uvicorn.Config, app: FastAPI, services: Services) -> None:
        super().__init__(config)
        self._app = app
        self._services = services

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        settings = self._services.settings
        # Ctrl-C is a person who waits; SIGTERM is a deployment whose load balancer must notice first.
        notice_seconds = 0.0 if sig == signal.SIGINT or self._app.state.draining else settings.drain_notice_seconds
        self._app.state.draining = True
        self._later(notice_seconds, lambda: super(_Server, self).handle_exit(sig, frame))
        # Streams that are still open get their error event before uvicorn closes them.
        self._later(notice_seconds + settings.drain_seconds, self._services.engine.stop)

    @staticmethod
    def _later(seconds: float, action: Callable[[], None]) -> None:
        timer = threading.Timer(seconds, action)
        timer.daemon = True
        timer.start()


def serve(settings: ServiceSettings) -> None:
    """Serve until SIGINT or SIGTERM; then let open answers end, for `drain_seconds` at most.

    Raises:
        What `Services.start` raises; TracingUnavailable; SystemExit after SIGTERM, KeyboardInterrupt after SIGINT.
    """
    # uvicorn raises the signal again when it is done; unhandled, SIGTERM would skip every clean-up.
    signal.signal(signal.SIGTERM, _leave)
    # The decoder computes without pause. At the default of 5 ms every answer from PostgreSQL would wait that long for
    # the interpreter: nine times a request.
    sys.setswitchinterval(_SWITCH_SECONDS)
    configure_logs(LogSettings())
    stop_tracing = start_tracing("cage-api")
    services = Services.start(settings)
    app = create_app(services)
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        http=protocol(settings.arrival_seconds),
        h11_max_incomplete_event_size=LARGEST_HEADERS_BYTES,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=settings.drain_seconds + _END_SECONDS,
    )
    try:
        _Server(config, app, services).run()
    finally:
        services.stop()
        stop_tracing()


def _leave(signum: int, frame: object) -> None:
    raise SystemExit(0)
