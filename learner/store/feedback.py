"""Votes: one per answer and user, replaceable, retractable."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import exists, select, update
from sqlalchemy.dialects import postgresql
from sqlalchemy.orm import Session

from learner.errors import InvalidVote, UnknownFeedback, UnknownGeneration
from learner.scope import Scope
from learner.store.generations import kept_generation
from learner.store.identifiers import new_id
from learner.store.models import Feedback, Generation


@dataclass(frozen=True)
class VoteReceipt:
    """A recorded vote; `duplicate` when the same vote was already there."""

    feedback_id: str
    duplicate: bool
    scope: Scope


def record_vote(
    session: Session,
    *,
    tenant_id: str,
    generation_id: str,
    user_id: str | None,
    value: int,
    comment: str | None,
    tags: Sequence[str],
    now: datetime,
) -> VoteReceipt:
    """Record a user's vote on an answer; without `user_id` it is the vote of the answer's own user.

    Another vote of the same user on the same answer replaces the first and keeps its id. The same vote
    again changes nothing but a comment or tags that came with it. A default vote gives way to a real one.

    Raises:
        InvalidVote: value is neither +1 nor -1.
        UnknownGeneration: no such answer, or another tenant's.
    """
    if value not in (-1, 1):
        raise InvalidVote(f"a vote is +1 or -1, not {value!r}")
    generation = kept_generation(session, tenant_id, generation_id)
    if generation is None:
        raise UnknownGeneration(f"no generation has the id {generation_id!r}")
    scope = Scope(tenant_id, user_id if user_id is not None else generation.user_id)

    # Most votes are first votes.
    feedback_id = _insert(session, scope, generation_id, value, comment, tags, now)
    if feedback_id is not None:
        return VoteReceipt(feedback_id, duplicate=False, scope=scope)
    before = _vote_of(session, generation_id, scope)
    if before is None:
        raise UnknownGeneration(f"generation {generation_id!r} is being erased")
    duplicate = before.value == value and before.expired_at is None and not before.implied
    if comment is not None:
        before.comment = comment
    if tags:
        before.tags = list(tags)
    if not duplicate:
        before.value, before.expired_at, before.implied, before.updated_at = value, None, False, now
    session.flush()
    return VoteReceipt(before.id, duplicate=duplicate, scope=scope)


def _vote_of(session: Session, generation_id: str, scope: Scope) -> Feedback | None:
    """The vote of a user on an answer, locked against a concurrent one."""
    return session.scalar(
        select(Feedback)
        .where(Feedback.generation_id == generation_id, Feedback.user_id == scope.user_key)
        .with_for_update()
    )


def _insert(
    session: Session,
    scope: Scope,
    generation_id: str,
    value: int,
    comment: str | None,
    tags: Sequence[str],
    now: datetime,
) -> str | None:
    """Insert a first vote; None when there is one already."""
    return session.scalar(
        postgresql.insert(Feedback)
        .values(
            id=new_id("fb"),
            tenant_id=scope.tenant_id,
            generation_id=generation_id,
            user_id=scope.user_key,
            value=value,
            comment=comment,
            tags=list(tags),
            created_at=now,
            updated_at=now,
        )
        .on_conflict_do_nothing(index_elements=[Feedback.generation_id, Feedback.user_id])
        .returning(Feedback.id)
    )


def add_default_votes(
    session: Session, value: int, made_after: datetime, made_before: datetime, limit: int, now: datetime
) -> int:
    """Record a vote of the answer's own user on answers of that time that have none; returns how many it were."""
    answers = session.execute(
        select(Generation.id, Generation.tenant_id, Generation.user_id)
        .where(Generation.created_at > made_after, Generation.created_at <= made_before)
        .where(~exists().where(Feedback.generation_id == Generation.id))
        .order_by(Generation.created_at)
        .limit(limit)
        .with_for_update(read=True, key_share=True, of=Generation, skip_locked=True)
    ).all()
    if not answers:
        return 0
    rows = [
        {
            "id": new_id("fb"),
            "tenant_id": answer.tenant_id,
            "generation_id": answer.id,
            "user_id": Scope(answer.tenant_id, answer.user_id).user_key,
            "value": value,
            "tags": [],
            "implied": True,
            "created_at": now,
            "updated_at": now,
        }
        for answer in answers
    ]
    session.execute(postgresql.insert(Feedback).on_conflict_do_nothing(), rows)
    return len(rows)


def get_feedback(session: Session, tenant_id: str, feedback_id: str) -> Feedback:
    """One vote of a tenant's users.

    Raises:
        UnknownFeedback: no such vote, or another tenant's.
    """
    found = session.scalar(select(Feedback).where(Feedback.id == feedback_id, Feedback.tenant_id == tenant_id))
    if found is None:
        raise UnknownFeedback(f"no feedback has the id {feedback_id!r}")
    return found


def votes_on(session: Session, generation_id: str) -> Sequence[Feedback]:
    """All votes on an answer, oldest first."""
    oldest_first = Feedback.created_at, Feedback.id
    return session.scalars(
        select(Feedback).where(Feedback.generation_id == generation_id).order_by(*oldest_first)
    ).all()


def retract_vote(session: Session, tenant_id: str, feedback_id: str, now: datetime) -> VoteReceipt:
    """Take a vote back, and with the next fold its effect; taking it back twice changes nothing.

    Raises:
        UnknownFeedback: no such vote, or another tenant's.
    """
    retracted = session.scalar(
        update(Feedback)
        .where(Feedback.id == feedback_id, Feedback.tenant_id == tenant_id, Feedback.value.is_not(None))
        .values(value=None, updated_at=now)
        .returning(Feedback.user_id)
    )
    if retracted is not None:
        return VoteReceipt(feedback_id, duplicate=False, scope=Scope.of_key(tenant_id, retracted))
    before = get_feedback(session, tenant_id, feedback_id)
    return VoteReceipt(feedback_id, duplicate=True, scope=Scope.of_key(tenant_id, before.user_id))


def expire_votes(session: Session, scope: Scope, now: datetime, *, keep_newest: int = 0) -> int:
    """Let the votes of a scope count for nothing, but for the newest ones; returns how many lapsed.

    The votes stay on record; the next fold takes their effect away. With nothing kept this is a reset.
    """
    oldest_first = (
        select(Feedback.id)
        .where(
            Feedback.tenant_id == scope.tenant_id,
            Feedback.user_id == scope.user_key,
            Feedback.value.is_not(None),
            Feedback.expired_at.is_(None),
        )
        .order_by(Feedback.created_at.desc(), Feedback.id.desc())
        .offset(keep_newest)
    )
    lapsed = session.scalars(
        update(Feedback)
        .where(Feedback.id.in_(oldest_first.scalar_subquery()))
        .values(expired_at=now, updated_at=now)
        .returning(Feedback.id)
    )
    return len(lapsed.all())
