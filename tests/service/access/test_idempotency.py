"""Repeated requests: done once, answered alike, readable for nobody else."""

import json
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import openai
import pytest
from cryptography.fernet import InvalidToken
from sqlalchemy import func, select, update

from learner.erasing import erase_user
from learner.keeping import drop_old_requests
from learner.scope import Scope
from learner.store.idempotency import ABANDONED_AFTER, KEPT, claim, finish
from learner.store.keys import SCOPES, create_key
from learner.store.models import ApiKey, Feedback, Generation, IdempotentRequest, Tenant
from service.access.sealing import Seal
from tests.service.another_server import another_server
from tests.service.conftest import MODEL, Stack, TenantClient

CHAT = "/v1/chat/completions"
QUESTION: dict[str, Any] = {
    "model": MODEL,
    "messages": [{"role": "user", "content": "How can I sleep better?"}],
    "user": "ada",
    "max_tokens": 8,
}
REPLAYED = "idempotent-replayed"
ONCE = {"Idempotency-Key": "once"}


@pytest.fixture
def admin(stack: Stack, tenant: TenantClient) -> Iterator[httpx.Client]:
    with stack.services.database.session() as session:
        _, key = create_key(session, tenant.tenant_id, "admin", SCOPES)
    with httpx.Client(base_url=stack.url, headers={"Authorization": f"Bearer {key}"}, timeout=30) as client:
        yield client


def kept(stack: Stack, tenant_id: str) -> list[IdempotentRequest]:
    with stack.services.database.session() as session:
        return list(session.scalars(select(IdempotentRequest).where(IdempotentRequest.tenant_id == tenant_id)))


def count(stack: Stack, tenant: TenantClient, table: type[Generation] | type[Feedback] | type[ApiKey]) -> int:
    with stack.services.database.session() as session:
        found = session.scalar(select(func.count()).select_from(table).where(table.tenant_id == tenant.tenant_id))
        return found or 0


def assert_replayed(first: httpx.Response, second: httpx.Response) -> None:
    assert REPLAYED not in first.headers
    assert second.headers[REPLAYED] == "true"
    assert (second.status_code, second.content) == (first.status_code, first.content)
    assert second.headers["content-type"] == first.headers["content-type"]
    assert second.headers["x-request-id"] != first.headers["x-request-id"]


def test_a_completion_is_decoded_once(stack: Stack, tenant: TenantClient) -> None:
    first = tenant.http.post(CHAT, json=QUESTION, headers=ONCE).raise_for_status()
    second = tenant.http.post(CHAT, json=QUESTION, headers=ONCE)
    assert_replayed(first, second)
    assert count(stack, tenant, Generation) == 1
    assert tenant.http.post(CHAT, json=QUESTION).raise_for_status().json()["id"] != first.json()["id"]


def test_what_is_kept_is_readable_for_nobody_else(stack: Stack, tenant: TenantClient) -> None:
    asked = {**QUESTION, "user": "grace.hopper"}
    answer = tenant.http.post(CHAT, json=asked, headers={"Idempotency-Key": "her bedtime"}).raise_for_status()
    (row,) = kept(stack, tenant.tenant_id)
    assert row.user_id == "grace.hopper"
    stored = f"{row.key} {row.fingerprint} {row.body}"
    for secret in ("hopper", "bedtime", answer.json()["id"], answer.json()["choices"][0]["message"]["content"][:12]):
        assert secret not in stored
    assert Seal(tenant.key).open(row.body["sealed"]) == answer.content
    with pytest.raises(InvalidToken):
        Seal("cage_another").open(row.body["sealed"])


def test_a_vote_is_written_once(stack: Stack, tenant: TenantClient) -> None:
    vote = {"inference_id": tenant.ask()["id"], "value": "up"}
    first = tenant.http.post("/v1/feedback", json=vote, headers=ONCE)
    assert first.status_code == 201
    # Without the key the same vote is a duplicate, and says so with 200.
    assert tenant.http.post("/v1/feedback", json=vote).json()["duplicate"]
    assert_replayed(first, tenant.http.post("/v1/feedback", json=vote, headers=ONCE))
    assert count(stack, tenant, Feedback) == 1
    assert [row.user_id for row in kept(stack, tenant.tenant_id)] == ["ada"]


