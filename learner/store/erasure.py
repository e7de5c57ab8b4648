"""What is read, locked and deleted when a user or a tenant is erased; `learner.erasing` knows the order.

Rows go in batches, so that no statement of a large erasure runs into its time limit.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, cast

from sqlalchemy import ColumnElement, CursorResult, delete, exists, func, literal_column, or_, select, update
from sqlalchemy.orm import Session

from learner.scope import WHOLE_TENANT, Scope
from learner.store.models import (
    AnonymousEvidence,
    Base,
    Feedback,
    Generation,
    IdempotentRequest,
    IncentivePoint,
    LearnerState,
    LearningFailure,
    ParameterVersion,
    RegretPoint,
    Tenant,
    TenantShare,
    Transcript,
)

ROWS_PER_STATEMENT = 5000

# Children before parents, so that each row is counted where it is deleted.
_OF_SCOPE: tuple[type[Base], ...] = (
    RegretPoint,
    IncentivePoint,
    ParameterVersion,
    LearnerState,
    TenantShare,
    LearningFailure,
)
_OF_TENANT: tuple[type[Base], ...] = (Transcript, Feedback, Generation, IdempotentRequest)


def hold_off_erasure(session: Session, scope: Scope) -> None:
    """Wait for a user's erasure under way; until the transaction ends none begins. There may be no row to lock."""
    session.execute(select(func.pg_advisory_xact_lock_shared(_lock_key(scope))))


def hold_off_answers(session: Session, scope: Scope) -> None:
    """Wait for a user's answers that are being logged; until the transaction ends none is."""
    session.execute(select(func.pg_advisory_xact_lock(_lock_key(scope))))


def _lock_key(scope: Scope) -> ColumnElement[int]:
    return func.hashtextextended(f"{scope.tenant_id}/{scope.user_key}", 0)


def locked_answers(session: Session, scope: Scope) -> list[str]:
    """Ids of a user's answers, locked: no vote on them begins before the transaction ends."""
    own = Generation.tenant_id == scope.tenant_id, Generation.user_id == scope.user_id
    return list(session.scalars(select(Generation.id).where(*own).order_by(Generation.id).with_for_update()))


def others_who_voted(session: Session, scope: Scope, answer_ids: Sequence[str]) -> list[Scope]:
    """Scopes besides this one with votes on these answers, in order."""
    keys: set[str] = set()
    for ids in _batches(answer_ids):
        keys |= set(
            session.scalars(
                select(Feedback.user_id)
                .where(Feedback.generation_id.in_(ids), Feedback.user_id != scope.user_key)
                .distinct()
            )
        )
    return [Scope.of_key(scope.tenant_id, key) for key in sorted(keys)]


def take_back_votes(session: Session, scope: Scope, answer_ids: Sequence[str], now: datetime) -> None:
    """Retract everybody else's votes on these answers, so that a fold takes their effect away."""
    for ids in _batches(answer_ids):
        session.execute(
            update(Feedback)
            .where(Feedback.generation_id.in_(ids), Feedback.user_id != scope.user_key, Feedback.value.is_not(None))
            .values(value=None, updated_at=now)
            .execution_options(synchronize_session=False)
        )


def has_votes_elsewhere(session: Session, scope: Scope, erased: Scope) -> bool:
    """Whether a scope voted on any answer but those of the user who is being erased."""
    return bool(
        session.scalar(
            select(
                exists().where(
                    Feedback.tenant_id == scope.tenant_id,
                    Feedback.user_id == scope.user_key,
                    ~_on_answer_of(erased),
                )
            )
        )
    )


def has_other_sources(session: Session, erased: Scope) -> bool:
    """Whether a tenant would have learned anything without this user."""
    others = exists().where(
        LearnerState.tenant_id == erased.tenant_id, LearnerState.user_id.not_in([WHOLE_TENANT, erased.user_key])
    )
    anonymous = exists().where(
        Feedback.tenant_id == erased.tenant_id,
        Feedback.user_id == WHOLE_TENANT,
        Feedback.learned_at.is_not(None),
        ~_on_answer_of(erased),
    )
    return bool(session.scalar(select(or_(others, anonymous))))


