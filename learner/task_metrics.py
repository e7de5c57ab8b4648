"""Counts of what workers do, kept in Redis so that every API process can show them.

Workers are many short-lived processes; nobody could scrape them one by one. Losing these counts with Redis looks to
Prometheus like a restart.
"""

from __future__ import annotations

import logging
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import accumulate

import redis

logger = logging.getLogger(__name__)

BUCKETS_SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
_KEY = "cage:task-metrics"
_LEARNED_VOTES = "learned-votes"


@dataclass
class TaskCounts:
    """One kind of task.

    Attributes:
        cumulative: tasks that took at most as long as each of BUCKETS_SECONDS; the last is all of them.
    """

    cumulative: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS_SECONDS) + 1))
    seconds: float = 0.0
    failures: int = 0


@dataclass(frozen=True)
class WorkDone:
    """What all workers did since Redis was last emptied."""

    tasks: Mapping[str, TaskCounts]
    learned_votes: int


def count_task(client: redis.Redis, task: str, seconds: float, *, failed: bool) -> None:
    """Count one run of a task; silently not, while Redis is away."""
    with client.pipeline(transaction=False) as pipeline:
        pipeline.hincrby(_KEY, f"{task}|bucket|{bisect_left(BUCKETS_SECONDS, seconds)}", 1)
        pipeline.hincrbyfloat(_KEY, f"{task}|seconds", seconds)
        pipeline.hincrby(_KEY, f"{task}|failures", int(failed))
        _execute(pipeline)


def count_learned_votes(client: redis.Redis, votes: int) -> None:
    """Count votes, changed votes and retractions that went into weights."""
    with client.pipeline(transaction=False) as pipeline:
        pipeline.hincrby(_KEY, _LEARNED_VOTES, votes)
        _execute(pipeline)


def read_work(client: redis.Redis) -> WorkDone:
    """The counts so far.

    Raises:
        redis.RedisError: Redis does not answer.
    """
    stored = {_text(name): float(value) for name, value in client.hgetall(_KEY).items()}
    buckets: dict[str, list[int]] = defaultdict(lambda: [0] * (len(BUCKETS_SECONDS) + 1))
    tasks: dict[str, TaskCounts] = defaultdict(TaskCounts)
    learned_votes = int(stored.pop(_LEARNED_VOTES, 0))
    for name, value in stored.items():
        task, kind, *rest = name.split("|")
        if kind == "bucket":
            buckets[task][int(rest[0])] = int(value)
        elif kind == "seconds":
            tasks[task].seconds = value
        else:
            tasks[task].failures = int(value)
    for task, counts in tasks.items():
        counts.cumulative = list(accumulate(buckets[task]))
    return WorkDone(tasks, learned_votes)


def _text(name: bytes | str) -> str:
    return name.decode() if isinstance(name, bytes) else name


def _execute(pipeline: redis.client.Pipeline) -> None:
    try:
        pipeline.execute()
    except redis.RedisError as error:
        logger.debug("a task was not counted: %s", error)
