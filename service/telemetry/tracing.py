"""A span for each HTTP request; its children are in `service.chat.decoding` and `learner.tracing`."""

from __future__ import annotations

from fastapi.telemetry import TelemetryConfig
from opentelemetry import context, propagate, trace
from opentelemetry.trace import SpanKind, Status, StatusCode
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from learner.tracing import tracer

# FastAPI's own spans carry paths and queries, and with them users' ids.
NO_NATIVE_TELEMETRY: TelemetryConfig = {"tracing": False, "metrics": False, "logs": False}


class TracedRequests:
    """Goes on with the caller's trace (`traceparent`) or begins one; names spans by route, never by path."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in ("/health", "/ready", "/metrics"):
            await self._app(scope, receive, send)
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        span = tracer.start_span(scope["method"], propagate.extract(headers), SpanKind.SERVER)
        token = context.attach(trace.set_span_in_context(span))

        async def send_noting(message: Message) -> None:
            if message["type"] == "http.response.start":
                span.set_attribute("http.response.status_code", message["status"])
                if message["status"] >= 500:
                    span.set_status(Status(StatusCode.ERROR))
            await send(message)

        try:
            await self._app(scope, receive, send_noting)
        finally:
            route = getattr(scope.get("route"), "path", "unknown")
            span.update_name(f"{scope['method']} {route}")
            span.set_attributes({"http.request.method": scope["method"], "http.route": route})
            span.set_attribute("cage.request_id", scope.get("state", {}).get("request_id", ""))
            context.detach(token)
            span.end()
