"""What the dashboard's routes answer."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Literal, Self

from pydantic import BaseModel, Field

from learner.store.dashboard import Health, TenantGlance, TimeRange, Votes
from learner.store.dashboard_series import ShownVote, UserChange, WeightPoint
from learner.store.models import IncentivePoint, LearningFailure, RegretPoint, Tenant
from learner.store.tenants import PrincipalOfTenant
from service.dashboard.ranges import Distribution


class RangeView(BaseModel):
    """The time that figures are of."""

    start: datetime
    end: datetime

    @classmethod
    def of(cls, during: TimeRange) -> Self:
        """The range as it was looked at."""
        return cls(start=during.start, end=during.end)


class GlanceView(BaseModel):
    """One tenant in a line."""

    id: str
    name: str
    users: int = Field(description="Users of whom something was learned.")
    thumbs: int = Field(description="Votes of the range that count.")
    approval: float | None = Field(description="Share of thumbs up among them.")
    regret_per_thumb: float | None = Field(description="Of the newest measurement over all users, nats.")
    largest_gap: float | None = Field(description="Largest certified gap of the newest 200 answers, payoff units.")
    learn_lag_seconds: float = Field(description="How long the oldest unlearned vote has waited; 0 for none.")
    feedback_to_decoder_seconds: float | None = Field(
        description="Median time from a thumb to its published weights, over the newest learned thumbs."
    )

    @classmethod
    def of(cls, glance: TenantGlance) -> Self:
        """A tenant's figures; shares of nothing are null."""
        measured = glance.measured
        return cls(
            id=glance.tenant_id,
            name=glance.name,
            users=glance.users,
            thumbs=glance.votes.total,
            approval=glance.votes.approval,
            regret_per_thumb=None if measured is None else measured.regret / measured.thumbs,
            largest_gap=glance.largest_gap,
            learn_lag_seconds=glance.lag_seconds,
            feedback_to_decoder_seconds=glance.delay_seconds,
        )


class TenantsView(BaseModel):
    """All tenants at a glance, by name."""

    range: RangeView
    operator: bool = Field(description="Whether the key may act for every tenant.")
    data: list[GlanceView]


class TenantPrincipal(BaseModel):
    """A principal as a tenant uses it."""

    name: str
    kind: str
    prior_weight: float

    @classmethod
    def of(cls, principal: PrincipalOfTenant) -> Self:
        """Without its feature scale."""
        return cls(name=principal.name, kind=principal.kind, prior_weight=principal.prior_weight)


class WeightPointView(BaseModel):
    """The weights that one version brought."""

    at: datetime
    version: int
    thumbs: int
    weights: dict[str, float]

    @classmethod
    def of(cls, point: WeightPoint) -> Self:
        """One point of a chart."""
        return cls(at=point.learned_at, version=point.version, thumbs=point.feedback_count, weights=point.weights)


class RegretPointView(BaseModel):
    """Regret after so many thumbs, nats: losses of the weights in force less those of something else."""

    at: datetime
    thumbs: int
    regret: float = Field(description="Against the best fixed weights in hindsight.")
    bound: float = Field(description="What the regret cannot exceed.")
    against_prior: float = Field(description="Against the configured weights; below 0, learning paid.")
    against_uniform: float = Field(description="Against equal weights.")

    @classmethod
    def of(cls, point: RegretPoint) -> Self:
        """One point of a chart."""
        return cls(
            at=point.measured_at,
            thumbs=point.feedback_count,
            regret=point.regret,
            bound=point.bound,
            against_prior=point.incurred_loss - point.prior_loss,
            against_uniform=point.incurred_loss - point.uniform_loss,
        )


class VoteStep(BaseModel):
    """Thumbs of one step of time."""

    at: datetime
    up: int
    total: int


class VotesView(BaseModel):
    """Thumbs over time; steps without any are left out."""

    step_seconds: float
    steps: list[VoteStep]

    @classmethod
    def of(cls, step: timedelta, steps: Iterable[tuple[datetime, Votes]]) -> Self:
        """Step after step."""
        views = [VoteStep(at=at, up=votes.up, total=votes.total) for at, votes in steps]
        return cls(step_seconds=step.total_seconds(), steps=views)

    @property
    def total(self) -> Votes:
        """All of them."""
        up = sum(step.up for step in self.steps)
        return Votes(up, sum(step.total for step in self.steps) - up)


class PrincipalRegret(BaseModel):
    """How one principal's bidding went, payoff units per token context."""

    name: str
    reserve: float = Field(description="What it keeps of its payoff: it pays for tokens worth more to it.")
    best_response_regret: float
    best_response_bound: float = Field(description="The paper's bound.")
    hedge_regret: float
    hedge_bound: float


