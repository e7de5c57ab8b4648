"""Learning that may fail: a scope in trouble is set aside for a while, on record, and then tried again."""

import logging
from datetime import datetime

from sqlalchemy.exc import IntegrityError

from learner.learning import LearnOutcome, learn
from learner.scope import Scope
from learner.settings import LearnerSettings
from learner.store.database import Database
from learner.store.failures import find_failure, forget_failure, record_failure
from learner.store.learning import has_news

logger = logging.getLogger(__name__)


def try_to_learn(database: Database, scope: Scope, settings: LearnerSettings, now: datetime) -> LearnOutcome | None:
    """Learn a scope unless it is waiting for its next attempt; an error is put on record, not raised.

    Raises:
        sqlalchemy.exc.SQLAlchemyError: the failure itself could not be put on record; PostgreSQL is away.
    """
    with database.session(scope.tenant_id) as session:
        failure = find_failure(session, scope)
    if failure is not None and failure.next_attempt_at > now:
        return None
    try:
        outcome = learn(database, scope, settings, now)
    except Exception as error:
        logger.exception("learning a scope of tenant %s failed; it is tried again later", scope.tenant_id)
        _put_on_record(database, scope, error, settings, now)
        return None
    if failure is not None:
        with database.session(scope.tenant_id) as session:
            forget_failure(session, scope)
    return outcome


def _put_on_record(
    database: Database, scope: Scope, error: Exception, settings: LearnerSettings, now: datetime
) -> None:
    try:
        with database.session(scope.tenant_id) as session:
            # A scope that was erased meanwhile has nothing to learn, and must not be named again.
            if has_news(session, scope):
                record_failure(session, scope, error, settings, now)
    except IntegrityError:
        logger.warning("tenant %s is gone, and the failure of a scope with it", scope.tenant_id)
