"""Requests that may be repeated under the same `Idempotency-Key`: who is first, and what came of it.

What is kept of an answer is sealed by the service; nothing here can be read without the caller's API key.
"""

from datetime import datetime, timedelta

from sqlalchemy import and_, delete, or_, select, tuple_, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from learner.store.models import IdempotentRequest

KEPT = timedelta(hours=24)
ABANDONED_AFTER = timedelta(minutes=2)
"""A request that is under way for longer is taken for lost with its process; whoever repeats it takes over."""


def claim(session: Session, tenant_id: str, key: str, fingerprint: str, now: datetime) -> IdempotentRequest | None:
    """Become the one who answers this request; else the row of the one who did, or is about to.

    Args:
        tenant_id: '' for operators who act for no tenant.
        now: names the claim in `finish` and `release`.
    """
    mine = {"fingerprint": fingerprint, "created_at": now, "status": None, "body": None, "user_id": None}
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
    return found if found is not None else claim(session, tenant_id, key, fingerprint, now)


def finish(
    session: Session, tenant_id: str, key: str, claimed_at: datetime, status: int, sealed: str, user_id: str | None
) -> None:
    """Keep the answer, unless another took the request over in the meantime.

    Args:
        user_id: whose words or votes the answer holds: it is erased with the user.
    """
    row = IdempotentRequest
    session.execute(
        update(row)
        .where(row.tenant_id == tenant_id, row.key == key, row.created_at == claimed_at)
        .values(status=status, body={"sealed": sealed}, user_id=user_id)
    )


def release(session: Session, tenant_id: str, key: str, claimed_at: datetime) -> None:
    """Forget a request that came to nothing: a repetition is a first try."""
    row = IdempotentRequest
    session.execute(delete(row).where(row.tenant_id == tenant_id, row.key == key, row.created_at == claimed_at))


def drop_expired(session: Session, now: datetime, limit: int) -> int:
    """Delete rows past their time, `limit` at most; how many there were."""
    row = IdempotentRequest
    expired = select(row.tenant_id, row.key).where(row.created_at < now - KEPT).limit(limit)
    dropped = session.execute(delete(row).where(tuple_(row.tenant_id, row.key).in_(expired)).returning(row.key))
    return len(dropped.all())
