"""The users of a tenant: everyone with an answer or a vote."""

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import func, select, union
from sqlalchemy.orm import InstrumentedAttribute, Session

from learner.errors import UnknownUser
from learner.scope import WHOLE_TENANT, Scope
from learner.store.models import (
    Base,
    Feedback,
    Generation,
    IdempotentRequest,
    IncentivePoint,
    LearnerState,
    LearningFailure,
    ParameterVersion,
    RegretPoint,
    TenantShare,
    Transcript,
)

ROWS_PER_FETCH = 50
"""In memory at once; words of one answer may be a megabyte."""


@dataclass(frozen=True)
class UserCounts:
    """What is stored of a user.

    Attributes:
        votes: of the user, on anybody's answers; those that count.
        texts: answers whose words or traces are kept.
        parameter_version: 0 before any learning.
        first_seen_at, last_seen_at: of answers and votes.
    """

    user_id: str
    answers: int
    votes: int
    retracted_votes: int
    texts: int
    parameter_version: int
    first_seen_at: datetime
    last_seen_at: datetime


def list_users(session: Session, tenant_id: str, *, after: str | None, limit: int) -> list[UserCounts]:
    """Users in order of their ids; reads no more of the tenant than the page shows."""
    pages = [
        select(column.label("user_id"))
        .where(owner == tenant_id, column > (after or WHOLE_TENANT))
        .distinct()
        .order_by(column)
        .limit(limit)
        for owner, column in (
            (Generation.tenant_id, Generation.user_id),
            (Feedback.tenant_id, Feedback.user_id),
        )
    ]
    both = union(*(page.subquery().select() for page in pages)).subquery()
    ids = session.scalars(select(both.c.user_id).order_by(both.c.user_id).limit(limit)).all()
    return _counts(session, tenant_id, ids)


def user_counts(session: Session, scope: Scope) -> UserCounts:
    """One user.

    Raises:
        UnknownUser: nothing is stored of a user of this id.
    """
    found = _counts(session, scope.tenant_id, [scope.user_key])
    if not found:
        raise UnknownUser("no user of this id has an answer or a vote here")
    return found[0]


def versions(session: Session, scope: Scope, *, before: int | None, limit: int) -> Sequence[ParameterVersion]:
    """The newest parameter versions of a scope, newest first; only those below `before`."""
    conditions = [ParameterVersion.tenant_id == scope.tenant_id, ParameterVersion.user_id == scope.user_key]
    if before is not None:
        conditions.append(ParameterVersion.version < before)
    newest_first = ParameterVersion.version.desc()
    return session.scalars(select(ParameterVersion).where(*conditions).order_by(newest_first).limit(limit)).all()


def votes_of_versions(session: Session, scope: Scope, among: Sequence[int]) -> dict[int, list[str]]:
    """Ids of the votes whose present value came into the evidence with each of these versions."""
    rows = session.execute(
        select(Feedback.learned_version, Feedback.id)
        .where(
            Feedback.tenant_id == scope.tenant_id,
            Feedback.user_id == scope.user_key,
            Feedback.learned_version.in_(among),
        )
        .order_by(Feedback.created_at, Feedback.id)
    )
    found: dict[int, list[str]] = {version: [] for version in among}
    for version, feedback_id in rows:
        if version is not None:
            found[version].append(feedback_id)
    return found


def everything_of(session: Session, scope: Scope) -> Iterator[tuple[str, Generator[dict[str, Any]]]]:
    """Every row about a user: (what it is, the rows oldest first), one kind after the other."""
    own_words = select(Transcript).join(Generation, Generation.id == Transcript.generation_id)
    yield "answers", _rows(session, scope, Generation, Generation.created_at)
    yield (
        "texts",
        _as_dicts(
            session,
            own_words.where(Generation.tenant_id == scope.tenant_id, Generation.user_id == scope.user_id).order_by(
                Transcript.created_at
            ),
        ),
    )
    yield "votes", _rows(session, scope, Feedback, Feedback.created_at)
    yield "parameters", _rows(session, scope, ParameterVersion, ParameterVersion.version)
    yield "regret", _rows(session, scope, RegretPoint, RegretPoint.version)
    yield "incentives", _rows(session, scope, IncentivePoint, IncentivePoint.version)
    yield "state", _rows(session, scope, LearnerState, LearnerState.version)
    yield "share_of_tenant", _rows(session, scope, TenantShare, TenantShare.feedback_count)
    yield "failures", _rows(session, scope, LearningFailure, LearningFailure.failed_at)
    yield "requests_kept_for_repetition", _rows(session, scope, IdempotentRequest, IdempotentRequest.created_at)


def _rows(
    session: Session, scope: Scope, table: Any, oldest_first: InstrumentedAttribute[Any]
) -> Generator[dict[str, Any]]:
    own = select(table).where(table.tenant_id == scope.tenant_id, table.user_id == scope.user_key)
    return _as_dicts(session, own.order_by(oldest_first))


def _as_dicts(session: Session, statement: Any) -> Generator[dict[str, Any]]:
    with closing(session.scalars(statement.execution_options(yield_per=ROWS_PER_FETCH))) as rows:
        for row in rows:
            yield columns_of(row)
            session.expunge(row)


def columns_of(row: Base) -> dict[str, Any]:
    """A row as its columns say it, without the tenant's id."""
    return {column.name: getattr(row, column.name) for column in row.__table__.columns if column.name != "tenant_id"}


def _counts(session: Session, tenant_id: str, ids: Sequence[str]) -> list[UserCounts]:
    """Counts of those of these users of whom there is anything, in order."""
    answered = {
        row.user_id: row
        for row in session.execute(
            select(
                Generation.user_id,
                func.count().label("answers"),
                func.count(Transcript.generation_id).label("texts"),
                func.min(Generation.created_at).label("first"),
                func.max(Generation.created_at).label("last"),
            )
            .join(Transcript, Transcript.generation_id == Generation.id, isouter=True)
            .where(Generation.tenant_id == tenant_id, Generation.user_id.in_(ids))
            .group_by(Generation.user_id)
        )
    }
    voted = {
        row.user_id: row
        for row in session.execute(
            select(
                Feedback.user_id,
                func.count(Feedback.counted_value).label("votes"),
                func.count().filter(Feedback.value.is_(None)).label("retracted"),
                func.min(Feedback.created_at).label("first"),
                func.max(Feedback.updated_at).label("last"),
            )
            .where(Feedback.tenant_id == tenant_id, Feedback.user_id.in_(ids))
            .group_by(Feedback.user_id)
        )
    }
    learned = {
        row.user_id: row.version
        for row in session.execute(
            select(LearnerState.user_id, LearnerState.version).where(
                LearnerState.tenant_id == tenant_id, LearnerState.user_id.in_(ids)
            )
        )
    }
    return [
        _user(user_id, answered.get(user_id), voted.get(user_id), learned.get(user_id, 0))
        for user_id in ids
        if user_id in answered or user_id in voted
    ]


def _user(user_id: str, answered: Any, voted: Any, version: int) -> UserCounts:
    seen = [row for row in (answered, voted) if row is not None]
    return UserCounts(
        user_id=user_id,
        answers=answered.answers if answered is not None else 0,
        votes=voted.votes if voted is not None else 0,
        retracted_votes=voted.retracted if voted is not None else 0,
        texts=answered.texts if answered is not None else 0,
        parameter_version=version,
        first_seen_at=min(row.first for row in seen),
        last_seen_at=max(row.last for row in seen),
    )
