"""The API under uvicorn, with an orderly end."""

from __future__ import annotations

from types import FrameType

import uvicorn
from fastapi import FastAPI

from service.app import create_app
from service.services import Services
from service.settings import ServiceSettings


class _Server(uvicorn.Server):
    """Says so at `/ready` when it is asked to stop, while open answers go on."""

    def __init__(self, config: uvicorn.Config, app: FastAPI) -> None:
        super().__init__(config)
        self._app = app

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._app.state.draining = True
        super().handle_exit(sig, frame)


def serve(settings: ServiceSettings) -> None:
    """Serve until SIGINT or SIGTERM; then let open answers end, for `drain_seconds` at most.

    Raises:
        What `Services.start` raises.
    """
    services = Services.start(settings)
    app = create_app(services)
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=settings.drain_seconds,
    )
    try:
        _Server(config, app).run()
    finally:
        services.stop()
