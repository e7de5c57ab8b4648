"""OpenTelemetry traces from a request through the queue into a worker; off unless a collector is configured.

Spans carry no user ids and no text. What creates them uses OpenTelemetry's own API, which does nothing as long as
`start_tracing` was not called.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from celery import signals
from opentelemetry import context, propagate, trace
from opentelemetry.trace import SpanKind, Status, StatusCode

from learner.errors import TracingUnavailable

if TYPE_CHECKING:
    from contextvars import Token

    from opentelemetry.context import Context

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_CARRIER = "cage_trace"

tracer = trace.get_tracer("cage")


def is_tracing_configured() -> bool:
    """Whether the environment names a collector, in OpenTelemetry's own variables."""
    disabled = os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true"
    return not disabled and any(os.environ.get(name) for name in _ENDPOINTS)


def start_tracing(service_name: str) -> Callable[[], None]:
    """Send this process's spans to the configured collector; returns what sends the last ones. Once a process.

    Raises:
        TracingUnavailable: a collector is configured, but the extra that sends spans is not installed.
    """
    if not is_tracing_configured():
        return lambda: None
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise TracingUnavailable(
            "a trace collector is configured (OTEL_EXPORTER_OTLP_ENDPOINT), but what sends spans is not installed; "
            "pip install -e '.[telemetry]', or unset the variable"
        ) from error
    name = os.environ.get("OTEL_SERVICE_NAME") or service_name
    provider = TracerProvider(resource=Resource.create({"service.name": name}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    _follow_tasks()
    return provider.shutdown


def _follow_tasks() -> None:
    """Carry the trace in the headers of Celery's messages, and go on with it in the worker."""
    signals.before_task_publish.connect(_on_publish, weak=False)
    signals.task_prerun.connect(_on_start, weak=False)
    signals.task_postrun.connect(_on_end, weak=False)


def _on_publish(sender: str, headers: dict[str, Any], routing_key: str, **_: Any) -> None:
    if not trace.get_current_span().get_span_context().is_valid:
        return  # the sweep's and the beat's own messages begin no trace
    attributes = {"messaging.system": "redis", "messaging.destination.name": routing_key}
    with tracer.start_as_current_span(f"enqueue {sender}", kind=SpanKind.PRODUCER, attributes=attributes):
        carrier: dict[str, str] = {}
        propagate.inject(carrier)
        headers[_CARRIER] = carrier


_running: dict[str, tuple[trace.Span, Token[Context]]] = {}


def _on_start(task_id: str, task: Any, **_: Any) -> None:
    carrier = task.request.get(_CARRIER)
    if not carrier:
        return
    span = tracer.start_span(task.name, context=propagate.extract(carrier), kind=SpanKind.CONSUMER)
    span.set_attribute("messaging.message.id", task_id)
    _running[task_id] = span, context.attach(trace.set_span_in_context(span))


def _on_end(task_id: str, state: str | None = None, **_: Any) -> None:
    span, token = _running.pop(task_id, (None, None))
    if span is None or token is None:
        return
    if state == "FAILURE":
        span.set_status(Status(StatusCode.ERROR))
    context.detach(token)
    span.end()
