"""Tenants through the API: made, changed, deleted; and how soon answers follow."""

from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from learner.relearning import relearn
from learner.replay import replay
from learner.scope import Scope
from learner.store.tenants import change_principals
from tests.learner.conftest import now
from tests.service.clients import client_with
from tests.service.conftest import Stack, TenantClient
from tests.traces import everything_in, rows_naming
from tests.waiting import wait_until


@pytest.fixture
def operator(stack: Stack) -> Iterator[httpx.Client]:
    with client_with(stack, None, "generate", "feedback", "read", "operate", "admin") as client:
        yield client


@pytest.fixture
def admin(stack: Stack, tenant: TenantClient) -> Iterator[httpx.Client]:
    with client_with(stack, tenant.tenant_id, "admin") as client:
        yield client


def changed(client: httpx.Client, tenant: TenantClient, **body: Any) -> dict[str, Any]:
    view: dict[str, Any] = client.patch(f"/v1/tenants/{tenant.tenant_id}", json=body).raise_for_status().json()
    return view


def test_an_operator_makes_a_tenant_that_answers(operator: httpx.Client, tenant: TenantClient) -> None:
    body = {"name": "an operator's", "principals": {"caution": 3, "brevity": 1}, "strength": 2, "retention_days": 7.5}
    made = operator.post("/v1/tenants", json=body).raise_for_status().json()
    assert made["principals"] == {"caution": 0.75, "brevity": 0.25}
    assert (made["strength"], made["retention_days"], made["stores_text"]) == (2, 7.5, False)
    assert operator.get(f"/v1/tenants/{made['id']}").json() == made
    acting = {"X-Cage-Tenant": made["id"]}
    key = operator.post("/v1/keys", json={"label": "k"}, headers=acting).raise_for_status().json()["key"]
    answer = tenant.http.post(
        "/v1/chat/completions",
        json={"model": "cage-pocket", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 4},
        headers={"Authorization": f"Bearer {key}"},
    )
    assert answer.raise_for_status().json()["cage"]["weights"] == {"caution": 0.75, "brevity": 0.25}
    again = operator.post("/v1/tenants", json={"name": "an operator's"})
    assert (again.status_code, "choose another name" in again.json()["error"]["message"]) == (422, True)


def test_defaults_are_the_servers(operator: httpx.Client, stack: Stack) -> None:
    made = operator.post("/v1/tenants", json={"name": "plain"}).raise_for_status().json()
    assert set(made["principals"]) == set(stack.services.engine.model.principals)
    assert made["strength"] == stack.services.settings.default_strength


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"mode": "duel"}, "there are the modes"),
        ({"principals": {"greed": 1}}, "no principal 'greed' is loaded"),
        ({"principals": {}}, "principals"),
        ({"principals": {"caution": 0}}, "positive prior weight"),
        ({"principals": {"caution": -1}}, "principals.caution"),
        ({"strength": "much"}, "strength"),
        ({"kl_budget_nats": 0.1, "mode": "base"}, "KL budget"),
        ({"retention_days": 0}, "retention_days"),
        ({"colour": "red"}, "colour"),
        ({"name": ""}, "name"),
    ],
)
def test_what_makes_no_sense_changes_nothing(
    admin: httpx.Client, tenant: TenantClient, body: dict[str, Any], said: str
) -> None:
    before = admin.get(f"/v1/tenants/{tenant.tenant_id}").json()
    refused = admin.patch(f"/v1/tenants/{tenant.tenant_id}", json=body)
    assert refused.status_code == 422, refused.text
    assert said in refused.json()["error"]["message"]
    assert admin.get(f"/v1/tenants/{tenant.tenant_id}").json() == before


def test_a_tenants_admin_steers_but_sets_no_limits(
    admin: httpx.Client, operator: httpx.Client, tenant: TenantClient
) -> None:
    view = changed(admin, tenant, strength=1.5, mode="linear", exploration="thompson", kl_budget_nats=0.2)
    steering = ("strength", "mode", "exploration", "kl_budget_nats")
    assert [view[name] for name in steering] == [1.5, "linear", "thompson", 0.2]
    assert changed(admin, tenant, kl_budget_nats=None)["kl_budget_nats"] is None
    refused = admin.patch(f"/v1/tenants/{tenant.tenant_id}", json={"requests_per_minute": 5})
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "operator_only")
    assert changed(operator, tenant, requests_per_minute=500)["requests_per_minute"] == 500
    assert changed(operator, tenant, requests_per_minute=None)["requests_per_minute"] is None
    assert admin.post("/v1/tenants", json={"name": "mine"}).json()["error"]["code"] == "operator_only"
    assert admin.delete(f"/v1/tenants/{tenant.tenant_id}").json()["error"]["code"] == "operator_only"


