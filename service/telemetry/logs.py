"""One log line for each request: what was asked for, by which tenant, with what result, how long it took."""

from __future__ import annotations

import logging
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from learner.logs import set_log_context

logger = logging.getLogger("cage.requests")

# Asked for every few seconds by machines.
_PROBES = frozenset({"/health", "/ready", "/metrics"})


class RequestLog:
    """Logs requests by route, never by path: paths carry users' ids. Probes are logged at level debug."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        state = scope.setdefault("state", {})
        set_log_context(request_id=state.get("request_id", ""))
        started = time.monotonic()
        status = 500

        async def send_noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, send_noting)
        finally:
            route = getattr(scope.get("route"), "path", "unknown")
            caller = state.get("caller")
            event = {
                "method": scope["method"],
                "route": route,
                "status": status,
                "seconds": round(time.monotonic() - started, 4),
                "tenant": None if caller is None else caller.tenant_id,
                "key": None if caller is None else caller.key.id,
            }
            level = logging.DEBUG if route in _PROBES else logging.INFO
            logger.log(level, "request", extra={"event": event})
