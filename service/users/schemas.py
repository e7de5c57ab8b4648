"""Bodies of `/v1/users`."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, Field

from learner.store.users import UserCounts


class RegretView(BaseModel):
    """How much the learned weights lost against the best fixed weights in hindsight, summed over votes, nats."""

    feedback_count: int
    measured: float = Field(description="Loss of the weights in force less that of the best fixed weights.")
    bound: float = Field(description="What the algorithm guarantees, computed from the same votes.")
    against_prior: float = Field(description="Loss of the configured weights less that of the weights in force.")


class WeightsView(BaseModel):
    """The weights with which this process decodes for the user now."""

    user: str
    weights: dict[str, float]
    parameter_version: int = Field(description="0 before any learning.")
    scope: Literal["user", "tenant"] = Field(description="Whose votes these weights come from.")
    feedback_count: int = Field(description="Votes that these weights rest on.")
    learned_at: datetime | None
    regret: RegretView | None = Field(description="null before the first vote was learned.")


class UserSummary(BaseModel):
    """What is stored of a user."""

    user: str
    answers: int
    votes: int = Field(description="The user's thumbs that count, on anybody's answers.")
    retracted_votes: int
    texts: int = Field(description="Answers whose words or traces are kept.")
    parameter_version: int = Field(description="Of what was learned of this user; 0 before any learning.")
    first_seen_at: datetime
    last_seen_at: datetime

    @classmethod
    def of(cls, counts: UserCounts) -> UserSummary:
        """The counts on record."""
        return cls(user=counts.user_id, **{name: value for name, value in vars(counts).items() if name != "user_id"})


class UserState(UserSummary):
    """The same, with the weights in use."""

    weights: WeightsView


class Users(BaseModel):
    """A page of users, by id."""

    data: list[UserSummary]
    next_after: str | None = Field(description="Pass as `after` for the next page; null at the end.")


class VersionView(BaseModel):
    """One version of a user's weights, and where it came from."""

    parameter_version: int
    learned_at: datetime
    weights: dict[str, float]
    feedback_count: int = Field(description="Votes that it rests on.")
    feedback_ids: list[str] = Field(
        description="Votes whose present value came in with this version; one that changed since is at a later one."
    )
    reserves: dict[str, float] | None = Field(description="What each principal kept under these weights.")


class UserHistory(BaseModel):
    """Versions, newest first."""

    user: str
    data: list[VersionView]
    next_before: int | None = Field(description="Pass as `before` for the next page; null at the end.")


class ResetReport(BaseModel):
    """What a reset did."""

    receipt: str = Field(description="Names this reset in the audit log.")
    forgotten_votes: int = Field(description="Thumbs that do not count any more; they stay on record.")
    weights: WeightsView


class ErasureProof(BaseModel):
    """What an erasure took away. It names nobody; the same receipt stands in the audit log."""

    receipt: str
    erased_at: datetime
    deleted: dict[str, int] = Field(description="Rows by table; tables that held nothing are left out.")
    cleared: dict[str, int] = Field(description="Keys and messages taken out of Redis.")
    refolded_scopes: int = Field(description="States, the tenant's among them, from which votes were taken out.")
    tenant_parameter_version_before: int
    tenant_parameter_version_after: int = Field(description="0 when the tenant had learned from nobody else.")
