"""A second API process's worth of settings over the first one's engine and stores."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import uvicorn
from prometheus_client import CollectorRegistry

from service.access.limits import Limits
from service.access.shares import Shares
from service.app import create_app
from service.http_protocol import LARGEST_HEADERS_BYTES, protocol
from service.settings import ServiceSettings
from tests.service.conftest import Stack
from tests.waiting import wait_until

# A busy test machine's Redis is not to be taken for dead.
PATIENT = {"limiter_timeout_seconds": 2.0}


@contextmanager
def another_server(stack: Stack, redis_url: str | None = None, **changed: Any) -> Iterator[str]:
    """Serve with some settings changed; yields the address."""
    settings = ServiceSettings.model_validate({**stack.services.settings.model_dump(), **PATIENT, **changed})
    limits = Limits(settings, redis_url or settings.redis_url, CollectorRegistry())
    services = replace(stack.services, settings=settings, limits=limits, shares=Shares(settings))
    listening = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(
        create_app(services),
        log_level="warning",
        lifespan="off",
        ws="none",
        http=protocol(settings.arrival_seconds),
        h11_max_incomplete_event_size=LARGEST_HEADERS_BYTES,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    wait_until(lambda: server.started)
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
        listening.close()
        limits.close()