def test_changes_and_retractions(stack: Stack, tenant: TenantClient) -> None:
    path = f"/v1/feedback/{tenant.vote(tenant.ask()['id'], 'up')['feedback_id']}"
    changed = tenant.http.put(path, json={"value": "down"}, headers={"Idempotency-Key": "change"})
    retracted = tenant.http.delete(path, headers={"Idempotency-Key": "retract"})
    assert (changed.json()["value"], retracted.json()["value"]) == ("down", None)
    # Repeated late, it does not bring the vote back.
    late = tenant.http.put(path, json={"value": "down"}, headers={"Idempotency-Key": "change"})
    assert_replayed(changed, late)
    assert tenant.http.get(path).json()["value"] is None
    assert_replayed(retracted, tenant.http.delete(path, headers={"Idempotency-Key": "retract"}))
    assert {row.user_id for row in kept(stack, tenant.tenant_id)} == {"ada"}


def test_a_key_is_made_once_and_its_secret_can_be_had_again(
    stack: Stack, tenant: TenantClient, admin: httpx.Client
) -> None:
    before = count(stack, tenant, ApiKey)
    first = admin.post("/v1/keys", json={"label": "shop"}, headers=ONCE)
    assert first.status_code == 201
    assert_replayed(first, admin.post("/v1/keys", json={"label": "shop"}, headers=ONCE))
    assert count(stack, tenant, ApiKey) == before + 1
    (row,) = kept(stack, tenant.tenant_id)
    assert first.json()["key"] not in str(row.body)
    rotation = f"/v1/keys/{first.json()['id']}/rotate"
    rotated = admin.post(rotation, json={"grace_seconds": 60}, headers={"Idempotency-Key": "rotate"})
    again = admin.post(rotation, json={"grace_seconds": 60}, headers={"Idempotency-Key": "rotate"})
    assert_replayed(rotated, again)
    assert count(stack, tenant, ApiKey) == before + 2


def test_erasing_leaves_no_name_behind(stack: Stack, tenant: TenantClient, admin: httpx.Client) -> None:
    tenant.http.post(CHAT, json=QUESTION, headers={"Idempotency-Key": "question"}).raise_for_status()
    admin.post("/v1/users/ada/reset", headers={"Idempotency-Key": "reset"}).raise_for_status()
    assert {row.user_id for row in kept(stack, tenant.tenant_id)} == {"ada"}
    first = admin.delete("/v1/users/ada", headers=ONCE).raise_for_status()
    assert_replayed(first, admin.delete("/v1/users/ada", headers=ONCE))
    assert [row.user_id for row in kept(stack, tenant.tenant_id)] == [None]


def test_every_write_takes_a_key(stack: Stack) -> None:
    document = httpx.get(f"{stack.url}/openapi.json").json()["paths"]
    writes = [
        (path, operation)
        for path, methods in document.items()
        for method, operation in methods.items()
        if method in ("post", "put", "patch", "delete") and path.startswith("/v1")
    ]
    assert len(writes) > 8
    for path, operation in writes:
        assert "Idempotency-Key" in [parameter["name"] for parameter in operation.get("parameters", [])], path


def test_an_operator_without_a_tenant(stack: Stack) -> None:
    with stack.services.database.session() as session:
        _, key = create_key(session, None, "operator", SCOPES)
    name = {"Idempotency-Key": f"for {key}"[:256]}
    with httpx.Client(base_url=stack.url, headers={"Authorization": f"Bearer {key}"}) as operator:
        first = operator.post("/v1/keys", json={"label": "second operator"}, headers=name)
        assert_replayed(first, operator.post("/v1/keys", json={"label": "second operator"}, headers=name))


def test_the_same_key_for_something_else(stack: Stack, tenant: TenantClient, admin: httpx.Client) -> None:
    first = tenant.http.post(CHAT, json=QUESTION, headers=ONCE).raise_for_status()
    others = [
        tenant.http.post(CHAT, json={**QUESTION, "max_tokens": 9}, headers=ONCE),
        tenant.http.post("/v1/feedback", json={"inference_id": first.json()["id"], "value": "up"}, headers=ONCE),
        admin.post(CHAT, json=QUESTION, headers=ONCE),
    ]
    for response in others:
        assert response.status_code == 422
        assert response.json()["error"]["code"] == "idempotency_key_reused"
    assert count(stack, tenant, Generation) == 1
    assert count(stack, tenant, Feedback) == 0


