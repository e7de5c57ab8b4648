"""Scopes that fail to learn: on record, and left alone until their next attempt is due."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import delete, func, select
from sqlalchemy.dialects import postgresql
from sqlalchemy.orm import Session

from learner.scope import Scope
from learner.settings import LearnerSettings
from learner.store.models import LearningFailure

LONGEST_MESSAGE = 500
LARGEST_EXPONENT = 30


def record_failure(session: Session, scope: Scope, error: Exception, settings: LearnerSettings, now: datetime) -> None:
    """Count a failed attempt; the pause until the next one doubles each time."""
    before = session.get(LearningFailure, (scope.tenant_id, scope.user_key), with_for_update=True)
    attempts = 1 if before is None else before.attempts + 1
    doubled = settings.retry_first_seconds * 2.0 ** min(attempts - 1, LARGEST_EXPONENT)
    values = {
        "attempts": attempts,
        "error": f"{type(error).__name__}: {error}"[:LONGEST_MESSAGE],
        "failed_at": now,
        "next_attempt_at": now + timedelta(seconds=min(doubled, settings.retry_longest_seconds)),
    }
    session.execute(
        postgresql.insert(LearningFailure)
        .values(tenant_id=scope.tenant_id, user_id=scope.user_key, **values)
        .on_conflict_do_update(index_elements=[LearningFailure.tenant_id, LearningFailure.user_id], set_=values)
    )


def forget_failure(session: Session, scope: Scope) -> None:
    """The scope learns again."""
    session.execute(
        delete(LearningFailure).where(
            LearningFailure.tenant_id == scope.tenant_id, LearningFailure.user_id == scope.user_key
        )
    )


def find_failure(session: Session, scope: Scope) -> LearningFailure | None:
    """What is on record of a failing scope; None of one that learns."""
    return session.get(LearningFailure, (scope.tenant_id, scope.user_key))


def failing_scopes(session: Session, limit: int) -> Sequence[LearningFailure]:
    """Scopes that fail, the most persistent first."""
    most_persistent = LearningFailure.attempts.desc(), LearningFailure.failed_at
    return session.scalars(select(LearningFailure).order_by(*most_persistent).limit(limit)).all()


def failing_count(session: Session) -> int:
    """How many scopes fail."""
    return session.scalar(select(func.count()).select_from(LearningFailure)) or 0
