"""indexes of the dashboard: votes over time, newest answers, newest parameter versions"""

from collections.abc import Sequence

from alembic import op

revision: str = "0004"
down_revision: str | None = "0003"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None


def upgrade() -> None:
    op.drop_index("ix_feedback_recent", table_name="feedback")
    op.create_index(
        "ix_feedback_recent",
        "feedback",
        ["tenant_id", "created_at"],
        unique=False,
        postgresql_include=["counted_value", "implied"],
    )
    op.drop_index("ix_generations_recent", table_name="generations")
    op.create_index(
        "ix_generations_recent",
        "generations",
        ["tenant_id", "created_at"],
        unique=False,
        postgresql_include=["largest_gap", "solver_seconds", "completion_tokens"],
    )
    op.create_index("ix_parameter_versions_recent", "parameter_versions", ["tenant_id", "learned_at"], unique=False)


def downgrade() -> None:
    op.drop_index("ix_parameter_versions_recent", table_name="parameter_versions")
    op.drop_index("ix_generations_recent", table_name="generations")
    op.create_index("ix_generations_recent", "generations", ["tenant_id", "created_at"], unique=False)
    op.drop_index("ix_feedback_recent", table_name="feedback")
    op.create_index("ix_feedback_recent", "feedback", ["tenant_id", "created_at"], unique=False)
