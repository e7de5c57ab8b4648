"""What a worker does around its tasks: logs, traces, timings."""

from __future__ import annotations

import time
from functools import cache
from typing import Any

import redis
from celery import signals

from learner.logs import LogSettings, configure_logs, set_log_context
from learner.redis_connection import connect
from learner.settings import LearnerSettings
from learner.task_metrics import count_task
from learner.tracing import start_tracing

_started_seconds: dict[str, float] = {}


@signals.setup_logging.connect(weak=False)  # type: ignore[untyped-decorator]
def _set_up_logs(**_: Any) -> None:
    configure_logs(LogSettings())


@signals.worker_process_init.connect(weak=False)  # type: ignore[untyped-decorator]
def _set_up_traces(**_: Any) -> None:
    # In each process of the pool: the thread that sends spans does not survive a fork.
    signals.worker_process_shutdown.connect(_stopping(start_tracing("cage-worker")), weak=False)


def _stopping(stop: Any) -> Any:
    return lambda **_: stop()


@signals.task_prerun.connect(weak=False)  # type: ignore[untyped-decorator]
def _on_start(task_id: str, task: Any, args: Any = (), **_: Any) -> None:
    tenant = {"tenant": str(args[0])} if args else {}
    set_log_context(task=task.name, task_id=task_id, **tenant)
    _started_seconds[task_id] = time.monotonic()


@signals.task_postrun.connect(weak=False)  # type: ignore[untyped-decorator]
def _on_end(task_id: str, task: Any, state: str | None = None, **_: Any) -> None:
    seconds = time.monotonic() - _started_seconds.pop(task_id)
    count_task(_redis(), task.name.rpartition(".")[2], seconds, failed=state == "FAILURE")


@cache
def _redis() -> redis.Redis:
    """A connection of this process's own, made by its first task."""
    return connect(LearnerSettings.from_environment().redis_url)
