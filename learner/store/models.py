"""The tables.

User columns of feedback and of everything learned hold '' for the tenant itself (`learner.scope`), so
that keys and uniqueness treat a tenant like any other scope.
"""

from datetime import datetime
from typing import Any, ClassVar

from sqlalchemy import (
    ARRAY,
    BigInteger,
    CheckConstraint,
    Computed,
    DateTime,
    Double,
    ForeignKey,
    ForeignKeyConstraint,
    Identity,
    Index,
    MetaData,
    SmallInteger,
    Text,
    UniqueConstraint,
    false,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

NAMING = {
    "pk": "pk_%(table_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
}


class Base(DeclarativeBase):
    """Common ground of the tables."""

    metadata = MetaData(naming_convention=NAMING)
    type_annotation_map: ClassVar = {
        str: Text,
        float: Double,
        datetime: DateTime(timezone=True),
        list[str]: ARRAY(Text),
        list[float]: ARRAY(Double),
        list[int]: ARRAY(BigInteger),
        list[dict[str, Any]]: JSONB(none_as_null=True),
        dict[str, Any]: JSONB(none_as_null=True),
    }


def _finite(column: str) -> str:
    """SQL that holds when no element of a float array is NaN or infinite."""
    return f"NOT ({column} && ARRAY['NaN', 'Infinity', '-Infinity']::float8[])"


class Tenant(Base):
    """A customer of the service: its model, how it is steered and explores, what is kept of it, and its limits.

    `kl_budget_nats` replaces `strength` where it is set. Limits count what all keys of the tenant, or one of its
    users, may do in a minute; None is no limit.
    """

    __tablename__ = "tenants"
    __table_args__ = (
        CheckConstraint("exploration IN ('none', 'thompson')", name="known_exploration"),
        CheckConstraint("retention_days > 0", name="positive_retention"),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    model: Mapped[str]
    mode: Mapped[str]
    strength: Mapped[float]
    temperature: Mapped[float]
    exploration: Mapped[str] = mapped_column(server_default=text("'none'"))
    kl_budget_nats: Mapped[float | None]
    balance: Mapped[float] = mapped_column(server_default=text("0"))
    stores_text: Mapped[bool] = mapped_column(server_default=false())
    stores_traces: Mapped[bool] = mapped_column(server_default=false())
    retention_days: Mapped[float] = mapped_column(server_default=text("30"))
    requests_per_minute: Mapped[int | None]
    tokens_per_minute: Mapped[int | None]
    user_requests_per_minute: Mapped[int | None]
    user_tokens_per_minute: Mapped[int | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class ApiKey(Base):
    """A bearer key; only its SHA-256 and a prefix to recognise it by are kept.

    A key without a tenant is an operator's and may act for any tenant.
    """

    __tablename__ = "api_keys"
    __table_args__ = (
        CheckConstraint("cardinality(scopes) > 0", name="some_scope"),
        CheckConstraint("scopes <@ ARRAY['generate', 'feedback', 'read', 'operate', 'admin']", name="known_scopes"),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[str | None] = mapped_column(ForeignKey("tenants.id", ondelete="CASCADE"), index=True)
    hash: Mapped[str] = mapped_column(unique=True)
    prefix: Mapped[str]
    label: Mapped[str]
    scopes: Mapped[list[str]]
    requests_per_minute: Mapped[int | None]
    tokens_per_minute: Mapped[int | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]


class Principal(Base):
    """The server's catalogue of principals. The feature scale is fixed at the first registration."""

    __tablename__ = "principals"
    __table_args__ = (CheckConstraint("feature_scale > 0", name="positive_feature_scale"),)

    name: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str]
    description: Mapped[str]
    feature_scale: Mapped[float]
    registered_at: Mapped[datetime] = mapped_column(server_default=func.now())


class TenantPrincipal(Base):
    """A principal that a tenant uses, in the tenant's order; prior weights of a tenant sum to 1."""

    __tablename__ = "tenant_principals"
    __table_args__ = (
        UniqueConstraint("tenant_id", "position"),
        CheckConstraint("prior_weight >= 0 AND prior_weight <= 1", name="prior_weight_in_unit_interval"),
    )

    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id", ondelete="CASCADE"), primary_key=True)
    principal_name: Mapped[str] = mapped_column(ForeignKey("principals.name"), primary_key=True)
    position: Mapped[int] = mapped_column(SmallInteger)
    prior_weight: Mapped[float]


class Generation(Base):
    """One answer: what was in force when it was made, and what a vote on it can teach.

    `parameter_user_id` is the user whose parameters were in force, None when they were the tenant's.
    """

    __tablename__ = "generations"
    __table_args__ = (
        CheckConstraint("cardinality(features) = cardinality(principals)", name="feature_of_each_principal"),
        CheckConstraint("cardinality(theta) = cardinality(principals) + 1", name="theta_of_each_principal"),
        CheckConstraint("cardinality(weights) = cardinality(principals)", name="weight_of_each_principal"),
        CheckConstraint(_finite("features"), name="finite_features"),
        CheckConstraint(_finite("theta"), name="finite_theta"),
        CheckConstraint("user_id <> ''", name="named_user"),
        Index(None, "tenant_id", "user_id", "created_at"),
        # Holds what the dashboard shows of a tenant's newest answers.
        Index(
            "ix_generations_recent",
            "tenant_id",
            "created_at",
            postgresql_include=["largest_gap", "solver_seconds", "completion_tokens"],
        ),
        Index("ix_generations_created_at", "created_at"),
        Index("ix_generations_contexts", "created_at", postgresql_where=text("contexts IS NOT NULL")),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id", ondelete="CASCADE"))
    user_id: Mapped[str | None]
    created_at: Mapped[datetime]
    model: Mapped[str]
    mode: Mapped[str]
    parameter_version: Mapped[int] = mapped_column(BigInteger)
    parameter_user_id: Mapped[str | None]
    principals: Mapped[list[str]]
    theta: Mapped[list[float]]
    weights: Mapped[list[float]]
    features: Mapped[list[float]]
    prompt_tokens: Mapped[int]
    completion_tokens: Mapped[int]
    finish_reason: Mapped[str]
    largest_gap: Mapped[float | None]
    mean_gap: Mapped[float | None]
    seed: Mapped[int | None] = mapped_column(BigInteger)
    solver_seconds: Mapped[float | None]
    contexts: Mapped[list[dict[str, Any]] | None]


class Transcript(Base):
    """The words of one answer and who moved each of its tokens: only for tenants that ask for it, and only so long."""

    __tablename__ = "transcripts"
    __table_args__ = (Index(None, "tenant_id", "created_at"),)

    generation_id: Mapped[str] = mapped_column(ForeignKey("generations.id", ondelete="CASCADE"), primary_key=True)
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id", ondelete="CASCADE"))
    created_at: Mapped[datetime]
    messages: Mapped[list[dict[str, Any]] | None]
    answer: Mapped[str | None]
    tokens: Mapped[list[dict[str, Any]] | None]


class Feedback(Base):
    """One user's vote on one answer, and how much of it has been learned: the queue of record.

    A row is unlearned while what it should count for differs from `learned_value`. A fold takes away the
    contribution of the latter and adds that of the former, so a vote, another vote, a retraction (no value)
    and an expiry are one mechanism. `implied` marks the default for an answer that nobody voted on.
    """

    __tablename__ = "feedback"
    __table_args__ = (
        UniqueConstraint("generation_id", "user_id"),
        CheckConstraint("value IN (-1, 1)", name="vote"),
        CheckConstraint("learned_value IN (-1, 1)", name="learned_vote"),
        Index("ix_feedback_scope", "tenant_id", "user_id", "created_at"),
        # Holds all that counting votes over time needs, so that a million of them are counted without their rows.
        Index("ix_feedback_recent", "tenant_id", "created_at", postgresql_include=["counted_value", "implied"]),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id", ondelete="CASCADE"))
    generation_id: Mapped[str] = mapped_column(ForeignKey("generations.id", ondelete="CASCADE"))
    user_id: Mapped[str]
    value: Mapped[int | None] = mapped_column(SmallInteger)
    comment: Mapped[str | None]
    tags: Mapped[list[str]]
    implied: Mapped[bool] = mapped_column(server_default=false())
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]
    expired_at: Mapped[datetime | None]
    counted_value: Mapped[int | None] = mapped_column(
        SmallInteger, Computed("CASE WHEN (expired_at IS NULL) THEN value ELSE NULL::smallint END", persisted=True)
    )
    learned_value: Mapped[int | None] = mapped_column(SmallInteger)
    learned_at: Mapped[datetime | None]
    learned_version: Mapped[int | None] = mapped_column(BigInteger)


UNLEARNED = Feedback.counted_value.is_distinct_from(Feedback.learned_value)
Index(
    "ix_feedback_unlearned",
    Feedback.tenant_id,
    Feedback.user_id,
    Feedback.updated_at,
    postgresql_where=UNLEARNED,
)


class EvidenceColumns:
    """Additive evidence (`learner.evidence`): fixed-point sums over feedback."""

    principals: Mapped[list[str]]
    precision: Mapped[list[int]]
    linear: Mapped[list[int]]
    feedback_count: Mapped[int] = mapped_column(BigInteger)


class LearnerState(EvidenceColumns, Base):
    """What a scope has learned so far.

    `constants` names the numbers that the evidence was computed with; evidence of other numbers is
    rebuilt from the feedback table. `shared_version` is the version that the tenant's evidence includes.
    """

    __tablename__ = "learner_states"
    __table_args__ = (
        Index(
            "ix_learner_states_unshared",
            "tenant_id",
            "user_id",
            postgresql_where=text("user_id <> '' AND shared_version <> version"),
        ),
    )

    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id", ondelete="CASCADE"), primary_key=True)
    user_id: Mapped[str] = mapped_column(primary_key=True)
    constants: Mapped[str]
    version: Mapped[int] = mapped_column(BigInteger)
    shared_version: Mapped[int] = mapped_column(BigInteger)
    updated_at: Mapped[datetime]


class AnonymousEvidence(EvidenceColumns, Base):
    """What a tenant's votes without a user say, before the cap: together they count as one user."""

    __tablename__ = "anonymous_evidence"

    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id", ondelete="CASCADE"), primary_key=True)


class TenantShare(EvidenceColumns, Base):
    """The part of a tenant's evidence that came from one user, after the cap on its influence."""

    __tablename__ = "tenant_shares"

    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id", ondelete="CASCADE"), primary_key=True)
    user_id: Mapped[str] = mapped_column(primary_key=True)


class LearningFailure(Base):
    """A scope whose last attempt to learn failed, and when it is tried again."""

    __tablename__ = "learning_failures"

    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id", ondelete="CASCADE"), primary_key=True)
    user_id: Mapped[str] = mapped_column(primary_key=True)
    attempts: Mapped[int]
    error: Mapped[str]
    failed_at: Mapped[datetime]
    next_attempt_at: Mapped[datetime]


class ParameterVersion(Base):
    """Every version of a scope's parameters that was ever published.

    `posterior` is what the version was solved from; `revision` counts the additions of reserves to it.
    """

    __tablename__ = "parameter_versions"
    __table_args__ = (Index("ix_parameter_versions_recent", "tenant_id", "learned_at"),)

    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id", ondelete="CASCADE"), primary_key=True)
    user_id: Mapped[str] = mapped_column(primary_key=True)
    version: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    principals: Mapped[list[str]]
    theta: Mapped[list[float]]
    weights: Mapped[list[float]]
    feedback_count: Mapped[int] = mapped_column(BigInteger)
    learned_at: Mapped[datetime]
    oldest_feedback_at: Mapped[datetime | None]
    revision: Mapped[int] = mapped_column(SmallInteger, server_default=text("0"))
    reserves: Mapped[list[float] | None]
    posterior: Mapped[dict[str, Any] | None]


class RegretPoint(Base):
    """Measured regret of a scope after some version, and the bound it stays under; losses in nats."""

    __tablename__ = "regret_points"
    __table_args__ = (
        ForeignKeyConstraint(
            ["tenant_id", "user_id", "version"],
            ["parameter_versions.tenant_id", "parameter_versions.user_id", "parameter_versions.version"],
            ondelete="CASCADE",
            name="fk_regret_points_version",
        ),
    )

    tenant_id: Mapped[str] = mapped_column(primary_key=True)
    user_id: Mapped[str] = mapped_column(primary_key=True)
    version: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    feedback_count: Mapped[int] = mapped_column(BigInteger)
    incurred_loss: Mapped[float]
    best_loss: Mapped[float]
    prior_loss: Mapped[float]
    uniform_loss: Mapped[float]
    regret: Mapped[float]
    bound: Mapped[float]
    best_principals: Mapped[list[str]]
    best_theta: Mapped[list[float]]
    measured_at: Mapped[datetime]


class IncentivePoint(Base):
    """How the principals' bidding over a scope's stored token contexts went under one version of its weights.

    Regrets and bounds are of each principal, payoff units per context, averaged over the rounds.
    """

    __tablename__ = "incentive_points"
    __table_args__ = (
        ForeignKeyConstraint(
            ["tenant_id", "user_id", "version"],
            ["parameter_versions.tenant_id", "parameter_versions.user_id", "parameter_versions.version"],
            ondelete="CASCADE",
            name="fk_incentive_points_version",
        ),
    )

    tenant_id: Mapped[str] = mapped_column(primary_key=True)
    user_id: Mapped[str] = mapped_column(primary_key=True)
    version: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    context_count: Mapped[int]
    principals: Mapped[list[str]]
    reserves: Mapped[list[float]]
    converged: Mapped[bool]
    note: Mapped[str]
    best_response_regret: Mapped[list[float]]
    best_response_bound: Mapped[list[float]]
    hedge_regret: Mapped[list[float]]
    hedge_bound: Mapped[list[float]]
    measured_at: Mapped[datetime]


class AuditEntry(Base):
    """Who changed what, when. Entries outlive the tenant and the key that they name, and hold no end user's id."""

    __tablename__ = "audit_entries"
    __table_args__ = (Index(None, "tenant_id", "id"),)

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    at: Mapped[datetime]
    tenant_id: Mapped[str | None]
    actor: Mapped[str]
    action: Mapped[str]
    target: Mapped[str]
    details: Mapped[dict[str, Any] | None]
    request_id: Mapped[str | None]


class IdempotentRequest(Base):
    """An answered request, or one under way, that its client may repeat under the same `Idempotency-Key`.

    `tenant_id` is '' for operators. `status` is None while the first request is under way.
    """

    __tablename__ = "idempotent_requests"
    __table_args__ = (Index(None, "created_at"),)

    tenant_id: Mapped[str] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    fingerprint: Mapped[str]
    user_id: Mapped[str | None]
    created_at: Mapped[datetime]
    status: Mapped[int | None] = mapped_column(SmallInteger)
    body: Mapped[dict[str, Any] | None]
