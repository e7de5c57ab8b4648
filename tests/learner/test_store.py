"""Tables and repositories on a real PostgreSQL."""

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from learner.errors import (
    InvalidGeneration,
    InvalidPrincipals,
    InvalidVote,
    UnknownApiKey,
    UnknownFeedback,
    UnknownGeneration,
    UnknownPrincipal,
    UnknownTenant,
)
from learner.parameters import Parameters
from learner.scope import Scope
from learner.store.database import Database
from learner.store.feedback import get_feedback, record_vote, retract_vote
from learner.store.generations import add_generation, get_generation
from learner.store.keys import authenticate, create_key, revoke_key
from learner.store.parameters import effective_parameters
from learner.store.tenants import (
    CatalogueEntry,
    create_tenant,
    get_tenant,
    register_principals,
    tenant_principals,
)
from tests.learner.conftest import PRINCIPALS, Tenancy, now


def test_tenant_keeps_order_and_normalises_weights(database: Database) -> None:
    with database.session() as session:
        register_principals(session, [CatalogueEntry(name, "adapter", "", 2.0) for name in PRINCIPALS])
        tenant = create_tenant(
            session,
            name="acme",
            model="m",
            principals={"warmth": 3.0, "detail": 1.0},
            strength=1.0,
            mode="linear",
        )
    with database.session() as session:
        assert get_tenant(session, tenant.id).name == "acme"
        found = tenant_principals(session, tenant.id)
    assert [(each.name, each.prior_weight, each.feature_scale) for each in found] == [
        ("warmth", 0.75, 2.0),
        ("detail", 0.25, 2.0),
    ]


@pytest.mark.parametrize("weights", [{}, {"detail": 0.0}, {"detail": -1.0}, {"detail": math.nan}])
def test_bad_prior_weights_are_refused(database: Database, weights: dict[str, float]) -> None:
    with pytest.raises(InvalidPrincipals), database.session() as session:
        create_tenant(session, name="x", model="m", principals=weights, strength=1.0, mode="linear")


def test_unknown_principals_and_tenants_are_named(database: Database) -> None:
    with pytest.raises(UnknownPrincipal, match="charm"), database.session() as session:
        create_tenant(session, name="x", model="m", principals={"charm": 1.0}, strength=1.0, mode="linear")
    with pytest.raises(UnknownTenant), database.session() as session:
        effective_parameters(session, Scope("ten_none", "u"))


def test_feature_scale_stays_as_first_registered(database: Database) -> None:
    with database.session() as session:
        register_principals(session, [CatalogueEntry("detail", "adapter", "old", 2.0)])
        register_principals(session, [CatalogueEntry("detail", "adapter", "new", 5.0)])
        found = session.execute(text("SELECT description, feature_scale FROM principals")).all()
    assert found == [("new", 2.0)]


def test_keys_open_their_tenant_until_revoked(tenancy: Tenancy) -> None:
    with tenancy.database.session() as session:
        key, plaintext = create_key(session, tenancy.tenant_id, "laptop")
        stored = session.execute(text("SELECT string_agg(api_keys::text, '') FROM api_keys")).scalar_one()
    assert plaintext.startswith("cage_")
    assert plaintext not in stored
    with tenancy.database.session() as session:
        opened = authenticate(session, plaintext, now())
        assert opened is not None
        assert opened.tenant is not None
        assert opened.tenant.id == tenancy.tenant_id
        assert authenticate(session, plaintext + "x", now()) is None
        assert authenticate(session, "\udcff", now()) is None
        with pytest.raises(UnknownApiKey):
            revoke_key(session, "ten_other", key.id, now())
        assert revoke_key(session, tenancy.tenant_id, key.id, now())
        assert authenticate(session, plaintext, now()) is None


def test_one_tenant_never_sees_another(make_tenancy: Callable[[str], Tenancy]) -> None:
    first, second = make_tenancy("first"), make_tenancy("second")
    answer = first.answer("u")
    vote = first.vote(answer, 1)
    with pytest.raises(UnknownGeneration):
        second.vote(answer, 1)
    with first.database.session() as session:
        assert get_generation(session, second.tenant_id, answer) is None
        with pytest.raises(UnknownFeedback):
            get_feedback(session, second.tenant_id, vote.feedback_id)
        with pytest.raises(UnknownFeedback):
            retract_vote(session, second.tenant_id, vote.feedback_id, now())
        assert get_feedback(session, first.tenant_id, vote.feedback_id).value == 1


