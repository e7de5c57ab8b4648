"""What the learner reads and writes in its transactions: states, and the votes that wait to be learned."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ARRAY,
    ColumnElement,
    Select,
    SmallInteger,
    SQLColumnExpression,
    Text,
    and_,
    cast,
    exists,
    func,
    literal_column,
    or_,
    select,
    update,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.orm import Session

from learner.evidence import Evidence
from learner.observations import Observation
from learner.scope import Scope
from learner.store.evidence import evidence_columns, set_evidence
from learner.store.models import UNLEARNED, Feedback, Generation, LearnerState, LearningFailure

# A literal, not a parameter: a prepared statement with a parameter could not use the partial index.
UNSHARED = and_(LearnerState.user_id != literal_column("''"), LearnerState.shared_version != LearnerState.version)

ROWS_PER_FETCH = 1000


@dataclass(frozen=True)
class UnlearnedVote:
    """A vote whose effect is not what it should be.

    Attributes:
        learned: what the evidence holds of it; None when nothing.
        counted: what the evidence should hold of it; None when nothing.
    """

    feedback_id: str
    learned: Observation | None
    counted: Observation | None
    changed_at: datetime


def has_news(session: Session, scope: Scope) -> bool:
    """Whether learning this scope would find anything to do."""
    news: ColumnElement[bool] = exists().where(
        Feedback.tenant_id == scope.tenant_id, Feedback.user_id == scope.user_key, UNLEARNED
    )
    if scope.user_id is None:
        news = or_(news, exists().where(LearnerState.tenant_id == scope.tenant_id, UNSHARED))
    return bool(session.scalar(select(news)))


def scopes_with_news(session: Session, unchanged_since: datetime, now: datetime, limit: int) -> list[Scope]:
    """Scopes with something to learn that no message seems to be on the way for.

    Those that failed and are not due again are left out, so that they cannot crowd out the others.
    """
    waiting = (
        select(Feedback.tenant_id, Feedback.user_id)
        .where(UNLEARNED, Feedback.updated_at <= unchanged_since)
        .where(~_set_aside(Feedback.tenant_id, Feedback.user_id, now))
        .distinct()
        .limit(limit)
    )
    tenants = (
        select(LearnerState.tenant_id)
        .where(UNSHARED, ~_set_aside(LearnerState.tenant_id, literal_column("''"), now))
        .distinct()
        .limit(limit)
    )
    users = [Scope.of_key(tenant_id, user_key) for tenant_id, user_key in session.execute(waiting)]
    return list(dict.fromkeys([*users, *map(Scope, session.scalars(tenants))]))


def _set_aside(
    tenant_id: SQLColumnExpression[str], user_id: SQLColumnExpression[str], now: datetime
) -> ColumnElement[bool]:
    """Whether a scope failed and waits for its next attempt."""
    return exists().where(
        LearningFailure.tenant_id == tenant_id,
        LearningFailure.user_id == user_id,
        LearningFailure.next_attempt_at > now,
    )


def lock_state(session: Session, scope: Scope, constants: str, now: datetime) -> LearnerState:
    """The state row of a scope, made if there is none, locked until the end of the transaction."""
    state = find_locked_state(session, scope)
    while state is None:
        session.execute(
            postgresql.insert(LearnerState)
            .values(
                tenant_id=scope.tenant_id,
                user_id=scope.user_key,
                constants=constants,
                version=0,
                shared_version=0,
                updated_at=now,
                **evidence_columns(Evidence.none()),
            )
            .on_conflict_do_nothing()
        )
        # None again when the one that was in the way is erased by now.
        state = find_locked_state(session, scope)
    return state


def find_locked_state(session: Session, scope: Scope) -> LearnerState | None:
    """The state row of a scope, locked until the end of the transaction; None if there is none."""
    return session.scalar(_locked(scope))


def _locked(scope: Scope) -> Select[LearnerState]:
    return (
        select(LearnerState)
        .where(LearnerState.tenant_id == scope.tenant_id, LearnerState.user_id == scope.user_key)
        # Not the key: an answer that is being logged (`learner.store.transcripts`) need not wait for a fold.
        .with_for_update(key_share=True)
        .execution_options(populate_existing=True)
    )


def save_state(session: Session, state: LearnerState, evidence: Evidence, now: datetime) -> None:
    """Put new evidence into a locked state row, as its next version."""
    set_evidence(state, evidence)
    state.version += 1
    state.updated_at = now
    session.flush()


def unlearned_votes(session: Session, scope: Scope, limit: int) -> list[UnlearnedVote]:
    """The votes of a scope that wait to be learned, oldest first."""
    rows = session.execute(
        select(
            Feedback.id,
            Feedback.learned_value,
            Feedback.counted_value,
            Feedback.updated_at,
            Generation.principals,
            Generation.features,
            Generation.theta,
        )
        .join(Generation, Generation.id == Feedback.generation_id)
        .where(Feedback.tenant_id == scope.tenant_id, Feedback.user_id == scope.user_key, UNLEARNED)
        .order_by(Feedback.updated_at)
        .limit(limit)
    )
    return [
        UnlearnedVote(
            row.id,
            None if row.learned_value is None else _observation(row, row.learned_value),
            None if row.counted_value is None else _observation(row, row.counted_value),
            row.updated_at,
        )
        for row in rows
    ]


def mark_learned(session: Session, votes: Iterable[UnlearnedVote], version: int, now: datetime) -> None:
    """Record that the evidence of this version holds exactly what was read of these votes.

    A vote that changed since it was read differs from what is marked here and stays unlearned.
    """
    read = [(vote.feedback_id, None if vote.counted is None else vote.counted.value) for vote in votes]
    folded = (
        func.unnest(
            cast([feedback_id for feedback_id, _ in read], ARRAY(Text)),
            cast([value for _, value in read], ARRAY(SmallInteger)),
        )
        .table_valued("id", "value", name="folded")
        .render_derived()
    )
    session.execute(
        update(Feedback)
        .where(Feedback.id == folded.c.id)
        .values(learned_value=folded.c.value, learned_at=now, learned_version=version)
        .execution_options(synchronize_session=False)
    )


def forget_learned(session: Session, scope: Scope) -> None:
    """Let every vote of a scope wait to be learned again."""
    session.execute(
        update(Feedback)
        .where(
            Feedback.tenant_id == scope.tenant_id,
            Feedback.user_id == scope.user_key,
            Feedback.learned_value.is_not(None),
        )
        .values(learned_value=None)
        .execution_options(synchronize_session=False)
    )


def learned_observations(session: Session, scope: Scope, limit: int) -> list[Observation]:
    """The newest votes that count and were learned; for a tenant, those of all its users."""
    rows = session.execute(
        select(Feedback.learned_value, Generation.principals, Generation.features, Generation.theta)
        .join(Generation, Generation.id == Feedback.generation_id)
        .where(
            Feedback.tenant_id == scope.tenant_id,
            *(() if scope.user_id is None else (Feedback.user_id == scope.user_id,)),
            Feedback.learned_value.is_not(None),
        )
        .order_by(Feedback.created_at.desc())
        .limit(limit)
    )
    return [_observation(row, row.learned_value) for row in rows]


def every_learned_observation(session: Session, scope: Scope) -> Iterator[Observation]:
    """All votes of exactly this scope as the evidence holds them."""
    rows = session.execute(
        select(Feedback.learned_value, Generation.principals, Generation.features, Generation.theta)
        .join(Generation, Generation.id == Feedback.generation_id)
        .where(
            Feedback.tenant_id == scope.tenant_id,
            Feedback.user_id == scope.user_key,
            Feedback.learned_value.is_not(None),
        )
        .execution_options(yield_per=ROWS_PER_FETCH)
    )
    for row in rows:
        yield _observation(row, row.learned_value)


def _observation(answer: Any, value: int) -> Observation:
    return Observation(tuple(answer.principals), tuple(answer.features), tuple(answer.theta), value)
