"""Celery on Redis. The broker is a bell, not the record: what is to be learned stands in PostgreSQL.

A worker that dies gives its message back (late acknowledgement, visibility timeout above the longest
task); a message that is lost all the same is made up for by the sweep.
"""

import sys
from typing import Any

from celery import Celery

from learner.settings import LearnerSettings

QUEUE = "cage-learning"
LONGEST_TASK_SECONDS = 60
VISIBILITY_SECONDS = 180


def configuration() -> dict[str, Any]:
    """Celery's settings, from the learner's."""
    settings = LearnerSettings.from_environment()
    return {
        "broker_url": settings.redis_url,
        "broker_connection_retry_on_startup": True,
        "broker_transport_options": {
            "visibility_timeout": VISIBILITY_SECONDS,
            "socket_connect_timeout": 0.5,
            "socket_timeout": 2.0,
            "socket_keepalive": True,
            # For publishers, who must not keep a request waiting; workers reconnect without end.
            "max_retries": 0,
            "interval_start": 0.0,
            "interval_step": 0.0,
            "interval_max": 0.0,
        },
        "task_publish_retry": False,
        "task_default_queue": QUEUE,
        "task_serializer": "json",
        "accept_content": ["json"],
        "task_ignore_result": True,
        "task_acks_late": True,
        "task_reject_on_worker_lost": True,
        "task_time_limit": LONGEST_TASK_SECONDS,
        "worker_prefetch_multiplier": 1,
        "worker_cancel_long_running_tasks_on_connection_loss": True,
        "timezone": "UTC",
        "beat_scheduler": "celery.beat:Scheduler",
        "beat_schedule": {
            "sweep": {
                "task": "learner.tasks.sweep",
                "schedule": settings.sweep_interval_seconds,
                "options": {"expires": settings.sweep_interval_seconds},
            }
        },
    }


app = Celery("cage", include=["learner.tasks"], set_as_current=False)
app.add_defaults(configuration)


def worker_command(concurrency: int, *, with_sweep: bool) -> list[str]:
    """The command that runs a worker; exactly one worker of an installation sends for the sweep."""
    worker = [sys.executable, "-m", "celery", "-A", "learner.celery_app", "worker"]
    quiet_start = ["--without-mingle", "--without-gossip"]
    return [*worker, *quiet_start, "--concurrency", str(concurrency), *(["--beat"] if with_sweep else [])]