def test_keys_are_a_tenants_own(tenant: TenantClient, new_tenant: Callable[[], TenantClient]) -> None:
    first = tenant.http.post(CHAT, json=QUESTION, headers=ONCE).raise_for_status()
    other = new_tenant().http.post(CHAT, json=QUESTION, headers=ONCE).raise_for_status()
    assert REPLAYED not in other.headers
    assert other.json()["id"] != first.json()["id"]


def test_a_failure_is_no_answer(stack: Stack, tenant: TenantClient) -> None:
    unknown = {"inference_id": "chatcmpl-none", "value": "up"}
    for body, status in ((unknown, 404), ({"value": "up"}, 422), (unknown, 404)):
        response = tenant.http.post("/v1/feedback", json=body, headers=ONCE)
        assert response.status_code == status
        assert REPLAYED not in response.headers
    assert kept(stack, tenant.tenant_id) == []
    assert tenant.http.post("/v1/keys", json={"label": "x"}, headers=ONCE).status_code == 403
    assert kept(stack, tenant.tenant_id) == []


def test_a_refusal_by_a_limit_is_no_answer_and_a_repetition_is_free(stack: Stack, tenant: TenantClient) -> None:
    with stack.services.database.session() as session:
        session.execute(update(Tenant).where(Tenant.id == tenant.tenant_id).values(requests_per_minute=1))
    stack.services.callers.forget()
    bearer = {"Authorization": f"Bearer {tenant.key}"}
    with another_server(stack) as url, httpx.Client(base_url=url, headers=bearer, timeout=30) as http:
        first = http.post(CHAT, json=QUESTION, headers=ONCE).raise_for_status()
        refused = http.post(CHAT, json=QUESTION, headers={"Idempotency-Key": "second"})
        assert refused.status_code == 429
        assert len(kept(stack, tenant.tenant_id)) == 1
        assert_replayed(first, http.post(CHAT, json=QUESTION, headers=ONCE))


def test_at_the_same_time(stack: Stack, tenant: TenantClient) -> None:
    """Five at once through the official client, which repeats a 409 by itself: one answer for all."""
    ids: list[str] = []
    body = {**QUESTION, "max_tokens": 200}

    def ask() -> None:
        with openai.OpenAI(base_url=f"{stack.url}/v1", api_key=tenant.key, max_retries=20) as client:
            ids.append(client.chat.completions.create(**body, extra_headers=ONCE).id)

    threads = [threading.Thread(target=ask) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ids) == 5
    assert len(set(ids)) == 1
    assert count(stack, tenant, Generation) == 1


def test_under_way_is_409_until_it_is_taken_for_lost(stack: Stack, tenant: TenantClient) -> None:
    first = tenant.http.post(CHAT, json=QUESTION, headers=ONCE).raise_for_status()

    def put_under_way(age: timedelta) -> None:
        """As a process leaves it that was killed in the middle."""
        with stack.services.database.session() as session:
            session.execute(
                update(IdempotentRequest)
                .where(IdempotentRequest.tenant_id == tenant.tenant_id)
                .values(status=None, body=None, created_at=datetime.now(UTC) - age)
            )

    put_under_way(timedelta(0))
    waiting = tenant.http.post(CHAT, json=QUESTION, headers=ONCE)
    assert waiting.status_code == 409
    assert waiting.json()["error"]["code"] == "request_under_way"
    assert waiting.headers["retry-after"] == "1"
    put_under_way(ABANDONED_AFTER + timedelta(seconds=1))
    other = tenant.http.post(CHAT, json={**QUESTION, "max_tokens": 9}, headers=ONCE)
    assert other.status_code == 422
    again = tenant.http.post(CHAT, json=QUESTION, headers=ONCE).raise_for_status()
    assert again.json()["id"] != first.json()["id"]
    assert_replayed(again, tenant.http.post(CHAT, json=QUESTION, headers=ONCE))


