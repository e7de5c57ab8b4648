"""Celery on Redis. The broker is a bell, not the record: what is to be learned stands in PostgreSQL.

A worker that dies gives its message back (late acknowledgement, visibility timeout above the longest
task); a message that is lost all the same is made up for by the sweep.
"""

import hashlib
import sys
from collections.abc import Collection
from typing import Any

from celery import Celery

from learner.scope import Scope
from learner.settings import LearnerSettings

SWEEP_QUEUE = "cage-sweep"
INCENTIVE_QUEUE = "cage-incentives"
LEARNING_QUEUE = "cage-learning-{number}"
TIDY_INTERVAL_SECONDS = 60.0
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
        "task_queues": {name: {} for name in all_queues(settings.learning_queues)},
        "task_default_queue": SWEEP_QUEUE,
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
            },
            "tidy": {
                "task": "learner.tasks.tidy",
                "schedule": TIDY_INTERVAL_SECONDS,
                "options": {"expires": TIDY_INTERVAL_SECONDS},
            },
        },
    }


app = Celery("cage", include=["learner.tasks", "learner.worker_signals"], set_as_current=False)
app.add_defaults(configuration)


def all_queues(learning_queues: int) -> tuple[str, ...]:
    """Every queue of an installation."""
    numbered = (LEARNING_QUEUE.format(number=number) for number in range(learning_queues))
    return (*numbered, INCENTIVE_QUEUE, SWEEP_QUEUE)


def queue_of(scope: Scope, learning_queues: int) -> str:
    """The queue of a scope's learning: a hash of its ids, the same in every process and on every machine."""
    key = f"{len(scope.tenant_id)}:{scope.tenant_id}:{scope.user_key}".encode()
    number = int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "big") % learning_queues
    return LEARNING_QUEUE.format(number=number)


def worker_command(concurrency: int, *, with_sweep: bool, queues: Collection[str] = ()) -> list[str]:
    """The command that runs a worker; exactly one worker of an installation sends for the sweep.

    Args:
        queues: names of the queues to take from; all of them unless given.
    """
    worker = [sys.executable, "-m", "celery", "--quiet", "-A", "learner.celery_app", "worker"]
    options = ["--without-mingle", "--without-gossip", "--concurrency", str(concurrency)]
    chosen = ["--queues", ",".join(queues)] if queues else []
    return [*worker, *options, *chosen, *(["--beat"] if with_sweep else [])]
