"""Log lines with the request or task that they belong to: JSON for machines, text for people.

No line names an end user or repeats what users wrote: nothing here is given either, and PostgreSQL's details, which
quote the row at fault, are left out of stack traces.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Mapping
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, Literal

from opentelemetry import trace
from pydantic_settings import BaseSettings, SettingsConfigDict

LogFormat = Literal["json", "text"]

_CONTEXT: ContextVar[Mapping[str, str] | None] = ContextVar("log_context", default=None)
_ROW_DETAIL = re.compile(r"^DETAIL: .*\n?", re.MULTILINE)


class LogSettings(BaseSettings):
    """How a process logs.

    Attributes:
        log_format: JSON lines or text; unless given, text on a terminal and JSON elsewhere.
        log_level: least level that is written; unless given, "info" for JSON and "warning" for text. Requests and
            tasks are at "info".
    """

    model_config = SettingsConfigDict(env_prefix="CAGE_", frozen=True, extra="ignore")

    log_format: LogFormat | None = None
    log_level: Literal["debug", "info", "warning", "error"] | None = None


def configure_logs(settings: LogSettings) -> None:
    """Send everything that is logged in this process to stderr, in one form."""
    form = settings.log_format or ("text" if sys.stderr.isatty() else "json")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines() if form == "json" else TextLines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel((settings.log_level or ("info" if form == "json" else "warning")).upper())
    logging.captureWarnings(True)
    # It announces each request that it sends, with its address.
    logging.getLogger("httpx").setLevel(logging.WARNING)


def set_log_context(**fields: str) -> None:
    """Attach fields to every further line of this request or task, in whatever thread it goes on."""
    _CONTEXT.set(fields)


class JsonLines(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as an object: at, level, logger, message, its context, its own fields, its error."""
        line = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_fields(record),
        }
        if record.exc_info and record.exc_info[0] is not None:
            line["error"] = record.exc_info[0].__name__
            line["stack"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)

    def formatException(self, ei: Any) -> str:  # noqa: N802
        """The stack trace without PostgreSQL's details."""
        return _ROW_DETAIL.sub("", super().formatException(ei))


class TextLines(logging.Formatter):
    """Time, level, logger, message and `name=value` for each field."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-8s %(name)s  %(message)s%(fields)s", "%H:%M:%S")

    def format(self, record: logging.LogRecord) -> str:
        """The record as a line, and its stack trace below it."""
        record.fields = "".join(f"  {name}={value}" for name, value in _fields(record).items())
        return super().format(record)

    def formatException(self, ei: Any) -> str:  # noqa: N802
        """The stack trace without PostgreSQL's details."""
        return _ROW_DETAIL.sub("", super().formatException(ei))


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    fields: dict[str, Any] = {**(_CONTEXT.get() or {}), **getattr(record, "event", {})}
    span = trace.get_current_span().get_span_context()
    if span.is_valid:
        fields["trace_id"] = trace.format_trace_id(span.trace_id)
    return fields
