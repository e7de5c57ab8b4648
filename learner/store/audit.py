"""The audit log: who changed what, when. It is added to and read, never changed."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import insert, select
from sqlalchemy.orm import Session

from learner.store.models import AuditEntry


def add_entry(
    session: Session,
    *,
    at: datetime,
    tenant_id: str | None,
    actor: str,
    action: str,
    target: str,
    details: Mapping[str, Any] | None = None,
    request_id: str | None = None,
) -> None:
    """Note an action, in the transaction that does it: both are written or neither is.

    Args:
        actor: id of the key, or "command line".
        action: verb and noun, as in "key.create".
        target: id of what was changed; never an end user's.
    """
    values = {
        "at": at,
        "tenant_id": tenant_id,
        "actor": actor,
        "action": action,
        "target": target,
        "details": None if details is None else dict(details),
        "request_id": request_id,
    }
    session.execute(insert(AuditEntry).values(values))


def list_entries(session: Session, tenant_id: str | None, *, before: int | None, limit: int) -> Sequence[AuditEntry]:
    """The newest entries, newest first; of one tenant, or of all.

    Args:
        before: only entries older than the one of this id.
    """
    conditions = []
    if tenant_id is not None:
        conditions.append(AuditEntry.tenant_id == tenant_id)
    if before is not None:
        conditions.append(AuditEntry.id < before)
    return session.scalars(select(AuditEntry).where(*conditions).order_by(AuditEntry.id.desc()).limit(limit)).all()