def delete_learned(session: Session, scope: Scope) -> Counter[str]:
    """Delete everything that was learned of a scope; returns how many rows of which table."""
    deleted = Counter[str]()
    for table in _OF_SCOPE:
        deleted += _delete(session, table, table.tenant_id == scope.tenant_id, table.user_id == scope.user_key)  # type: ignore[attr-defined]
    if scope.user_id is None:
        deleted += _delete(session, AnonymousEvidence, AnonymousEvidence.tenant_id == scope.tenant_id)
    return deleted


def delete_answers(session: Session, answer_ids: Sequence[str]) -> Counter[str]:
    """Delete answers with their words and everybody's votes on them."""
    deleted = Counter[str]()
    for ids in _batches(answer_ids):
        deleted += _delete(session, Transcript, Transcript.generation_id.in_(ids))
        deleted += _delete(session, Feedback, Feedback.generation_id.in_(ids))
        deleted += _delete(session, Generation, Generation.id.in_(ids))
    return deleted


def delete_votes_elsewhere(session: Session, scope: Scope) -> Counter[str]:
    """Delete a user's votes on answers that were not made for it."""
    own = Feedback.tenant_id == scope.tenant_id, Feedback.user_id == scope.user_key
    return _delete(session, Feedback, *own, ~_on_answer_of(scope))


def delete_requests(session: Session, scope: Scope) -> Counter[str]:
    """Delete the answered requests that were kept for repetition."""
    return _delete(
        session,
        IdempotentRequest,
        IdempotentRequest.tenant_id == scope.tenant_id,
        IdempotentRequest.user_id == scope.user_id,
    )


def strip_past(session: Session, scope: Scope) -> None:
    """Drop the sums that superseded versions were solved from: their differences would give single votes away."""
    newest = (
        select(func.max(ParameterVersion.version))
        .where(ParameterVersion.tenant_id == scope.tenant_id, ParameterVersion.user_id == scope.user_key)
        .scalar_subquery()
    )
    session.execute(
        update(ParameterVersion)
        .where(
            ParameterVersion.tenant_id == scope.tenant_id,
            ParameterVersion.user_id == scope.user_key,
            ParameterVersion.version < newest,
            ParameterVersion.posterior.is_not(None),
        )
        .values(posterior=None)
        .execution_options(synchronize_session=False)
    )


def lock_states(session: Session, tenant_id: str) -> None:
    """Wait for every learner of a tenant, and keep them waiting until the transaction ends."""
    own = select(LearnerState.user_id).where(LearnerState.tenant_id == tenant_id)
    session.execute(own.order_by(LearnerState.user_id).with_for_update()).all()


def delete_tenant(session: Session, tenant_id: str) -> Counter[str]:
    """Delete a tenant and everything of it but its audit entries."""
    deleted = Counter[str]()
    for table in (*_OF_TENANT, *_OF_SCOPE):
        deleted += _delete(session, table, table.tenant_id == tenant_id)  # type: ignore[attr-defined]
    deleted += _delete(session, AnonymousEvidence, AnonymousEvidence.tenant_id == tenant_id)
    return deleted + _delete(session, Tenant, Tenant.id == tenant_id)


def _on_answer_of(scope: Scope) -> ColumnElement[bool]:
    return exists().where(Generation.id == Feedback.generation_id, Generation.user_id == scope.user_id)


def _delete(session: Session, table: type[Base], *conditions: ColumnElement[bool]) -> Counter[str]:
    """Delete rows, batch by batch until none is left; returns how many."""
    # A row's place: the one handle that every table has. A row that moves meanwhile is met in the next round.
    place: ColumnElement[Any] = literal_column(f"{table.__tablename__}.ctid")
    batch = select(place).select_from(table).where(*conditions).limit(ROWS_PER_STATEMENT).correlate(None)
    statement = delete(table).where(place == func.any(func.array(batch.scalar_subquery())))
    total = 0
    while True:
        result = session.execute(statement.execution_options(synchronize_session=False))
        deleted = cast(CursorResult[Any], result).rowcount
        if not deleted:
            return Counter({table.__tablename__: total})
        total += deleted


def _batches(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(ids), ROWS_PER_STATEMENT):
        yield ids[start : start + ROWS_PER_STATEMENT]
