"""`/v1/keys`: making, listing, rotating and revoking keys."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal, Self

from fastapi import APIRouter, Path, Request
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from learner.store.keys import create_key, get_key, list_keys, revoke_key, rotate_key
from learner.store.models import ApiKey
from service.access.auditing import audit
from service.access.idempotency import Idempotent
from service.access.security import AdminCaller
from service.sessions import SessionDep

router = APIRouter(prefix="/v1/keys", tags=["keys"])

KeyScope = Literal["generate", "feedback", "read", "operate", "admin"]
KeyId = Annotated[str, Path(min_length=1, max_length=256, pattern=r"^[^\x00-\x1f\x7f]+$")]
Label = Annotated[str, StringConstraints(min_length=1, max_length=128, pattern=r"^[^\x00-\x1f\x7f]+$")]
PerMinute = Annotated[int, Field(ge=1, le=1_000_000_000)]

_LONGEST_GRACE_SECONDS = 7 * 24 * 3600
_LONGEST_LIFE_SECONDS = 10 * 366 * 24 * 3600


class NewKey(BaseModel):
    """`POST /v1/keys`."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"label": "web shop", "scopes": ["generate", "feedback", "read"]}]},
    )

    label: Label
    scopes: Annotated[list[KeyScope], Field(min_length=1, max_length=5)] = ["generate", "feedback", "read"]
    expires_in_seconds: Annotated[int, Field(ge=1, le=_LONGEST_LIFE_SECONDS)] | None = None
    requests_per_minute: PerMinute | None = Field(default=None, description="What this key may do at most.")
    tokens_per_minute: PerMinute | None = Field(default=None, description="Tokens read and written with this key.")


class Rotation(BaseModel):
    """`POST /v1/keys/{id}/rotate`."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"grace_seconds": 3600}]})

    grace_seconds: Annotated[int, Field(ge=0, le=_LONGEST_GRACE_SECONDS)] = Field(
        default=0, description="How long the old key goes on working."
    )


class KeyView(BaseModel):
    """A key without its secret."""

    id: str
    tenant: str | None = Field(description="null for an operator's key.")
    prefix: str = Field(description="The first characters, to recognise it by.")
    label: str
    scopes: list[KeyScope]
    requests_per_minute: int | None
    tokens_per_minute: int | None
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None

    @classmethod
    def of(cls, key: ApiKey) -> Self:
        """The stored key."""
        return cls.model_validate({**key.__dict__, "tenant": key.tenant_id})


class CreatedKey(KeyView):
    """A key with its secret, which is shown this once."""

    key: str

    @classmethod
    def with_secret(cls, key: ApiKey, plaintext: str) -> Self:
        """The stored key and its plaintext."""
        return cls.model_validate({**key.__dict__, "tenant": key.tenant_id, "key": plaintext})


class Keys(BaseModel):
    """All keys of a tenant, or of the operators."""

    data: list[KeyView]


@router.post("", status_code=201, summary="Make a key", dependencies=[Idempotent])
def make_key(session: SessionDep, caller: AdminCaller, request: Request, body: NewKey) -> CreatedKey:
    """A key of the caller's tenant; of an operator who names no tenant, an operator's key."""
    now = datetime.now(UTC)
    life = body.expires_in_seconds
    key, plaintext = create_key(
        session,
        caller.tenant_id,
        body.label,
        body.scopes,
        expires_at=None if life is None else now + timedelta(seconds=life),
        requests_per_minute=body.requests_per_minute,
        tokens_per_minute=body.tokens_per_minute,
    )
    audit(session, caller, request, "key.create", key.id, {"label": key.label, "scopes": key.scopes})
    return CreatedKey.with_secret(key, plaintext)


@router.get("", summary="All keys")
def read_keys(session: SessionDep, caller: AdminCaller) -> Keys:
    """Keys of the caller's tenant, revoked ones too; of an operator who names no tenant, the operators' keys."""
    return Keys(data=[KeyView.of(key) for key in list_keys(session, caller.tenant_id)])


@router.get("/{key_id}", summary="One key")
def read_key(session: SessionDep, caller: AdminCaller, key_id: KeyId) -> KeyView:
    """Everything but its secret, which is kept nowhere."""
    return KeyView.of(get_key(session, caller.tenant_id, key_id))


@router.post("/{key_id}/rotate", status_code=201, summary="Replace a key", dependencies=[Idempotent])
def replace_key(
    session: SessionDep, caller: AdminCaller, request: Request, key_id: KeyId, body: Rotation
) -> CreatedKey:
    """A new key with the same rights; the old one ends after the grace period."""
    grace = timedelta(seconds=body.grace_seconds)
    key, plaintext = rotate_key(session, caller.tenant_id, key_id, grace, datetime.now(UTC))
    audit(session, caller, request, "key.rotate", key_id, {"new": key.id, "grace_seconds": body.grace_seconds})
    return CreatedKey.with_secret(key, plaintext)


@router.delete("/{key_id}", summary="Revoke a key", dependencies=[Idempotent])
def end_key(session: SessionDep, caller: AdminCaller, request: Request, key_id: KeyId) -> KeyView:
    """Refused within half a second at every server; revoking it again changes nothing."""
    if revoke_key(session, caller.tenant_id, key_id, datetime.now(UTC)):
        audit(session, caller, request, "key.revoke", key_id)
    return KeyView.of(get_key(session, caller.tenant_id, key_id))
