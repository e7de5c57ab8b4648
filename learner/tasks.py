"""What workers run. Messages carry ids; all logic is in `learning` and `measuring`."""

import logging
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache

import redis
from kombu.exceptions import OperationalError

from learner import learning, measuring
from learner.celery_app import app
from learner.publishing import publish
from learner.redis_connection import connect
from learner.scope import Scope
from learner.settings import LearnerSettings
from learner.store.database import Database
from learner.store.learning import scopes_with_news

logger = logging.getLogger(__name__)

SCOPES_PER_SWEEP = 1000


@dataclass(frozen=True)
class _Worker:
    settings: LearnerSettings
    database: Database
    redis: redis.Redis


@cache
def _worker() -> _Worker:
    """This process's connections, made by its first task and so never shared across a fork."""
    settings = LearnerSettings.from_environment()
    return _Worker(
        settings, Database(settings.database_url, pool_size=settings.database_pool_size), connect(settings.redis_url)
    )


@app.task(name="learner.tasks.learn")  # type: ignore[untyped-decorator]
def learn(tenant_id: str, user_id: str | None) -> None:
    """Learn what waits for a scope, publish it, and measure the regret."""
    worker, scope = _worker(), Scope(tenant_id, user_id)
    outcome = learning.learn(worker.database, scope, worker.settings, datetime.now(UTC))
    if outcome is None:
        return
    try:
        publish(worker.redis, outcome.parameters)
    except redis.RedisError as error:
        logger.warning("a new version is stored but was not announced, decoders will look it up: %s", error)
    measuring.measure_regret(worker.database, scope, worker.settings, datetime.now(UTC))


@app.task(name="learner.tasks.sweep")  # type: ignore[untyped-decorator]
def sweep() -> None:
    """Send for scopes that have something to learn although their message should have come by now."""
    worker = _worker()
    grace = timedelta(seconds=worker.settings.sweep_interval_seconds)
    with worker.database.session() as session:
        scopes = scopes_with_news(session, datetime.now(UTC) - grace, SCOPES_PER_SWEEP)
    for scope in scopes:
        learn.apply_async((scope.tenant_id, scope.user_id), expires=grace.total_seconds())


def enqueue_learning(scope: Scope) -> bool:
    """Send for a worker to learn a scope; False, soon and without an exception, when the broker is away.

    Nothing is lost then: the sweep finds the unlearned votes.
    """
    try:
        learn.apply_async((scope.tenant_id, scope.user_id))
    except (OperationalError, redis.RedisError, OSError) as error:
        logger.warning("the broker does not answer, votes wait for the sweep: %s", error)
        return False
    return True