class IncentivesView(BaseModel):
    """The principals' bidding over stored token contexts under the newest weights that it was worked out for."""

    at: datetime
    contexts: int
    converged: bool
    note: str
    principals: list[PrincipalRegret]

    @classmethod
    def of(cls, point: IncentivePoint) -> Self:
        """One principal after the other."""
        columns = zip(
            point.principals,
            point.reserves,
            point.best_response_regret,
            point.best_response_bound,
            point.hedge_regret,
            point.hedge_bound,
            strict=True,
        )
        fields = tuple(PrincipalRegret.model_fields)
        principals = [PrincipalRegret.model_validate(dict(zip(fields, row, strict=True))) for row in columns]
        return cls(
            at=point.measured_at,
            contexts=point.context_count,
            converged=point.converged,
            note=point.note,
            principals=principals,
        )


class ChangeView(BaseModel):
    """How far a user's weights moved lately."""

    user: str
    change: float = Field(description="Share of the weight that went elsewhere.")
    versions: int
    thumbs: int
    at: datetime
    before: dict[str, float]
    after: dict[str, float]

    @classmethod
    def of(cls, change: UserChange) -> Self:
        """One user."""
        return cls(
            user=change.user_id,
            change=change.change,
            versions=change.versions,
            thumbs=change.feedback_count,
            at=change.learned_at,
            before=change.before,
            after=change.after,
        )


class FailureView(BaseModel):
    """A scope whose learning fails."""

    user: str | None = Field(description="null for the tenant itself.")
    attempts: int
    error: str
    failed_at: datetime
    next_attempt_at: datetime

    @classmethod
    def of(cls, failure: LearningFailure) -> Self:
        """One scope."""
        return cls(
            user=failure.user_id or None,
            attempts=failure.attempts,
            error=failure.error,
            failed_at=failure.failed_at,
            next_attempt_at=failure.next_attempt_at,
        )


class HealthView(BaseModel):
    """How learning goes."""

    unlearned: int
    lag_seconds: float
    learned_at: datetime | None
    failing: list[FailureView]

    @classmethod
    def of(cls, health: Health) -> Self:
        """Backlog and failures."""
        return cls(
            unlearned=health.unlearned,
            lag_seconds=health.lag_seconds,
            learned_at=health.learned_at,
            failing=[FailureView.of(failure) for failure in health.failing],
        )


class Configuration(BaseModel):
    """How a tenant's answers are steered, and what is kept of them."""

    model: str
    mode: str
    strength: float
    stores_traces: bool

    @classmethod
    def of(cls, tenant: Tenant) -> Self:
        """What a reader of the charts wants to know."""
        return cls(model=tenant.model, mode=tenant.mode, strength=tenant.strength, stores_traces=tenant.stores_traces)


class TenantFigures(BaseModel):
    """One tenant: everything that its page draws."""

    range: RangeView
    glance: GlanceView
    configuration: Configuration
    principals: list[TenantPrincipal]
    weights: list[WeightPointView]
    regret: list[RegretPointView]
    votes: VotesView
    answers: int = Field(description="The newest answers of the range that gaps and solver times are of.")
    gaps: Distribution
    solver_seconds: Distribution = Field(description="Per token.")
    incentives: IncentivesView | None
    changes: list[ChangeView]
    health: HealthView


class ShownVoteView(BaseModel):
    """A vote of a user's history."""

    feedback_id: str
    inference_id: str
    value: Literal["up", "down"] | None = Field(description="null when retracted.")
    implied: bool = Field(description="Whether it was cast by default because nobody voted.")
    lapsed: bool = Field(description="Whether it counts no more: it left the window, or the user was reset.")
    learned: bool
    comment: str | None
    tags: list[str]
    mode: str
    features: dict[str, float]
    created_at: datetime

    @classmethod
    def of(cls, shown: ShownVote) -> Self:
        """The vote as it stands."""
        vote = shown.vote
        return cls(
            feedback_id=vote.id,
            inference_id=vote.generation_id,
            value=None if vote.value is None else ("up" if vote.value > 0 else "down"),
            implied=vote.implied,
            lapsed=vote.expired_at is not None,
            learned=vote.counted_value == vote.learned_value,
            comment=vote.comment,
            tags=vote.tags,
            mode=shown.mode,
            features=dict(zip(shown.principals, shown.features, strict=True)),
            created_at=vote.created_at,
        )


class UserView(BaseModel):
    """One user: weights in use, their past, a page of votes."""

    user: str
    weights: dict[str, float] = Field(description="What the next answer uses.")
    parameter_version: int
    scope: Literal["user", "tenant"] = Field(description="Whose votes the weights come from.")
    thumbs: int = Field(description="Votes that the weights rest on.")
    learned_at: datetime | None
    principals: list[TenantPrincipal]
    history: list[WeightPointView]
    regret: list[RegretPointView]
    votes: list[ShownVoteView]
    older_votes: str | None = Field(description="Pass as `before` for the next page; null at the end.")
