"""Keys: scopes, rotation, revocation, and an operator's key that acts for a tenant."""

from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from learner.store.keys import SCOPES, create_key
from tests.service.conftest import Stack, TenantClient
from tests.waiting import wait_until


@pytest.fixture
def operator(stack: Stack) -> Iterator[httpx.Client]:
    """A client with an operator's key of all scopes."""
    with stack.services.database.session() as session:
        _, key = create_key(session, None, "operator", SCOPES)
    with httpx.Client(base_url=stack.url, headers={"Authorization": f"Bearer {key}"}, timeout=30) as client:
        yield client


@pytest.fixture
def admin(stack: Stack, tenant: TenantClient) -> Iterator[httpx.Client]:
    """A client with an admin key of the tenant."""
    with stack.services.database.session() as session:
        _, key = create_key(session, tenant.tenant_id, "admin", ["admin"])
    with httpx.Client(base_url=stack.url, headers={"Authorization": f"Bearer {key}"}, timeout=30) as client:
        yield client


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def made(client: httpx.Client, **body: Any) -> dict[str, Any]:
    response = client.post("/v1/keys", json={"label": "made", **body})
    assert response.status_code == 201, response.text
    created: dict[str, Any] = response.json()
    return created


def test_a_made_key_works_until_it_is_revoked(admin: httpx.Client, tenant: TenantClient) -> None:
    created = made(admin, scopes=["read"])
    assert created["tenant"] == tenant.tenant_id
    state = tenant.http.get("/v1/users/ada/weights", headers=bearer(created["key"]))
    assert state.status_code == 200
    revoked = admin.delete(f"/v1/keys/{created['id']}").raise_for_status().json()
    assert revoked["revoked_at"] is not None
    again = tenant.http.get("/v1/users/ada/weights", headers=bearer(created["key"]))
    assert again.status_code == 401
    assert again.json()["error"]["code"] == "invalid_api_key"


def test_the_secret_is_shown_once(admin: httpx.Client) -> None:
    created = made(admin)
    listed = admin.get("/v1/keys").json()["data"]
    assert created["id"] in [key["id"] for key in listed]
    assert created["key"] not in admin.get("/v1/keys").text + admin.get(f"/v1/keys/{created['id']}").text


def test_scopes_are_what_a_key_may_do(admin: httpx.Client, tenant: TenantClient) -> None:
    reader = bearer(made(admin, scopes=["read"])["key"])
    refused = tenant.http.post("/v1/feedback", json={"inference_id": "x", "value": "up"}, headers=reader)
    assert refused.status_code == 403
    assert refused.json()["error"]["code"] == "missing_scope"
    assert tenant.http.get("/v1/keys").status_code == 403
    assert admin.get("/v1/users/ada/weights").status_code == 403


def test_rotation_keeps_both_keys_for_the_grace_period(admin: httpx.Client, tenant: TenantClient) -> None:
    old = made(admin, scopes=["read"], requests_per_minute=7)
    new = admin.post(f"/v1/keys/{old['id']}/rotate", json={"grace_seconds": 2}).raise_for_status().json()
    assert (new["scopes"], new["requests_per_minute"]) == (["read"], 7)

    def status(key: str) -> int:
        return tenant.http.get("/v1/users/ada/weights", headers=bearer(key)).status_code

    assert (status(old["key"]), status(new["key"])) == (200, 200)
    wait_until(lambda: status(old["key"]) == 401)
    assert status(new["key"]) == 200
    assert admin.post(f"/v1/keys/{old['id']}/rotate", json={}).status_code == 404


def test_a_key_ends_by_itself(admin: httpx.Client, tenant: TenantClient) -> None:
    brief = bearer(made(admin, scopes=["read"], expires_in_seconds=1)["key"])
    wait_until(lambda: tenant.http.get("/v1/users/ada/weights", headers=brief).status_code == 401)


def test_an_admin_of_one_tenant_reaches_no_other(
    admin: httpx.Client, new_tenant: Callable[[], TenantClient], operator: httpx.Client
) -> None:
    other = new_tenant()
    theirs = operator.get("/v1/keys", headers={"X-Cage-Tenant": other.tenant_id}).json()["data"][0]
    assert admin.get(f"/v1/keys/{theirs['id']}").status_code == 404
    assert admin.delete(f"/v1/keys/{theirs['id']}").status_code == 404
    assert admin.get("/v1/keys", headers={"X-Cage-Tenant": other.tenant_id}).status_code == 404
    assert other.http.get("/v1/users/ada/weights").status_code == 200


def test_an_operator_acts_for_a_tenant_by_name(operator: httpx.Client, tenant: TenantClient) -> None:
    unnamed = operator.get("/v1/users/ada/weights")
    assert unnamed.status_code == 422
    assert unnamed.json()["error"]["code"] == "tenant_not_named"
    named = {"X-Cage-Tenant": tenant.tenant_id}
    assert operator.get("/v1/users/ada/weights", headers=named).status_code == 200
    assert operator.get("/v1/users/ada/weights", headers={"X-Cage-Tenant": "ten_none"}).status_code == 404
    key = operator.post("/v1/keys", json={"label": "shop"}, headers=named).raise_for_status().json()
    assert tenant.http.get("/v1/models", headers=bearer(key["key"])).status_code == 200


def test_what_was_done_to_keys_is_on_record(admin: httpx.Client, tenant: TenantClient) -> None:
    created = made(admin, scopes=["read"])
    admin.delete(f"/v1/keys/{created['id']}").raise_for_status()
    log = admin.get("/v1/audit").raise_for_status().json()["data"]
    assert [(e["action"], e["target"]) for e in log[:2]] == [
        ("key.revoke", created["id"]),
        ("key.create", created["id"]),
    ]
    assert log[0]["request_id"]
    assert created["key"] not in str(log)
    page = admin.get("/v1/audit", params={"limit": 1}).json()
    older = admin.get("/v1/audit", params={"before": page["next_before"]}).json()
    assert older["data"] == log[1:]