def test_after_a_day_it_is_a_new_request(stack: Stack, tenant: TenantClient) -> None:
    first = tenant.http.post(CHAT, json=QUESTION, headers=ONCE).raise_for_status()
    with stack.services.database.session() as session:
        session.execute(
            update(IdempotentRequest)
            .where(IdempotentRequest.tenant_id == tenant.tenant_id)
            .values(created_at=datetime.now(UTC) - KEPT - timedelta(seconds=1))
        )
    second = tenant.http.post(CHAT, json={**QUESTION, "max_tokens": 9}, headers=ONCE).raise_for_status()
    assert second.json()["id"] != first.json()["id"]
    assert drop_old_requests(stack.services.database, datetime.now(UTC)) == 0
    assert drop_old_requests(stack.services.database, datetime.now(UTC) + KEPT + timedelta(seconds=1)) >= 1
    assert kept(stack, tenant.tenant_id) == []


def test_who_lost_the_claim_does_not_write(stack: Stack, tenant: TenantClient) -> None:
    now = datetime.now(UTC)
    with stack.services.database.session(tenant.tenant_id) as session:
        assert claim(session, tenant.tenant_id, "k", "f", now) is None
        held = claim(session, tenant.tenant_id, "k", "f", now + timedelta(seconds=1))
        assert held is not None
        assert held.created_at == now


def test_a_stream_cannot_be_repeated(stack: Stack, tenant: TenantClient) -> None:
    refused = tenant.http.post(CHAT, json={**QUESTION, "stream": True}, headers=ONCE)
    assert refused.status_code == 422
    assert refused.json()["error"]["param"] == "Idempotency-Key"
    assert kept(stack, tenant.tenant_id) == []


@pytest.mark.parametrize("key", [b"", b"x" * 257, b"caf\xe9", b"a\tb"])
def test_a_key_that_is_none(stack: Stack, tenant: TenantClient, key: bytes) -> None:
    refused = tenant.http.post(CHAT, json=QUESTION, headers={b"Idempotency-Key": key})
    assert refused.status_code == 422
    assert refused.json()["error"]["type"] == "invalid_request_error"
    assert count(stack, tenant, Generation) == 0


def test_the_longest_key(tenant: TenantClient) -> None:
    longest = {"Idempotency-Key": "x" * 256}
    first = tenant.http.post(CHAT, json=QUESTION, headers=longest).raise_for_status()
    assert_replayed(first, tenant.http.post(CHAT, json=QUESTION, headers=longest))


def test_a_fingerprint_tells_parts_apart() -> None:
    seal = Seal("cage_x")
    assert seal.fingerprint(b"ab", b"c") != seal.fingerprint(b"a", b"bc")
    assert seal.fingerprint(b"ab") != Seal("cage_y").fingerprint(b"ab")
    assert seal.close(b"x") != seal.close(b"x")


@pytest.mark.parametrize("named", [True, False])
def test_an_answer_under_way_is_not_kept_of_a_user_who_is_erased(
    stack: Stack, tenant: TenantClient, named: bool
) -> None:
    """`named`: the request says whose answer it will be; else that turns out with the answer."""
    scope, now = Scope(tenant.tenant_id, "ada"), datetime.now(UTC)
    tenant.vote(tenant.ask()["id"], "up")
    database = stack.services.database
    with database.session(tenant.tenant_id) as session:
        assert claim(session, tenant.tenant_id, "k", "f", now, "ada" if named else None) is None
    with database.session(tenant.tenant_id) as session:
        erase_user(session, scope, stack.services.settings, now)
    with database.session(tenant.tenant_id) as session:
        finish(session, tenant.tenant_id, "k", now, 200, "sealed", None if named else "ada")
    assert kept(stack, tenant.tenant_id) == []


@pytest.mark.parametrize("user", ["nul \x00", "\ud800", "x" * 257, "", 7, ["ada"]])
def test_a_user_that_cannot_be_is_refused_under_a_key_too(stack: Stack, tenant: TenantClient, user: object) -> None:
    content = json.dumps({**QUESTION, "user": user})
    headers = {**ONCE, "Content-Type": "application/json"}
    assert tenant.http.post(CHAT, content=content, headers=headers).status_code == 422
    assert kept(stack, tenant.tenant_id) == []
