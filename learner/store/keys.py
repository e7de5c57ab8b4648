"""API keys: made once, kept only as a hash."""

import hashlib
import secrets
from datetime import datetime

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from learner.errors import UnknownTenant
from learner.store.identifiers import new_id
from learner.store.models import ApiKey, Tenant

PLAINTEXT_PREFIX = "cage_"
SHOWN_CHARACTERS = 12


def create_key(session: Session, tenant_id: str, label: str) -> tuple[ApiKey, str]:
    """A new key of a tenant and its plaintext, which is nowhere else.

    Raises:
        UnknownTenant: there is none of this id.
    """
    if session.get(Tenant, tenant_id) is None:
        raise UnknownTenant(f"no tenant has the id {tenant_id!r}")
    plaintext = PLAINTEXT_PREFIX + secrets.token_urlsafe(32)
    key = ApiKey(
        id=new_id("key"),
        tenant_id=tenant_id,
        hash=_hash(plaintext),
        prefix=plaintext[:SHOWN_CHARACTERS],
        label=label,
    )
    session.add(key)
    session.flush()
    session.refresh(key)
    return key, plaintext


def authenticate(session: Session, plaintext: str) -> Tenant | None:
    """The tenant that a key belongs to; None for unknown and revoked keys alike.

    One lookup by hash whatever the key, so its time says nothing about how close a guess was.
    """
    return session.scalar(
        select(Tenant)
        .join(ApiKey, ApiKey.tenant_id == Tenant.id)
        .where(ApiKey.hash == _hash(plaintext), ApiKey.revoked_at.is_(None))
    )


def revoke_key(session: Session, tenant_id: str, key_id: str, now: datetime) -> bool:
    """Refuse a key from now on; False when the tenant has no such key in force."""
    revoked = session.execute(
        update(ApiKey)
        .where(ApiKey.id == key_id, ApiKey.tenant_id == tenant_id, ApiKey.revoked_at.is_(None))
        .values(revoked_at=now)
        .returning(ApiKey.id)
    )
    return revoked.first() is not None


def _hash(plaintext: str) -> str:
    return hashlib.sha256(plaintext.encode("utf-8", "surrogatepass")).hexdigest()