def test_a_vote_belongs_to_the_user_who_asked_unless_another_is_named(tenancy: Tenancy) -> None:
    answer = tenancy.answer("asker")
    assert tenancy.vote(answer, 1).scope == tenancy.scope("asker")
    assert tenancy.vote(answer, -1, user="reader").scope == tenancy.scope("reader")
    assert tenancy.vote(tenancy.answer(None), 1).scope == tenancy.scope()


def test_the_same_vote_is_a_duplicate_and_another_replaces_it(tenancy: Tenancy) -> None:
    answer = tenancy.answer("u")
    first = tenancy.vote(answer, 1)
    again = tenancy.vote(answer, 1)
    other = tenancy.vote(answer, -1)
    assert (again.feedback_id, again.duplicate) == (first.feedback_id, True)
    assert (other.feedback_id, other.duplicate) == (first.feedback_id, False)
    with tenancy.database.session() as session:
        assert retract_vote(session, tenancy.tenant_id, first.feedback_id, now()).duplicate is False
        assert retract_vote(session, tenancy.tenant_id, first.feedback_id, now()).duplicate is True
        assert get_feedback(session, tenancy.tenant_id, first.feedback_id).counted_value is None
    assert tenancy.vote(answer, -1).duplicate is False


def test_concurrent_first_votes_make_one_row(tenancy: Tenancy) -> None:
    answer = tenancy.answer("u")
    with ThreadPoolExecutor(8) as threads:
        receipts = list(threads.map(lambda _: tenancy.vote(answer, 1), range(16)))
    assert len({receipt.feedback_id for receipt in receipts}) == 1
    assert [receipt.duplicate for receipt in receipts].count(False) == 1


def test_bad_votes_and_generations_write_nothing(tenancy: Tenancy) -> None:
    answer = tenancy.answer("u")
    with pytest.raises(InvalidVote):
        tenancy.vote(answer, 0)
    for features in [(math.nan, 0.0, 0.0, 0.0), (math.inf, 0.0, 0.0, 0.0), (1.0,)]:
        with pytest.raises(InvalidGeneration):
            tenancy.answer("u", features)
    with tenancy.database.session() as session:
        assert session.scalar(text("SELECT count(*) FROM feedback")) == 0
        assert session.scalar(text("SELECT count(*) FROM generations")) == 1


@pytest.mark.parametrize("poison", ["NaN", "Infinity", "-Infinity"])
def test_the_database_itself_refuses_numbers_that_are_not_finite(tenancy: Tenancy, poison: str) -> None:
    tenancy.answer("u")
    for column in ("features", "theta"):
        with pytest.raises(IntegrityError, match=f"finite_{column}"), tenancy.database.session() as session:
            session.execute(text(f"UPDATE generations SET {column}[2] = '{poison}'"))


def test_a_failed_transaction_leaves_nothing(tenancy: Tenancy) -> None:
    answer = tenancy.answer("u")

    def fail_after_voting() -> None:
        with tenancy.database.session() as session:
            record_vote(
                session,
                tenant_id=tenancy.tenant_id,
                generation_id=answer,
                user_id=None,
                value=1,
                comment=None,
                tags=(),
                now=now(),
            )
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_after_voting()
    assert tenancy.vote(answer, 1).duplicate is False


def test_parameters_survive_their_json() -> None:
    parameters = Parameters(
        "ten_a", "ü", 3, ("a", "b"), (0.1, 1 / 3, -5e-324), (0.25, 0.75), 7, now(), oldest_feedback_at=now()
    )
    assert Parameters.from_json(parameters.to_json()) == parameters
    for text_ in ("{}", "[]", "null", "not json", '{"version": 1}'):
        with pytest.raises(ValueError, match=r".*"):
            Parameters.from_json(text_)


def test_a_duplicate_generation_id_is_refused(tenancy: Tenancy) -> None:
    answer = tenancy.answer("u")
    with tenancy.database.session() as session:
        in_force = effective_parameters(session, tenancy.scope("u"))
    with pytest.raises(IntegrityError), tenancy.database.session() as session:
        add_generation(session, tenancy.generation(answer, "u", in_force, (0.0,) * 4))
