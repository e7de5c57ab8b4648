"""Metrics of the whole installation, read from PostgreSQL and Redis when Prometheus asks.

Every API process answers the same: sum the others over processes, but take the maximum of these.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime

import redis
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from sqlalchemy.exc import SQLAlchemyError

from learner.store.database import Database
from learner.store.gauges import backlog, newest_regrets
from learner.task_metrics import BUCKETS_SECONDS, read_work

logger = logging.getLogger(__name__)

_KEEP_SECONDS = 5.0
_TENANTS_SHOWN = 200


class InstallationMetrics(Collector):
    """Asks at most every few seconds, however many scrape; says which store does not answer."""

    def __init__(self, database: Database, client: redis.Redis) -> None:
        self._database = database
        self._redis = client
        self._lock = threading.Lock()
        self._read_at: float | None = None
        self._metrics: list[Metric] = []

    def describe(self) -> list[Metric]:
        """Nothing: registering must not ask the stores."""
        return []

    def collect(self) -> list[Metric]:
        """The metrics, a few seconds old at most."""
        with self._lock:
            now = time.monotonic()
            if self._read_at is None or now - self._read_at > _KEEP_SECONDS:
                self._metrics = [*self._read()]
                self._read_at = now
            return self._metrics

    def _read(self) -> Iterator[Metric]:
        up = GaugeMetricFamily("cage_store_up", "Whether a store answers.", labels=["store"])
        for store, read in (("postgresql", self._of_postgresql), ("redis", self._of_redis)):
            try:
                yield from [*read()]
                up.add_metric([store], 1)
            except (SQLAlchemyError, redis.RedisError) as error:
                logger.warning("no metrics from %s: %s", store, error)
                up.add_metric([store], 0)
        yield up

    def _of_postgresql(self) -> Iterator[Metric]:
        with self._database.session() as session:
            waiting = backlog(session, datetime.now(UTC))
            regrets = newest_regrets(session, _TENANTS_SHOWN)
        lag = "How long the oldest vote that is not learned has waited; scopes that fail left out."
        yield GaugeMetricFamily("cage_learning_lag_seconds", lag, waiting.lag_seconds)
        yield GaugeMetricFamily("cage_unlearned_votes", "Votes that wait to be learned.", waiting.unlearned_votes)
        yield GaugeMetricFamily("cage_failing_scopes", "Scopes that do not learn.", waiting.failing_scopes)
        votes = GaugeMetricFamily("cage_regret_votes", "Votes that a tenant's regret is over.", labels=["tenant"])
        regret = GaugeMetricFamily("cage_regret_nats", "Measured regret of a tenant's weights.", labels=["tenant"])
        bound = GaugeMetricFamily("cage_regret_bound_nats", "What the learner guarantees.", labels=["tenant"])
        for each in regrets:
            votes.add_metric([each.tenant_id], each.feedback_count)
            regret.add_metric([each.tenant_id], each.regret)
            bound.add_metric([each.tenant_id], each.bound)
        yield from (votes, regret, bound)

    def _of_redis(self) -> Iterator[Metric]:
        work = read_work(self._redis)
        seconds = HistogramMetricFamily("cage_task_seconds", "Time of a worker's task.", labels=["task"])
        failures = CounterMetricFamily("cage_task_failures", "Tasks that ended in an error.", labels=["task"])
        for task, counts in sorted(work.tasks.items()):
            limits = [*map(str, BUCKETS_SECONDS), "+Inf"]
            seconds.add_metric([task], [*zip(limits, counts.cumulative, strict=True)], counts.seconds)
            failures.add_metric([task], counts.failures)
        yield from (seconds, failures)
        learned = "Votes, changes and retractions that went into weights."
        yield CounterMetricFamily("cage_learned_votes", learned, work.learned_votes)
