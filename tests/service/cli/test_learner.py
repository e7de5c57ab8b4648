"""The learner's commands, on a real database."""

import json
from collections.abc import Callable

import pytest
from sqlalchemy import text
from typer.testing import CliRunner

from learner.learning import learn
from learner.settings import LearnerSettings
from learner.store.database import Database
from learner.store.tenants import CatalogueEntry, create_tenant, get_tenant, register_principals
from service.cli.main import app
from tests.learner.conftest import PRINCIPALS, Tenancy, now

Cage = Callable[..., tuple[int, str]]


@pytest.fixture
def tenancy(database: Database) -> Tenancy:
    with database.session() as session:
        register_principals(session, [CatalogueEntry(each, "adapter", "", 1.0) for each in PRINCIPALS])
        even = dict.fromkeys(PRINCIPALS, 1.0)
        tenant = create_tenant(session, name="acme", model="m", principals=even, strength=1.0, mode="linear")
    return Tenancy(database, tenant.id)


@pytest.fixture
def cage(database_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Cage:
    monkeypatch.setenv("CAGE_DATABASE_URL", database_url)
    monkeypatch.setenv("CAGE_REDIS_URL", redis_url)

    def run(*arguments: str) -> tuple[int, str]:
        result = CliRunner().invoke(app, list(arguments))
        return result.exit_code, result.stdout

    return run


def test_replay_says_identical_and_names_what_differs(
    tenancy: Tenancy, cage: Cage, learner_settings: LearnerSettings
) -> None:
    tenancy.votes(6, "ada")
    for user in ("ada", None):
        learn(tenancy.database, tenancy.scope(user), learner_settings, now())
    code, said = cage("replay")
    assert (code, "2 scopes rebuilt from 6 learned votes: identical" in said) == (0, True)
    with tenancy.database.session() as session:
        session.execute(text("UPDATE learner_states SET linear[1] = linear[1] + 1 WHERE user_id = 'ada'"))
    code, said = cage("replay")
    assert code == 1
    assert f"tenant {tenancy.tenant_id}, user 'ada'" in said
    code, said = cage("replay", "--json")
    assert code == 1
    assert "ada" in {each["scope"]["user_id"] for each in json.loads(said)["differences"]}


def test_status_shows_what_waits(tenancy: Tenancy, cage: Cage) -> None:
    tenancy.votes(3, "ada")
    code, said = cage("learner", "status", "--json")
    assert code == 0
    assert json.loads(said)["unlearned_votes"] == 3
    with tenancy.database.session() as session:
        session.execute(
            text("INSERT INTO learning_failures VALUES (:tenant, 'ada', 4, 'EvidenceOverflow', now(), now())"),
            {"tenant": tenancy.tenant_id},
        )
    code, said = cage("learner", "status")
    assert code == 0
    assert "unlearned votes   3" in said
    assert "failing scopes    1" in said
    assert "ada" in said


def test_a_tenant_is_set_to_explore(tenancy: Tenancy, cage: Cage) -> None:
    assert cage("learner", "explore", "acme", "thompson")[0] == 0
    with tenancy.database.session() as session:
        assert get_tenant(session, tenancy.tenant_id).exploration == "thompson"
    assert cage("learner", "explore", "nobody", "thompson")[0] == 2
    assert cage("learner", "explore", "acme", "wildly")[0] == 1


def test_a_worker_refuses_queues_that_do_not_exist(cage: Cage) -> None:
    assert cage("learner", "work", "--queues", "cage-learning-99")[0] == 2


def test_simulated_users_teach_a_real_engine(cage: Cage) -> None:
    code, said = cage("simulate", "--users", "2", "--thumbs", "3", "--taste", "caution+warmth", "--json")
    assert code == 0
    report = json.loads(said)
    assert [row["thumbs"] for row in report["rows"]] == [3]
    assert report["regret"] <= report["bound"] + 1e-6
    assert sum(report["rows"][0]["weights"]) == pytest.approx(1.0)
    assert cage("simulate", "--taste", "charm")[0] == 2
