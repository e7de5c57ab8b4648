"""Whatever is sent: the one error form, the right status, nothing written."""

import json
from collections.abc import Callable

import pytest
from sqlalchemy import func, select

from learner.store.models import Feedback, Generation
from tests.service.conftest import MODEL, Stack, TenantClient

MESSAGES = [{"role": "user", "content": "hi"}]


def chat(**changes: object) -> dict[str, object]:
    return {"model": MODEL, "messages": MESSAGES, "max_tokens": 4, **changes}


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        (chat(messages=[{"role": "user", "content": ""}]), 422, "last message is empty"),
        (chat(messages=[{"role": "user", "content": "   "}]), 422, "last message is empty"),
        (chat(messages=[{"role": "robot", "content": "hi"}]), 422, "messages.0.role"),
        (chat(messages=[{"role": "user", "content": "word " * 5000}]), 422, "the model's context is"),
        (chat(messages="hi"), 422, "messages"),
        (chat(model="gpt-4"), 404, "not served here; this server has 'cage-pocket'"),
        (chat(cage={"weights": {"greed": 1.0}}), 422, "unknown principal 'greed'; this tenant's principals"),
        (chat(cage={"weights": {"detail": -0.5}}), 422, "cage.weights.detail"),
        (chat(cage={"weights": {"detail": "NaN"}}), 422, "cage.weights.detail"),
        (chat(cage={"strength": -1}), 422, "cage.strength"),
        (chat(cage={"mode": "duel"}), 422, "unknown mode 'duel'; known modes"),
        (chat(cage={"wieghts": {}}), 422, "cage.wieghts"),
        (chat(temperature=9), 422, "temperature"),
        (chat(max_tokens=0), 422, "max_tokens"),
        (chat(max_tokens=100_000), 422, "exceed the context"),
        (chat(n=9), 422, "n"),
        (chat(stop=["a"] * 9), 422, "at most 4 stop texts"),
        (chat(user="a\x00b"), 422, "user"),
        (chat(tempreature=1), 422, "tempreature"),
        ({"model": MODEL}, 422, "messages"),
        ([], 422, ""),
    ],
)
def test_a_chat_request_that_cannot_be_right(
    tenant: TenantClient, stack: Stack, body: object, status: int, said: str
) -> None:
    response = tenant.http.post("/v1/chat/completions", json=body)
    assert response.status_code == status, response.text
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert said in error["message"]
    assert response.headers["x-request-id"]
    assert count(stack, tenant, Generation) == 0


@pytest.mark.parametrize("body", ["{", '{"model": NaN', "", "\x00", "[" * 5000])
def test_malformed_json(tenant: TenantClient, body: str) -> None:
    headers = {"content-type": "application/json"}
    response = tenant.http.post("/v1/chat/completions", content=body, headers=headers)
    assert response.status_code == 422
    assert response.json()["error"]["type"] == "invalid_request_error"


def test_nan_in_json(tenant: TenantClient) -> None:
    body = json.dumps(chat(cage={"weights": {"detail": float("nan")}}))
    headers = {"content-type": "application/json"}
    response = tenant.http.post("/v1/chat/completions", content=body, headers=headers)
    assert response.status_code == 422
    assert "cage.weights.detail" in response.json()["error"]["message"]


def test_an_oversized_body(tenant: TenantClient) -> None:
    response = tenant.http.post(
        "/v1/chat/completions", json=chat(messages=[{"role": "user", "content": "x" * 2_000_000}])
    )
    assert response.status_code == 413
    assert response.json()["error"]["code"] == "body_too_large"


def test_an_oversized_body_that_does_not_say_so(tenant: TenantClient) -> None:
    response = tenant.http.post(
        "/v1/chat/completions",
        content=(b"x" * 100_000 for _ in range(20)),
        headers={"content-type": "application/json"},
    )
    assert response.status_code == 413
    assert response.json()["error"]["code"] == "body_too_large"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/chat/completions"),
        ("GET", "/v1/models"),
        ("POST", "/v1/feedback"),
        ("GET", "/v1/feedback/fb_x"),
        ("PUT", "/v1/feedback/fb_x"),
        ("DELETE", "/v1/feedback/fb_x"),
        ("GET", "/v1/users/ada/weights"),
    ],
)
@pytest.mark.parametrize("key", [None, "Bearer cage_wrong", "Bearer", "Basic YTpi", "Bearer \xff"])
def test_no_way_in_without_a_key(tenant: TenantClient, method: str, path: str, key: str | None) -> None:
    headers = {"Authorization": key.encode("latin-1") if key is not None else b""}
    response = tenant.http.request(method, path, headers=headers, json={} if method in ("POST", "PUT") else None)
    assert response.status_code == 401
    assert response.json()["error"]["code"] == "invalid_api_key"
    assert response.headers["www-authenticate"] == "Bearer"


def test_feedback_for_unknown_and_foreign_answers(
    tenant: TenantClient, new_tenant: Callable[[], TenantClient], stack: Stack
) -> None:
    foreign = new_tenant().ask()["id"]
    for inference_id in ("chatcmpl-nowhere", foreign):
        response = tenant.http.post("/v1/feedback", json={"inference_id": inference_id, "value": "up"})
        assert response.status_code == 404, response.text
        assert response.json()["error"]["code"] == "not_found"
    assert count(stack, tenant, Feedback) == 0


@pytest.mark.parametrize("value", ["maybe", 2, 0.5, None, [], {}, ""])
def test_a_vote_that_is_none(tenant: TenantClient, value: object) -> None:
    response = tenant.http.post("/v1/feedback", json={"inference_id": tenant.ask()["id"], "value": value})
    assert response.status_code == 422
    assert response.json()["error"]["param"] == "value"


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        (
            "POST",
            "/v1/chat/completions",
            b'{"model": "m", "messages": [{"role": "user", "content": "\\ud800"}]}',
        ),
        ("POST", "/v1/feedback", b'{"inference_id": "a\\u0000b", "value": "up"}'),
        ("GET", "/v1/feedback/%00", b""),
        ("PUT", "/v1/feedback/%00", b'{"value": "up"}'),
        ("DELETE", "/v1/feedback/%00", b""),
        ("GET", "/v1/users/%00/weights", b""),
    ],
)
def test_characters_that_nothing_can_store(tenant: TenantClient, method: str, path: str, body: bytes) -> None:
    response = tenant.http.request(method, path, content=body, headers={"content-type": "application/json"})
    assert response.status_code == 422, response.text
    assert response.json()["error"]["type"] == "invalid_request_error"


def test_unknown_paths_and_methods(tenant: TenantClient) -> None:
    assert tenant.http.get("/v1/nowhere").json()["error"]["type"] == "invalid_request_error"
    assert tenant.http.patch("/v1/feedback").status_code == 405


def count(stack: Stack, tenant: TenantClient, table: type[Feedback] | type[Generation]) -> int:
    with stack.services.database.session() as session:
        found = session.scalar(select(func.count()).select_from(table).where(table.tenant_id == tenant.tenant_id))
        return found or 0
