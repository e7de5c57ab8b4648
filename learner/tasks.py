"""What workers run. Messages carry ids; all logic is in the modules they call."""

import logging
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache

import redis
from kombu.exceptions import OperationalError

from learner import keeping, measuring
from learner.allocating import allocate_incentives
from learner.attempts import try_to_learn
from learner.celery_app import INCENTIVE_QUEUE, app, queue_of
from learner.parameters import Parameters
from learner.publishing import publish
from learner.redis_connection import connect
from learner.scope import Scope
from learner.settings import LearnerSettings
from learner.store.database import Database
from learner.store.learning import scopes_with_news
from learner.task_metrics import count_learned_votes

logger = logging.getLogger(__name__)

SCOPES_PER_SWEEP = 1000
INCENTIVES_EXPIRE_SECONDS = 60.0


@dataclass(frozen=True)
class _Worker:
    settings: LearnerSettings
    database: Database
    redis: redis.Redis


@cache
def _settings() -> LearnerSettings:
    """This process's settings, read once."""
    return LearnerSettings.from_environment()


@cache
def _worker() -> _Worker:
    """This process's connections, made by its first task and so never shared across a fork."""
    settings = _settings()
    return _Worker(
        settings, Database(settings.database_url, pool_size=settings.database_pool_size), connect(settings.redis_url)
    )


@app.task(name="learner.tasks.learn")  # type: ignore[untyped-decorator]
def learn(tenant_id: str, user_id: str | None) -> None:
    """Learn what waits for a scope, publish it, send for its incentives, and measure the regret."""
    worker, scope = _worker(), Scope(tenant_id, user_id)
    outcome = try_to_learn(worker.database, scope, worker.settings, datetime.now(UTC))
    if outcome is None:
        return
    _announce(worker, outcome.parameters)
    count_learned_votes(worker.redis, outcome.folded_votes)
    if worker.settings.incentive_contexts:
        _send_for_incentives(scope)
    measuring.measure_regret(worker.database, scope, worker.settings, datetime.now(UTC))


@app.task(name="learner.tasks.allocate")  # type: ignore[untyped-decorator]
def allocate(tenant_id: str, user_id: str | None) -> None:
    """Work out the incentives under a scope's newest weights, and publish them as a revision of that version."""
    worker = _worker()
    revised = allocate_incentives(worker.database, Scope(tenant_id, user_id), worker.settings, datetime.now(UTC))
    if revised is not None:
        _announce(worker, revised)


@app.task(name="learner.tasks.sweep")  # type: ignore[untyped-decorator]
def sweep() -> None:
    """Send for scopes that have something to learn although their message should have come by now."""
    worker = _worker()
    grace = timedelta(seconds=worker.settings.sweep_interval_seconds)
    with worker.database.session() as session:
        now = datetime.now(UTC)
        scopes = scopes_with_news(session, now - grace, now, SCOPES_PER_SWEEP)
    for scope in scopes:
        _send(scope, worker.settings, expires=grace.total_seconds())


@app.task(name="learner.tasks.tidy")  # type: ignore[untyped-decorator]
def tidy() -> None:
    """Cast the configured vote for answers that nobody voted on; drop contexts and words past their time."""
    worker = _worker()
    keeping.cast_default_votes(worker.database, worker.settings, datetime.now(UTC))
    keeping.drop_old_contexts(worker.database, worker.settings, datetime.now(UTC))
    keeping.drop_old_transcripts(worker.database, datetime.now(UTC))
    keeping.drop_old_requests(worker.database, datetime.now(UTC))


def _announce(worker: _Worker, parameters: Parameters) -> None:
    try:
        publish(worker.redis, parameters)
    except redis.RedisError as error:
        logger.warning("a new version is stored but was not announced, decoders will look it up: %s", error)


def _send_for_incentives(scope: Scope) -> None:
    """A lost message costs little: the version keeps the reserves of the one before."""
    try:
        allocate.apply_async((scope.tenant_id, scope.user_id), queue=INCENTIVE_QUEUE, expires=INCENTIVES_EXPIRE_SECONDS)
    except (OperationalError, redis.RedisError, OSError) as error:
        logger.warning("the broker does not answer, incentives wait for the next version: %s", error)


def _send(scope: Scope, settings: LearnerSettings, expires: float | None = None) -> None:
    queue = queue_of(scope, settings.learning_queues)
    learn.apply_async((scope.tenant_id, scope.user_id), queue=queue, expires=expires)


def enqueue_learning(scope: Scope) -> bool:
    """Send for a worker to learn a scope; False, soon and without an exception, when the broker is away.

    Nothing is lost then: the sweep finds the unlearned votes.
    """
    try:
        _send(scope, _settings())
    except (OperationalError, redis.RedisError, OSError) as error:
        logger.warning("the broker does not answer, votes wait for the sweep: %s", error)
        return False
    return True
