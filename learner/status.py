"""How the learner is doing, at a glance."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import exists, func, select
from sqlalchemy.orm import Session

from learner.scope import Scope
from learner.store.failures import failing_count, failing_scopes
from learner.store.learning import UNSHARED
from learner.store.models import UNLEARNED, Feedback, LearnerState, LearningFailure

FAILURES_SHOWN = 20
FAILING = exists().where(LearningFailure.tenant_id == Feedback.tenant_id, LearningFailure.user_id == Feedback.user_id)


@dataclass(frozen=True)
class FailingScope:
    """A scope that does not learn."""

    scope: Scope
    attempts: int
    error: str
    failed_at: datetime
    next_attempt_at: datetime


@dataclass(frozen=True)
class LearnerStatus:
    """The learner's backlog and what it has done.

    Attributes:
        lag_seconds: how long the oldest unlearned vote of a scope that is not failing has waited; 0 for none.
        versions: parameter versions made so far, over all scopes.
        failing: the most persistent of `failing_count`.
    """

    unlearned_votes: int
    oldest_unlearned_seconds: float
    lag_seconds: float
    scopes: int
    versions: int
    untaken_users: int
    failing_count: int
    failing: tuple[FailingScope, ...]


def learner_status(session: Session, now: datetime) -> LearnerStatus:
    """Read the status; a few queries over indexes and the states."""
    unlearned, oldest = session.execute(select(func.count(), func.min(Feedback.updated_at)).where(UNLEARNED)).one()
    failing = tuple(
        FailingScope(
            Scope.of_key(row.tenant_id, row.user_id), row.attempts, row.error, row.failed_at, row.next_attempt_at
        )
        for row in failing_scopes(session, FAILURES_SHOWN)
    )
    oldest_sound = session.scalar(select(func.min(Feedback.updated_at)).where(UNLEARNED, ~FAILING))
    scopes, versions = session.execute(select(func.count(), func.sum(LearnerState.version))).one()
    untaken = select(func.count()).select_from(LearnerState).where(UNSHARED)
    return LearnerStatus(
        unlearned_votes=unlearned,
        oldest_unlearned_seconds=_age(oldest, now),
        lag_seconds=_age(oldest_sound, now),
        scopes=scopes,
        versions=int(versions or 0),
        untaken_users=session.scalar(untaken) or 0,
        failing_count=failing_count(session),
        failing=failing,
    )


def _age(since: datetime | None, now: datetime) -> float:
    return 0.0 if since is None else max((now - since).total_seconds(), 0.0)
