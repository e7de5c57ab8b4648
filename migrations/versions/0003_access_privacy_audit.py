"""key scopes, limits, stored text, audit, idempotency, row-level security"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0003"
down_revision: str | None = "0002"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None

ROLE = "cage_tenant"

# Column that says whose row it is.
OWNER_COLUMNS = {
    "tenants": "id",
    "api_keys": "tenant_id",
    "tenant_principals": "tenant_id",
    "generations": "tenant_id",
    "transcripts": "tenant_id",
    "feedback": "tenant_id",
    "learner_states": "tenant_id",
    "anonymous_evidence": "tenant_id",
    "tenant_shares": "tenant_id",
    "learning_failures": "tenant_id",
    "parameter_versions": "tenant_id",
    "regret_points": "tenant_id",
    "incentive_points": "tenant_id",
    "audit_entries": "tenant_id",
    "idempotent_requests": "tenant_id",
}


def upgrade() -> None:
    _settings_of_tenants_and_keys()
    _records()
    _row_level_security()


def _settings_of_tenants_and_keys() -> None:
    op.add_column("tenants", sa.Column("kl_budget_nats", sa.Double(), nullable=True))
    op.add_column("tenants", sa.Column("balance", sa.Double(), server_default=sa.text("0"), nullable=False))
    op.add_column("tenants", sa.Column("stores_text", sa.Boolean(), server_default=sa.false(), nullable=False))
    op.add_column("tenants", sa.Column("stores_traces", sa.Boolean(), server_default=sa.false(), nullable=False))
    op.add_column("tenants", sa.Column("retention_days", sa.Double(), server_default=sa.text("30"), nullable=False))
    for limit in ("requests", "tokens", "user_requests", "user_tokens"):
        op.add_column("tenants", sa.Column(f"{limit}_per_minute", sa.Integer(), nullable=True))
    op.create_check_constraint(op.f("ck_tenants_positive_retention"), "tenants", "retention_days > 0")

    op.alter_column("api_keys", "tenant_id", nullable=True)
    # Keys made before there were scopes keep what they could do.
    before = sa.text("ARRAY['generate', 'feedback', 'read']")
    op.add_column("api_keys", sa.Column("scopes", sa.ARRAY(sa.Text()), server_default=before, nullable=False))
    op.alter_column("api_keys", "scopes", server_default=None)
    op.add_column("api_keys", sa.Column("requests_per_minute", sa.Integer(), nullable=True))
    op.add_column("api_keys", sa.Column("tokens_per_minute", sa.Integer(), nullable=True))
    op.add_column("api_keys", sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True))
    op.create_check_constraint(op.f("ck_api_keys_some_scope"), "api_keys", "cardinality(scopes) > 0")
    known = "scopes <@ ARRAY['generate', 'feedback', 'read', 'operate', 'admin']"
    op.create_check_constraint(op.f("ck_api_keys_known_scopes"), "api_keys", known)

    op.add_column("generations", sa.Column("solver_seconds", sa.Double(), nullable=True))


def _records() -> None:
    json = postgresql.JSONB(none_as_null=True, astext_type=sa.Text())
    op.create_table(
        "transcripts",
        sa.Column("generation_id", sa.Text(), nullable=False),
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("messages", json, nullable=True),
        sa.Column("answer", sa.Text(), nullable=True),
        sa.Column("tokens", json, nullable=True),
        sa.ForeignKeyConstraint(
            ["generation_id"], ["generations.id"], name=op.f("fk_transcripts_generation_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["tenants.id"], name=op.f("fk_transcripts_tenant_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("generation_id", name=op.f("pk_transcripts")),
    )
    op.create_index(op.f("ix_transcripts_tenant_id_created_at"), "transcripts", ["tenant_id", "created_at"])
    op.create_table(
        "audit_entries",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("tenant_id", sa.Text(), nullable=True),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("details", json, nullable=True),
        sa.Column("request_id", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_entries")),
    )
    op.create_index(op.f("ix_audit_entries_tenant_id_id"), "audit_entries", ["tenant_id", "id"])
    op.create_table(
        "idempotent_requests",
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("user_id", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("status", sa.SmallInteger(), nullable=True),
        sa.Column("body", json, nullable=True),
        sa.PrimaryKeyConstraint("tenant_id", "key", name=op.f("pk_idempotent_requests")),
    )
    op.create_index(op.f("ix_idempotent_requests_created_at"), "idempotent_requests", ["created_at"])


def _row_level_security() -> None:
    # Roles belong to the server, not to the database: another database of it may have made this one already.
    op.execute(
        f"""
        DO $$ BEGIN
            CREATE ROLE {ROLE} NOLOGIN NOSUPERUSER NOBYPASSRLS NOCREATEDB NOCREATEROLE;
        EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
        END $$
        """
    )
    op.execute(f"GRANT {ROLE} TO CURRENT_USER")
    op.execute(f"GRANT SELECT ON principals TO {ROLE}")
    for table, column in OWNER_COLUMNS.items():
        op.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO {ROLE}")
        op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
        # A setting that was once set in a session reads '' afterwards; that must open nothing, not even rows of ''.
        own = f"{column} = nullif(current_setting('cage.tenant_id', true), '')"
        op.execute(f"CREATE POLICY own_rows ON {table} TO {ROLE} USING ({own}) WITH CHECK ({own})")
    # An audit that can be rewritten is none.
    op.execute(f"REVOKE UPDATE, DELETE ON audit_entries FROM {ROLE}")


def downgrade() -> None:
    for table in OWNER_COLUMNS:
        op.execute(f"DROP POLICY own_rows ON {table}")
        op.execute(f"ALTER TABLE {table} DISABLE ROW LEVEL SECURITY")
        op.execute(f"REVOKE ALL ON {table} FROM {ROLE}")
    op.execute(f"REVOKE ALL ON principals FROM {ROLE}")
    for table in ("idempotent_requests", "audit_entries", "transcripts"):
        op.drop_table(table)
    op.drop_column("generations", "solver_seconds")
    op.drop_constraint(op.f("ck_api_keys_known_scopes"), "api_keys")
    op.drop_constraint(op.f("ck_api_keys_some_scope"), "api_keys")
    for column in ("expires_at", "tokens_per_minute", "requests_per_minute", "scopes"):
        op.drop_column("api_keys", column)
    op.execute("DELETE FROM api_keys WHERE tenant_id IS NULL")
    op.alter_column("api_keys", "tenant_id", nullable=False)
    op.drop_constraint(op.f("ck_tenants_positive_retention"), "tenants")
    for limit in ("user_tokens", "user_requests", "tokens", "requests"):
        op.drop_column("tenants", f"{limit}_per_minute")
    for column in ("retention_days", "stores_traces", "stores_text", "balance", "kl_budget_nats"):
        op.drop_column("tenants", column)
