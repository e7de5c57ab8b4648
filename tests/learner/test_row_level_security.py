"""The second wall: under the tenant's role PostgreSQL itself hides every other tenant's rows."""

from collections.abc import Callable

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from learner.learning import learn
from learner.settings import LearnerSettings
from learner.store.database import Database
from learner.store.keys import create_key
from learner.store.models import Base
from tests.learner.conftest import Tenancy, now

SERVER_WIDE = {"principals"}
TENANT_TABLES = sorted(set(Base.metadata.tables) - SERVER_WIDE)


def rows_seen(database: Database, tenant_id: str | None) -> dict[str, int]:
    """Rows of every table as the tenant's role sees them; None sets no tenant."""
    with database.session(tenant_id) as session:
        if tenant_id is None:
            session.execute(text("SET LOCAL ROLE cage_tenant"))
        return {table: session.scalar(text(f"SELECT count(*) FROM {table}")) or 0 for table in TENANT_TABLES}


@pytest.fixture
def two_tenants(
    make_tenancy: Callable[[str], Tenancy], database: Database, learner_settings: LearnerSettings
) -> tuple[Tenancy, Tenancy]:
    tenancies = make_tenancy("first"), make_tenancy("second")
    for tenancy in tenancies:
        tenancy.votes(3, "ada")
        learn(database, tenancy.scope("ada"), learner_settings, now())
        learn(database, tenancy.scope(), learner_settings, now())
        with database.session() as session:
            create_key(session, tenancy.tenant_id, "k")
    return tenancies


def test_without_a_tenant_the_role_sees_no_row(two_tenants: tuple[Tenancy, Tenancy], database: Database) -> None:
    assert set(rows_seen(database, None).values()) == {0}
    # A setting that was set once reads as '' in later transactions of the connection.
    rows_seen(database, two_tenants[0].tenant_id)
    assert set(rows_seen(database, None).values()) == {0}


def test_a_tenant_sees_its_own_rows_and_no_other(two_tenants: tuple[Tenancy, Tenancy], database: Database) -> None:
    with database.session() as session:
        everything = {table: session.scalar(text(f"SELECT count(*) FROM {table}")) for table in TENANT_TABLES}
    for tenancy in two_tenants:
        seen = rows_seen(database, tenancy.tenant_id)
        assert seen["tenants"] == 1
        assert seen["feedback"] == 3
        assert all(2 * seen[table] == everything[table] for table in TENANT_TABLES)
    assert set(rows_seen(database, "ten_unknown").values()) == {0}


def test_the_role_moves_nothing_of_another_tenant(two_tenants: tuple[Tenancy, Tenancy], database: Database) -> None:
    first, second = two_tenants
    with database.session(first.tenant_id) as session:
        changed = session.execute(
            text("UPDATE feedback SET value = NULL WHERE tenant_id = :id"), {"id": second.tenant_id}
        )
        assert changed.rowcount == 0  # type: ignore[attr-defined]
    with pytest.raises(DBAPIError, match="row-level security"), database.session(first.tenant_id) as session:
        session.execute(
            text("UPDATE learner_states SET tenant_id = :id WHERE user_id = 'ada'"), {"id": second.tenant_id}
        )
    with pytest.raises(DBAPIError, match="permission denied"), database.session(first.tenant_id) as session:
        session.execute(text("DELETE FROM audit_entries"))


def test_every_table_with_tenants_has_the_wall(database: Database) -> None:
    with database.session() as session:
        guarded = session.scalars(
            text(
                "SELECT relname FROM pg_class JOIN pg_policy ON polrelid = pg_class.oid"
                " WHERE relrowsecurity AND polname = 'own_rows'"
            )
        ).all()
        role = session.execute(
            text("SELECT rolsuper, rolbypassrls, rolcanlogin FROM pg_roles WHERE rolname = 'cage_tenant'")
        ).one()
    assert sorted(guarded) == TENANT_TABLES
    assert tuple(role) == (False, False, False)