def test_tenants_do_not_see_each_other(
    admin: httpx.Client, operator: httpx.Client, tenant: TenantClient, new_tenant: Callable[[], TenantClient]
) -> None:
    other = new_tenant()
    assert [each["id"] for each in admin.get("/v1/tenants").json()["data"]] == [tenant.tenant_id]
    assert admin.get(f"/v1/tenants/{other.tenant_id}").status_code == 404
    assert admin.patch(f"/v1/tenants/{other.tenant_id}", json={"strength": 1}).status_code == 404
    listed, after = [], None
    while True:
        page = operator.get("/v1/tenants", params={"limit": 2} | ({"after": after} if after else {})).json()
        listed += [each["id"] for each in page["data"]]
        after = page["next_after"]
        if after is None:
            break
    assert listed == sorted(listed)
    assert {tenant.tenant_id, other.tenant_id} <= set(listed)
    assert tenant.http.get("/v1/tenants").status_code == 403


def test_new_prior_weights_reach_answers_at_once(admin: httpx.Client, tenant: TenantClient) -> None:
    assert tenant.state("new")["weights"]["caution"] == pytest.approx(0.25)
    changed(admin, tenant, principals={"caution": 9, "warmth": 1})
    assert tenant.state("new")["weights"] == {"caution": 0.9, "warmth": 0.1}
    assert tenant.ask(user="new", max_tokens=2)["cage"]["weights"] == {"caution": 0.9, "warmth": 0.1}


def test_what_was_learned_is_solved_for_the_new_configuration(
    admin: httpx.Client, tenant: TenantClient, stack: Stack
) -> None:
    for seed in range(3):
        tenant.vote(tenant.ask(seed=seed)["id"], "down" if seed % 2 else "up")
    learned = tenant.wait_for_votes(3)
    before = tenant.wait_for_votes(3, "new")
    all_four = dict.fromkeys(learned["weights"], 1.0)
    changed(admin, tenant, principals={"caution": 1, "brevity": 1})
    for user, old in (("ada", learned), ("new", before)):
        state = tenant.state(user)
        assert set(state["weights"]) == {"caution", "brevity"}
        assert state["parameter_version"] > old["parameter_version"]
        assert state["feedback_count"] == old["feedback_count"]
    assert tenant.ask(max_tokens=2)["cage"]["weights"] == tenant.state()["weights"]
    # Nothing was lost on the way: back at the old configuration everything is as it was.
    changed(admin, tenant, principals=all_four)
    assert tenant.state()["weights"] == learned["weights"]
    assert tenant.state("new")["weights"] == before["weights"]
    report = replay(stack.services.database, stack.services.settings, lambda done, total: None)
    assert report.differences == ()


def test_a_decoder_that_hears_nothing_finds_out_by_itself(
    admin: httpx.Client, tenant: TenantClient, stack: Stack
) -> None:
    tenant.state("new")
    with stack.services.database.session() as session:
        change_principals(session, tenant.tenant_id, {"caution": 1.0})
    wait_until(lambda: tenant.state("new")["weights"] == {"caution": 1.0})


def test_solving_again_changes_nothing_where_nothing_changed(tenant: TenantClient, stack: Stack) -> None:
    tenant.vote(tenant.ask()["id"])
    version = tenant.wait_for_votes(1)["parameter_version"]
    scope = Scope(tenant.tenant_id, "ada")
    again = relearn(stack.services.database, scope, stack.services.settings, now())
    assert again is not None
    assert again.version == version
    assert relearn(stack.services.database, Scope(tenant.tenant_id, "x"), stack.services.settings, now()) is None


def test_a_deleted_tenant_is_gone_everywhere_but_in_the_audit_log(
    operator: httpx.Client, tenant: TenantClient, stack: Stack
) -> None:
    tenant.vote(tenant.ask()["id"])
    tenant.wait_for_votes(1)
    deleted = operator.delete(f"/v1/tenants/{tenant.tenant_id}").raise_for_status().json()
    assert deleted["deleted"]["generations"] == deleted["deleted"]["feedback"] == 1
    assert tenant.http.get("/v1/models").status_code == 401
    assert set(rows_naming(stack.services.database, tenant.tenant_id)) == {"audit_entries"}
    prefix = f"cage:parameters:{len(tenant.tenant_id)}:{tenant.tenant_id}".encode()
    assert prefix not in everything_in(stack.services.redis)
    assert operator.get(f"/v1/tenants/{tenant.tenant_id}").status_code == 404
    assert operator.delete(f"/v1/tenants/{tenant.tenant_id}").status_code == 404
    log = operator.get("/v1/audit").json()["data"]
    assert (log[0]["action"], log[0]["target"]) == ("tenant.delete", tenant.tenant_id)


def test_the_catalogue(tenant: TenantClient) -> None:
    found = {each["name"]: each for each in tenant.http.get("/v1/principals").raise_for_status().json()["data"]}
    assert found["caution"]["kind"] == "adapter"
    assert found["caution"]["loaded"]
    assert found["caution"]["feature_scale"] > 0
