"""Requests that may be repeated under the same `Idempotency-Key`: who is first, and what came of it.

What is kept of an answer is sealed by the service; nothing here can be read without the caller's API key.
"""

from datetime import datetime, timedelta

from sqlalchemy import and_, delete, or_, select, tuple_, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from learner.store.models import Feedback, IdempotentRequest

KEPT = timedelta(hours=24)
ABANDONED_AFTER = timedelta(minutes=2)
"""A request that is under way for longer is taken for lost with its process; whoever repeats it takes over."""


def claim(
    session: Session, tenant_id: str, key: str, fingerprint: str, now: datetime, user_id: str | None = None
) -> IdempotentRequest | None:
    """Become the one who answers this request; else the row of the one who did, or is about to.

    Args:
        tenant_id: '' for operators who act for no tenant.
        now: names the claim in `finish` and `release`.
        user_id: whose words or votes the answer will hold: who is erased meanwhile takes the claim along.
    """
    mine = {"fingerprint": fingerprint, "created_at": now, "status": None, "body": None, "user_id": user_id}
    row = IdempotentRequest
    lost = and_(row.status.is_(None), row.fingerprint == fingerprint, row.created_at < now - ABANDONED_AFTER)
    claimed = session.execute(
        insert(row)
        .values(tenant_id=tenant_id, key=key, **mine)
        .on_conflict_do_update(
            index_elements=[row.tenant_id, row.key], set_=mine, where=or_(row.created_at < now - KEPT, lost)
        )
        .returning(row.key)
    ).one_or_none()
    if claimed is not None:
        return None
    found = session.scalar(select(row).where(row.tenant_id == tenant_id, row.key == key))
    # Released between the two statements: nobody answers it, so it is for the taking.
    return found if found is not None else claim(session, tenant_id, key, fingerprint, now, user_id)


def finish(
    session: Session, tenant_id: str, key: str, claimed_at: datetime, status: int, sealed: str, user_id: str | None
) -> None:
    """Keep the answer, unless another took the request over in the meantime, or its user was erased.

    Args:
        user_id: whose vote the answer holds, if the claim could not say; it is erased with the user.
    """
    if user_id is not None and not _has_votes(session, tenant_id, user_id):
        release(session, tenant_id, key, claimed_at)
        return
    row = IdempotentRequest
    kept = {"status": status, "body": {"sealed": sealed}}
    session.execute(
        update(row)
        .where(row.tenant_id == tenant_id, row.key == key, row.created_at == claimed_at)
        .values(kept if user_id is None else {**kept, "user_id": user_id})
    )


def release(session: Session, tenant_id: str, key: str, claimed_at: datetime) -> None:
    """Forget a request that came to nothing: a repetition is a first try."""
    row = IdempotentRequest
    session.execute(delete(row).where(row.tenant_id == tenant_id, row.key == key, row.created_at == claimed_at))


def _has_votes(session: Session, tenant_id: str, user_id: str) -> bool:
    """Whether a user has a vote, retracted or not; it is not erased before the transaction ends."""
    own = select(Feedback.id).where(Feedback.tenant_id == tenant_id, Feedback.user_id == user_id)
    return session.scalar(own.limit(1).with_for_update(read=True, key_share=True)) is not None


def drop_expired(session: Session, now: datetime, limit: int) -> int:
    """Delete rows past their time, `limit` at most; how many there were."""
    row = IdempotentRequest
    expired = select(row.tenant_id, row.key).where(row.created_at < now - KEPT).limit(limit)
    dropped = session.execute(delete(row).where(tuple_(row.tenant_id, row.key).in_(expired)).returning(row.key))
    return len(dropped.all())
