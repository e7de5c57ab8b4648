"""Every change that an administrator makes is on record, with what was before and after, and names no end user."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.service.clients import client_with
from tests.service.conftest import Stack, TenantClient


@pytest.fixture
def admin(stack: Stack, tenant: TenantClient) -> Iterator[httpx.Client]:
    with client_with(stack, tenant.tenant_id, "read", "operate", "admin") as client:
        yield client


def newest(client: httpx.Client, **params: object) -> dict[str, Any]:
    entry: dict[str, Any] = client.get("/v1/audit", params=params).raise_for_status().json()["data"][0]  # type: ignore[arg-type]
    return entry


def test_a_change_of_a_tenant_is_on_record_with_before_and_after(
    admin: httpx.Client, tenant: TenantClient, stack: Stack
) -> None:
    path = f"/v1/tenants/{tenant.tenant_id}"
    before = admin.get(path).json()
    body = {"strength": 1.25, "mode": before["mode"], "principals": {"caution": 1, "warmth": 1}}
    response = admin.patch(path, json=body).raise_for_status()
    entry = newest(admin)
    assert (entry["action"], entry["target"], entry["tenant"]) == ("tenant.change", tenant.tenant_id, tenant.tenant_id)
    assert entry["request_id"] == response.headers["x-request-id"]
    assert entry["details"] == {
        "strength": {"before": before["strength"], "after": 1.25},
        "principals": {"before": before["principals"], "after": {"caution": 0.5, "warmth": 0.5}},
    }
    admin.patch(path, json=body).raise_for_status()
    assert newest(admin) == entry, "a change that changes nothing is none"
    admin.patch(path, json={"mode": "duel"})
    assert newest(admin) == entry, "a change that was refused is none"


def test_making_and_deleting_a_tenant_is_on_record(stack: Stack) -> None:
    with client_with(stack, None, "admin") as operator:
        made = operator.post("/v1/tenants", json={"name": "brief", "strength": 1}).raise_for_status().json()
        entry = newest(operator)
        assert (entry["action"], entry["target"]) == ("tenant.create", made["id"])
        assert entry["details"] == {"name": "brief", "strength": 1}
        operator.delete(f"/v1/tenants/{made['id']}").raise_for_status()
        entry = newest(operator)
        assert (entry["action"], entry["target"], entry["tenant"]) == ("tenant.delete", made["id"], made["id"])


def test_what_is_done_to_users_is_on_record_without_their_names(admin: httpx.Client, tenant: TenantClient) -> None:
    tenant.vote(tenant.ask(user="someone", max_tokens=3)["id"], "up")
    reset = admin.post("/v1/users/someone/reset").raise_for_status().json()
    proof = admin.delete("/v1/users/someone").raise_for_status().json()
    erased, before = admin.get("/v1/audit", params={"limit": 2}).json()["data"]
    assert (erased["action"], erased["target"]) == ("user.erase", proof["receipt"])
    assert erased["details"]["deleted"] == proof["deleted"]
    assert (before["action"], before["target"]) == ("user.reset", reset["receipt"])
    assert "someone" not in str([erased, before])


def test_a_parameter_change_names_its_votes(admin: httpx.Client, tenant: TenantClient) -> None:
    vote = tenant.vote(tenant.ask(max_tokens=3)["id"], "up")
    state = tenant.wait_for_votes(1)
    (version,) = admin.get("/v1/users/ada/history").json()["data"]
    assert version["feedback_ids"] == [vote["feedback_id"]]
    assert version["weights"] == state["weights"]
    assert version["learned_at"] == state["learned_at"]
