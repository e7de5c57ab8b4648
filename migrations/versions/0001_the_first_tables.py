"""the first tables"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0001"
down_revision: str | None = None
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None


def upgrade() -> None:
    op.create_table(
        "principals",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("feature_scale", sa.Double(), nullable=False),
        sa.Column("registered_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("feature_scale > 0", name=op.f("ck_principals_positive_feature_scale")),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_principals")),
    )
    op.create_table(
        "tenants",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("mode", sa.Text(), nullable=False),
        sa.Column("strength", sa.Double(), nullable=False),
        sa.Column("temperature", sa.Double(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tenants")),
        sa.UniqueConstraint("name", name=op.f("uq_tenants_name")),
    )
    op.create_table(
        "api_keys",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("hash", sa.Text(), nullable=False),
        sa.Column("prefix", sa.Text(), nullable=False),
        sa.Column("label", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_api_keys_tenant_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_keys")),
        sa.UniqueConstraint("hash", name=op.f("uq_api_keys_hash")),
    )
    op.create_index(op.f("ix_api_keys_tenant_id"), "api_keys", ["tenant_id"], unique=False)
    op.create_table(
        "generations",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("user_id", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("mode", sa.Text(), nullable=False),
        sa.Column("parameter_version", sa.BigInteger(), nullable=False),
        sa.Column("parameter_user_id", sa.Text(), nullable=True),
        sa.Column("principals", sa.ARRAY(sa.Text()), nullable=False),
        sa.Column("theta", sa.ARRAY(sa.Double()), nullable=False),
        sa.Column("weights", sa.ARRAY(sa.Double()), nullable=False),
        sa.Column("features", sa.ARRAY(sa.Double()), nullable=False),
        sa.Column("prompt_tokens", sa.Integer(), nullable=False),
        sa.Column("completion_tokens", sa.Integer(), nullable=False),
        sa.Column("finish_reason", sa.Text(), nullable=False),
        sa.Column("largest_gap", sa.Double(), nullable=True),
        sa.Column("mean_gap", sa.Double(), nullable=True),
        sa.Column("seed", sa.BigInteger(), nullable=True),
        sa.Column("contexts", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True),
        sa.CheckConstraint(
            "NOT (features && ARRAY['NaN', 'Infinity', '-Infinity']::float8[])",
            name=op.f("ck_generations_finite_features"),
        ),
        sa.CheckConstraint(
            "NOT (theta && ARRAY['NaN', 'Infinity', '-Infinity']::float8[])", name=op.f("ck_generations_finite_theta")
        ),
        sa.CheckConstraint("user_id <> ''", name=op.f("ck_generations_named_user")),
        sa.CheckConstraint(
            "cardinality(features) = cardinality(principals)", name=op.f("ck_generations_feature_of_each_principal")
        ),
        sa.CheckConstraint(
            "cardinality(theta) = cardinality(principals) + 1", name=op.f("ck_generations_theta_of_each_principal")
        ),
        sa.CheckConstraint(
            "cardinality(weights) = cardinality(principals)", name=op.f("ck_generations_weight_of_each_principal")
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["tenants.id"], name=op.f("fk_generations_tenant_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_generations")),
    )
    op.create_index(
        op.f("ix_generations_tenant_id_user_id_created_at"),
        "generations",
        ["tenant_id", "user_id", "created_at"],
        unique=False,
    )
    op.create_table(
        "learner_states",
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("constants", sa.Text(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("shared_version", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("principals", sa.ARRAY(sa.Text()), nullable=False),
        sa.Column("precision", sa.ARRAY(sa.BigInteger()), nullable=False),
        sa.Column("linear", sa.ARRAY(sa.BigInteger()), nullable=False),
        sa.Column("feedback_count", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["tenants.id"], name=op.f("fk_learner_states_tenant_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("tenant_id", "user_id", name=op.f("pk_learner_states")),
    )
    op.create_index(
        "ix_learner_states_unshared",
        "learner_states",
        ["tenant_id", "user_id"],
        unique=False,
        postgresql_where=sa.text("user_id <> '' AND shared_version <> version"),
    )
    op.create_table(
        "parameter_versions",
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("principals", sa.ARRAY(sa.Text()), nullable=False),
        sa.Column("theta", sa.ARRAY(sa.Double()), nullable=False),
        sa.Column("weights", sa.ARRAY(sa.Double()), nullable=False),
        sa.Column("feedback_count", sa.BigInteger(), nullable=False),
        sa.Column("learned_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("oldest_feedback_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["tenants.id"], name=op.f("fk_parameter_versions_tenant_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("tenant_id", "user_id", "version", name=op.f("pk_parameter_versions")),
    )
    op.create_table(
        "tenant_principals",
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("principal_name", sa.Text(), nullable=False),
        sa.Column("position", sa.SmallInteger(), nullable=False),
        sa.Column("prior_weight", sa.Double(), nullable=False),
        sa.CheckConstraint(
            "prior_weight >= 0 AND prior_weight <= 1", name=op.f("ck_tenant_principals_prior_weight_in_unit_interval")
        ),
        sa.ForeignKeyConstraint(
            ["principal_name"], ["principals.name"], name=op.f("fk_tenant_principals_principal_name")
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["tenants.id"], name=op.f("fk_tenant_principals_tenant_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("tenant_id", "principal_name", name=op.f("pk_tenant_principals")),
        sa.UniqueConstraint("tenant_id", "position", name=op.f("uq_tenant_principals_tenant_id_position")),
    )
    op.create_table(
        "tenant_shares",
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("principals", sa.ARRAY(sa.Text()), nullable=False),
        sa.Column("precision", sa.ARRAY(sa.BigInteger()), nullable=False),
        sa.Column("linear", sa.ARRAY(sa.BigInteger()), nullable=False),
        sa.Column("feedback_count", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["tenants.id"], name=op.f("fk_tenant_shares_tenant_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("tenant_id", "user_id", name=op.f("pk_tenant_shares")),
    )
    op.create_table(
        "feedback",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("generation_id", sa.Text(), nullable=False),
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("value", sa.SmallInteger(), nullable=True),
        sa.Column("comment", sa.Text(), nullable=True),
        sa.Column("tags", sa.ARRAY(sa.Text()), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expired_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column(
            "counted_value",
            sa.SmallInteger(),
            sa.Computed("CASE WHEN (expired_at IS NULL) THEN value ELSE NULL::smallint END", persisted=True),
            nullable=True,
        ),
        sa.Column("learned_value", sa.SmallInteger(), nullable=True),
        sa.Column("learned_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("learned_version", sa.BigInteger(), nullable=True),
        sa.CheckConstraint("learned_value IN (-1, 1)", name=op.f("ck_feedback_learned_vote")),
        sa.CheckConstraint("value IN (-1, 1)", name=op.f("ck_feedback_vote")),
        sa.ForeignKeyConstraint(
            ["generation_id"], ["generations.id"], name=op.f("fk_feedback_generation_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_feedback_tenant_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_feedback")),
        sa.UniqueConstraint("generation_id", "user_id", name=op.f("uq_feedback_generation_id_user_id")),
    )
    op.create_index("ix_feedback_scope", "feedback", ["tenant_id", "user_id", "created_at"], unique=False)
    op.create_index("ix_feedback_recent", "feedback", ["tenant_id", "created_at"], unique=False)
    op.create_index(
        "ix_feedback_unlearned",
        "feedback",
        ["tenant_id", "user_id", "updated_at"],
        unique=False,
        postgresql_where=sa.text("counted_value IS DISTINCT FROM learned_value"),
    )
    op.create_table(
        "regret_points",
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("feedback_count", sa.BigInteger(), nullable=False),
        sa.Column("incurred_loss", sa.Double(), nullable=False),
        sa.Column("best_loss", sa.Double(), nullable=False),
        sa.Column("prior_loss", sa.Double(), nullable=False),
        sa.Column("uniform_loss", sa.Double(), nullable=False),
        sa.Column("regret", sa.Double(), nullable=False),
        sa.Column("bound", sa.Double(), nullable=False),
        sa.Column("best_principals", sa.ARRAY(sa.Text()), nullable=False),
        sa.Column("best_theta", sa.ARRAY(sa.Double()), nullable=False),
        sa.Column("measured_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id", "user_id", "version"],
            ["parameter_versions.tenant_id", "parameter_versions.user_id", "parameter_versions.version"],
            name="fk_regret_points_version",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("tenant_id", "user_id", "version", name=op.f("pk_regret_points")),
    )


def downgrade() -> None:
    op.drop_table("regret_points")
    op.drop_index(
        "ix_feedback_unlearned",
        table_name="feedback",
        postgresql_where=sa.text("counted_value IS DISTINCT FROM learned_value"),
    )
    op.drop_index("ix_feedback_scope", table_name="feedback")
    op.drop_index("ix_feedback_recent", table_name="feedback")
    op.drop_table("feedback")
    op.drop_table("tenant_shares")
    op.drop_table("tenant_principals")
    op.drop_table("parameter_versions")
    op.drop_index(
        "ix_learner_states_unshared",
        table_name="learner_states",
        postgresql_where=sa.text("user_id <> '' AND shared_version <> version"),
    )
    op.drop_table("learner_states")
    op.drop_index(op.f("ix_generations_tenant_id_user_id_created_at"), table_name="generations")
    op.drop_table("generations")
    op.drop_index(op.f("ix_api_keys_tenant_id"), table_name="api_keys")
    op.drop_table("api_keys")
    op.drop_table("tenants")
    op.drop_table("principals")
