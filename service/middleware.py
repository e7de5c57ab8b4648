"""What every request passes: an id, a size limit, a clock."""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service import errors
from service.telemetry.metrics import Metrics

logger = logging.getLogger(__name__)

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")


class RequestEnvelope:
    """Gives each request an `x-request-id` (the caller's, if it is a decent one) and counts and times it."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = dict(scope["headers"]).get(b"x-request-id", b"").decode("latin-1")
        request_id = given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(12)
        scope.setdefault("state", {})["request_id"] = request_id
        started = time.monotonic()
        status: int | None = None

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                limits: dict[str, str] = scope["state"].get("rate_limit_headers", {})
                more = [(name.encode(), value.encode()) for name, value in limits.items()]
                message["headers"] = [*message["headers"], (b"x-request-id", request_id.encode()), *more]
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        except Exception:
            logger.exception("request %s failed", request_id)
            if status is not None:
                raise  # half an answer is on its way already: only closing the connection is left
            message = "internal error; the server's log has the cause"
            await errors.response(500, message, "api_error", code="internal_error")(scope, receive, send_with_id)
        finally:
            # The route's template, not the path: paths carry ids.
            route = getattr(scope.get("route"), "path", "unknown")
            self._metrics.requests.labels(route, str(status)).inc()
            self._metrics.request_seconds.labels(route).observe(time.monotonic() - started)


class BodyLimit:
    """Refuses bodies that are too large before they are read whole, and bodies that do not arrive."""

    def __init__(self, app: ASGIApp, largest_bytes: int, arrival_seconds: float) -> None:
        self._app = app
        self._largest_bytes = largest_bytes
        self._arrival_seconds = arrival_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        if declared.isdigit() and int(declared) > self._largest_bytes:
            await self._refuse(scope, receive, send)
            return
        num_bytes, arrived = 0, False
        deadline = asyncio.get_running_loop().time() + self._arrival_seconds

        async def receive_counted() -> Message:
            nonlocal num_bytes, arrived
            try:
                async with asyncio.timeout_at(None if arrived else deadline):
                    message = await receive()
            except TimeoutError:
                raise errors.BodyTooSlow(
                    f"the body did not arrive within {self._arrival_seconds:g} s; send it at once"
                ) from None
            num_bytes += len(message.get("body", b""))
            if num_bytes > self._largest_bytes:
                raise errors.BodyTooLarge(f"the body is larger than {self._largest_bytes} bytes; send less")
            arrived = arrived or not message.get("more_body", False)
            return message

        await self._app(scope, receive_counted, send)

    async def _refuse(self, scope: Scope, receive: Receive, send: Send) -> None:
        message = f"the body is larger than {self._largest_bytes} bytes; send less"
        refusal = errors.response(413, message, "invalid_request_error", code="body_too_large")
        await refusal(scope, receive, send)
