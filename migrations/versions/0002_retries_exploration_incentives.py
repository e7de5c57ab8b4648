"""retries, exploration, incentives, implied votes"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0002"
down_revision: str | None = "0001"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None


def upgrade() -> None:
    op.create_table(
        "anonymous_evidence",
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("principals", sa.ARRAY(sa.Text()), nullable=False),
        sa.Column("precision", sa.ARRAY(sa.BigInteger()), nullable=False),
        sa.Column("linear", sa.ARRAY(sa.BigInteger()), nullable=False),
        sa.Column("feedback_count", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["tenants.id"], name=op.f("fk_anonymous_evidence_tenant_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("tenant_id", name=op.f("pk_anonymous_evidence")),
    )
    op.create_table(
        "learning_failures",
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("error", sa.Text(), nullable=False),
        sa.Column("failed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("next_attempt_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["tenants.id"], name=op.f("fk_learning_failures_tenant_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("tenant_id", "user_id", name=op.f("pk_learning_failures")),
    )
    op.create_table(
        "incentive_points",
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("context_count", sa.Integer(), nullable=False),
        sa.Column("principals", sa.ARRAY(sa.Text()), nullable=False),
        sa.Column("reserves", sa.ARRAY(sa.Double()), nullable=False),
        sa.Column("converged", sa.Boolean(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("best_response_regret", sa.ARRAY(sa.Double()), nullable=False),
        sa.Column("best_response_bound", sa.ARRAY(sa.Double()), nullable=False),
        sa.Column("hedge_regret", sa.ARRAY(sa.Double()), nullable=False),
        sa.Column("hedge_bound", sa.ARRAY(sa.Double()), nullable=False),
        sa.Column("measured_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id", "user_id", "version"],
            ["parameter_versions.tenant_id", "parameter_versions.user_id", "parameter_versions.version"],
            name="fk_incentive_points_version",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("tenant_id", "user_id", "version", name=op.f("pk_incentive_points")),
    )
    op.add_column("feedback", sa.Column("implied", sa.Boolean(), server_default=sa.text("false"), nullable=False))
    op.create_index(
        "ix_generations_contexts",
        "generations",
        ["created_at"],
        unique=False,
        postgresql_where=sa.text("contexts IS NOT NULL"),
    )
    op.create_index("ix_generations_created_at", "generations", ["created_at"], unique=False)
    op.create_index("ix_generations_recent", "generations", ["tenant_id", "created_at"], unique=False)
    op.add_column(
        "parameter_versions", sa.Column("revision", sa.SmallInteger(), server_default=sa.text("0"), nullable=False)
    )
    op.add_column("parameter_versions", sa.Column("reserves", sa.ARRAY(sa.Double()), nullable=True))
    op.add_column(
        "parameter_versions",
        sa.Column("posterior", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True),
    )
    op.add_column("tenants", sa.Column("exploration", sa.Text(), server_default=sa.text("'none'"), nullable=False))
    op.create_check_constraint(op.f("ck_tenants_known_exploration"), "tenants", "exploration IN ('none', 'thompson')")


def downgrade() -> None:
    op.drop_constraint(op.f("ck_tenants_known_exploration"), "tenants", type_="check")
    op.drop_column("tenants", "exploration")
    op.drop_column("parameter_versions", "posterior")
    op.drop_column("parameter_versions", "reserves")
    op.drop_column("parameter_versions", "revision")
    op.drop_index("ix_generations_recent", table_name="generations")
    op.drop_index("ix_generations_created_at", table_name="generations")
    op.drop_index("ix_generations_contexts", table_name="generations", postgresql_where=sa.text("contexts IS NOT NULL"))
    op.drop_column("feedback", "implied")
    op.drop_table("incentive_points")
    op.drop_table("learning_failures")
    op.drop_table("anonymous_evidence")
