"""Bodies of `/v1/tenants`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, StringConstraints, field_validator
from pydantic.config import JsonDict

from cage_core.engine.games import MODES
from learner.store.models import Tenant
from learner.store.tenants import PrincipalOfTenant

LIMITS = ("requests_per_minute", "tokens_per_minute", "user_requests_per_minute", "user_tokens_per_minute")

Name = Annotated[str, StringConstraints(min_length=1, max_length=128, pattern=r"^[^\x00-\x1f\x7f]+$")]
PrincipalName = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=r"^[a-z][a-z0-9_-]*$")]
Amount = Annotated[FiniteFloat, Field(ge=0, le=1000)]
PerMinute = Annotated[int, Field(ge=1, le=1_000_000_000)]
Principals = Annotated[dict[PrincipalName, Amount], Field(min_length=1, max_length=64)]

_EXAMPLE: JsonDict = {
    "name": "web shop",
    "principals": {"caution": 2, "brevity": 1},
    "strength": 3,
    "stores_text": False,
}


class _Settings(BaseModel):
    """What a tenant can be told, all of it optional."""

    model_config = ConfigDict(extra="forbid")

    principals: Principals | None = Field(
        default=None, description="Prior weight of each principal that the tenant uses; their sum is made 1."
    )
    mode: str | None = Field(default=None, description=f"How principals combine: {', '.join(MODES)}.")
    strength: Amount | None = Field(default=None, description="Steering strength; 0 is the plain model.")
    kl_budget_nats: Annotated[FiniteFloat, Field(gt=0, le=100)] | None = Field(
        default=None, description="KL of every token's policy to the plain model; replaces the strength. null: none."
    )
    balance: Amount | None = Field(default=None, description="How much weights adapt within an answer.")
    temperature: Annotated[FiniteFloat, Field(ge=0, le=2)] | None = None
    exploration: Literal["none", "thompson"] | None = None
    stores_text: bool | None = Field(default=None, description="Whether prompts and answers are kept.")
    stores_traces: bool | None = Field(default=None, description="Whether it is kept who moved each token.")
    retention_days: Annotated[FiniteFloat, Field(gt=0, le=3660)] | None = Field(
        default=None, description="How long texts and traces are kept."
    )
    requests_per_minute: PerMinute | None = Field(default=None, description="Of all keys together; null: no limit.")
    tokens_per_minute: PerMinute | None = None
    user_requests_per_minute: PerMinute | None = Field(default=None, description="Of each user; null: no limit.")
    user_tokens_per_minute: PerMinute | None = None

    @field_validator("mode")
    @classmethod
    def _is_a_mode(cls, mode: str | None) -> str | None:
        if mode is not None and mode not in MODES:
            raise ValueError(f"there are the modes {', '.join(MODES)}")
        return mode

    def columns(self) -> dict[str, Any]:
        """What was said about columns of the tenant; null only where null means something."""
        said = self.model_dump(exclude_unset=True, exclude={"principals"})
        nullable = ("kl_budget_nats", *LIMITS)
        return {name: value for name, value in said.items() if value is not None or name in nullable}


class NewTenant(_Settings):
    """`POST /v1/tenants`."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [_EXAMPLE]})

    name: Name


class TenantChange(_Settings):
    """`PATCH /v1/tenants/{id}`."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"strength": 2.5, "stores_text": True}]})

    name: Name | None = None


class TenantView(BaseModel):
    """A tenant's configuration."""

    id: str
    name: str
    model: str
    principals: dict[str, float] = Field(description="Prior weight of each, sum 1.")
    mode: str
    strength: float
    kl_budget_nats: float | None
    balance: float
    temperature: float
    exploration: str
    stores_text: bool
    stores_traces: bool
    retention_days: float
    requests_per_minute: int | None
    tokens_per_minute: int | None
    user_requests_per_minute: int | None
    user_tokens_per_minute: int | None
    created_at: datetime

    @classmethod
    def of(cls, tenant: Tenant, principals: Sequence[PrincipalOfTenant]) -> Self:
        """The stored tenant."""
        weights = {each.name: each.prior_weight for each in principals}
        return cls.model_validate({**tenant.__dict__, "principals": weights})


class Tenants(BaseModel):
    """A page of tenants."""

    data: list[TenantView]
    next_after: str | None = Field(description="Pass as `after` for the next page; null at the end.")


class DeletedTenant(BaseModel):
    """What went with a tenant."""

    id: str
    deleted: dict[str, int] = Field(description="Rows by table, keys apart.")
    cleared: dict[str, int] = Field(description="Keys and messages taken out of Redis.")
