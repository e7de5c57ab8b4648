"""API keys: made once, kept only as a hash."""

import hashlib
import secrets
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, or_, select
from sqlalchemy.orm import Session

from learner.errors import InvalidKeyScopes, UnknownApiKey, UnknownTenant
from learner.store.identifiers import new_id
from learner.store.models import ApiKey, Tenant

PLAINTEXT_PREFIX = "cage_"
SHOWN_CHARACTERS = 12

SCOPES = {
    "generate": "ask for answers",
    "feedback": "give, change and retract votes",
    "read": "see users' weights, regret, stored answers, and export a user",
    "operate": "see dashboards, reset and erase users",
    "admin": "change tenants and keys, see the audit log",
}
PRODUCT_SCOPES = ("generate", "feedback", "read")
"""What a chat product needs."""


@dataclass(frozen=True)
class Authenticated:
    """A key in force, and the tenant that it belongs to; an operator's key belongs to none."""

    key: ApiKey
    tenant: Tenant | None


def create_key(
    session: Session,
    tenant_id: str | None,
    label: str,
    scopes: Collection[str] = PRODUCT_SCOPES,
    *,
    expires_at: datetime | None = None,
    requests_per_minute: int | None = None,
    tokens_per_minute: int | None = None,
) -> tuple[ApiKey, str]:
    """A new key and its plaintext, which is nowhere else; without a tenant it is an operator's.

    Raises:
        InvalidKeyScopes: no scope, or one that there is not.
        UnknownTenant: there is none of this id.
    """
    unknown = sorted(set(scopes) - SCOPES.keys())
    if unknown or not scopes:
        what = f"there is no scope {unknown[0]!r}" if unknown else "a key needs a scope"
        raise InvalidKeyScopes(f"{what}; scopes are {', '.join(SCOPES)}")
    if tenant_id is not None and session.get(Tenant, tenant_id) is None:
        raise UnknownTenant(f"no tenant has the id {tenant_id!r}")
    plaintext = PLAINTEXT_PREFIX + secrets.token_urlsafe(32)
    key = ApiKey(
        id=new_id("key"),
        tenant_id=tenant_id,
        hash=_hash(plaintext),
        prefix=plaintext[:SHOWN_CHARACTERS],
        label=label,
        scopes=[scope for scope in SCOPES if scope in scopes],
        expires_at=expires_at,
        requests_per_minute=requests_per_minute,
        tokens_per_minute=tokens_per_minute,
    )
    session.add(key)
    session.flush()
    session.refresh(key)
    return key, plaintext


def authenticate(session: Session, plaintext: str, now: datetime) -> Authenticated | None:
    """The key in force that this is; None for unknown, expired and revoked keys alike.

    One lookup by hash whatever the key, so its time says nothing about how close a guess was.
    """
    row = session.execute(
        select(ApiKey, Tenant)
        .join(Tenant, ApiKey.tenant_id == Tenant.id, isouter=True)
        .where(ApiKey.hash == _hash(plaintext), *_in_force(now))
    ).one_or_none()
    return None if row is None else Authenticated(*row)


def list_keys(session: Session, tenant_id: str | None) -> Sequence[ApiKey]:
    """All keys of a tenant, or of the operators; revoked ones too, newest first."""
    newest_first = ApiKey.created_at.desc(), ApiKey.id
    return session.scalars(select(ApiKey).where(ApiKey.tenant_id == tenant_id).order_by(*newest_first)).all()


def get_key(session: Session, tenant_id: str | None, key_id: str) -> ApiKey:
    """A key of a tenant, or of the operators.

    Raises:
        UnknownApiKey: there is none of this id, or it is somebody else's.
    """
    key = session.scalar(select(ApiKey).where(ApiKey.id == key_id, ApiKey.tenant_id == tenant_id))
    if key is None:
        raise UnknownApiKey(f"no key has the id {key_id!r}")
    return key


def revoke_key(session: Session, tenant_id: str | None, key_id: str, now: datetime) -> bool:
    """Refuse a key from now on; False when it was refused already.

    Raises:
        UnknownApiKey: there is none of this id, or it is somebody else's.
    """
    key = get_key(session, tenant_id, key_id)
    if key.revoked_at is not None or (key.expires_at is not None and key.expires_at <= now):
        return False
    key.revoked_at = now
    session.flush()
    return True


def rotate_key(
    session: Session, tenant_id: str | None, key_id: str, grace: timedelta, now: datetime
) -> tuple[ApiKey, str]:
    """A new key like this one, which ends after a grace period.

    Raises:
        UnknownApiKey: there is none of this id in force, or it is somebody else's.
    """
    old = get_key(session, tenant_id, key_id)
    if old.revoked_at is not None or (old.expires_at is not None and old.expires_at <= now):
        raise UnknownApiKey(f"the key {key_id!r} is not in force any more; create a new one")
    new = create_key(
        session,
        tenant_id,
        old.label,
        old.scopes,
        expires_at=old.expires_at,
        requests_per_minute=old.requests_per_minute,
        tokens_per_minute=old.tokens_per_minute,
    )
    ends = now + grace
    old.expires_at = ends if old.expires_at is None else min(ends, old.expires_at)
    session.flush()
    return new


def _in_force(now: datetime) -> tuple[ColumnElement[bool], ...]:
    return ApiKey.revoked_at.is_(None), or_(ApiKey.expires_at.is_(None), ApiKey.expires_at > now)


def _hash(plaintext: str) -> str:
    return hashlib.sha256(plaintext.encode("utf-8", "surrogatepass")).hexdigest()
