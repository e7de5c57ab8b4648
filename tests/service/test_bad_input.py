"""Whatever is sent: the one error form, the right status, nothing written."""

import itertools
import json
import re
from collections.abc import Callable, Iterator

import httpx
import pytest
from sqlalchemy import func, select, text

from learner.store.keys import SCOPES, create_key
from learner.store.models import Base, Feedback, Generation
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


JSON = "application/json"
NESTED = 900  # as deep as the parser goes
BODIES = {
    "malformed": (b"{", JSON),
    "nothing at all": (b"\x00", JSON),
    "no utf-8": (b'{"label": "\xff\xfe"}', JSON),
    "a number": (b"5", JSON),
    "a text": (b'"text"', JSON),
    "a list": (b"[]", JSON),
    "null": (b"null", JSON),
    "a field that there is not": (b'{"surprise": 1}', JSON),
    "a field of control characters": (b'{"\\u0000\\u001b": "\\u0000"}', JSON),
    "a lone surrogate": (b'{"\\ud800": "\\udfff"}', JSON),
    "a number beyond numbers": (b'{"surprise": 1e999, "more": ' + b"9" * 5000 + b"}", JSON),
    "lists in lists": (b"[" * 100_000, JSON),
    "lists in lists, closed": (b'{"surprise": ' + b"[" * NESTED + b"]" * NESTED + b"}", JSON),
    "objects in objects": (b'{"a":' * NESTED + b"1" + b"}" * NESTED, JSON),
    "a long name": (b'{"' + b"x" * 500_000 + b'": 1}', JSON),
    "huge": (b'{"surprise": "' + b"x" * 1_100_000 + b'"}', JSON),
    "not said to be JSON": (b'{"surprise": 1}', "text/plain"),
    "a form": (b"label=x&value=up", "application/x-www-form-urlencoded"),
    "a file": (
        b"--b\r\nContent-Disposition: form-data; name=f\r\n\r\nx\r\n--b--\r\n",
        "multipart/form-data; boundary=b",
    ),
    "of no type": (b'{"surprise": 1}', "nonsense"),
    "of a type in pieces": (b'{"surprise": 1}', "application/; json ;;; charset=\xff"),
}
IDS = {
    "dots": "..%2f..%2fetc%2fpasswd",
    "controls": "%1b%5b31m",
    "no utf-8": "%ff%fe",
    "long": "x" * 5000,
    "sql": "'%20OR%201=1--",
}
# Its answer has no end, whatever is asked.
ENDLESS = "/v1/dashboard/events"


@pytest.fixture
def operator(stack: Stack, tenant: TenantClient) -> Iterator[httpx.Client]:
    """A client whose key lacks nothing: what is refused is refused for what was sent."""
    with stack.services.database.session() as session:
        _, key = create_key(session, None, "operator", SCOPES)
    headers = {"Authorization": f"Bearer {key}", "X-Cage-Tenant": tenant.tenant_id}
    with httpx.Client(base_url=stack.url, headers=headers, timeout=30) as client:
        yield client


def operations(stack: Stack, *, with_body: bool) -> list[tuple[str, str]]:
    """Method and path of every operation under /v1 that takes a body, or of those that take an id."""
    document = httpx.get(f"{stack.url}/openapi.json").json()["paths"]
    found = [
        (method.upper(), path)
        for path, methods in document.items()
        for method, operation in methods.items()
        if path.startswith("/v1") and ("requestBody" in operation if with_body else "{" in path)
    ]
    assert len(found) > 4
    return found


def rows(stack: Stack, tenant: TenantClient) -> dict[str, int]:
    """How much there is: of the tenant in every table, and of tenants and operators' keys."""
    with stack.services.database.session(tenant.tenant_id) as session:
        counted = {name: session.scalar(text(f"SELECT count(*) FROM {name}")) or 0 for name in Base.metadata.tables}
    with stack.services.database.session() as session:
        counted["all tenants"] = session.scalar(text("SELECT count(*) FROM tenants")) or 0
        counted["operators' keys"] = session.scalar(text("SELECT count(*) FROM api_keys WHERE tenant_id IS NULL")) or 0
    return counted


def assert_refused(response: httpx.Response, cell: object) -> None:
    assert 400 <= response.status_code < 500, (cell, response.status_code, response.text[:300])
    error = response.json()["error"]
    assert error.keys() == {"message", "type", "param", "code"}, cell
    assert len(error["message"]) < 500, cell
    assert "Traceback" not in response.text, cell
    assert response.headers["x-request-id"], cell


def test_every_operation_refuses_every_bad_body(stack: Stack, tenant: TenantClient, operator: httpx.Client) -> None:
    before = rows(stack, tenant)
    for (method, path), (kind, (body, content_type)) in itertools.product(
        operations(stack, with_body=True), BODIES.items()
    ):
        target = re.sub(r"\{\w+\}", "nobody", path)
        for more in ({}, {"Idempotency-Key": f"{method} {path} {kind}"}):
            headers = {
                b"Content-Type": content_type.encode("latin-1"),
                **{k.encode(): v.encode() for k, v in more.items()},
            }
            response = operator.request(method, target, content=body, headers=headers)
            assert_refused(response, (method, path, kind))
            if kind == "huge":
                assert response.status_code == 413, (method, path)
    assert rows(stack, tenant) == before


def test_every_operation_refuses_ids_of_nothing(stack: Stack, tenant: TenantClient, operator: httpx.Client) -> None:
    before = rows(stack, tenant)
    for (method, path), (kind, given) in itertools.product(operations(stack, with_body=False), IDS.items()):
        is_user = "{user_id}" in path
        # A user is whoever is named: who erases one that there is not has done so, and it goes on record.
        if path == ENDLESS or (is_user and method != "GET"):
            continue
        target = re.sub(r"\{\w+\}", given, path)
        response = operator.request(method, target, json={} if method in ("POST", "PUT", "PATCH") else None)
        if not (response.is_success and is_user):
            assert_refused(response, (method, path, kind))
    assert rows(stack, tenant) == before


@pytest.mark.parametrize("field", ["messages", "metadata", "stop", "cage"])
def test_depth_inside_a_chat_request(tenant: TenantClient, stack: Stack, field: str) -> None:
    deep: object = "x"
    for _ in range(NESTED):
        deep = [deep]
    assert_refused(tenant.http.post("/v1/chat/completions", json=chat(**{field: deep})), field)
    assert count(stack, tenant, Generation) == 0


def test_what_is_wrong_is_not_quoted_by_the_megabyte(tenant: TenantClient) -> None:
    long = "x" * 500_000
    for body in (chat(model=long), chat(cage={"mode": long}), chat(cage={"weights": {long: 1}}), chat(user=long)):
        assert_refused(tenant.http.post("/v1/chat/completions", json=body), list(body))


def test_a_request_id_that_is_none(tenant: TenantClient) -> None:
    for given in ("x" * 129, "a b", "<script>", "\x1b[31m"):
        answered = tenant.http.get("/v1/models", headers={b"x-request-id": given.encode()})
        assert answered.headers["x-request-id"] != given
    assert tenant.http.get("/v1/models", headers={"x-request-id": "my-own.1"}).headers["x-request-id"] == "my-own.1"


@pytest.mark.parametrize("seed", [2**63 - 1, -(2**63)])
def test_several_answers_from_the_first_and_the_last_seed(tenant: TenantClient, seed: int) -> None:
    assert len(tenant.ask(seed=seed, n=2, max_tokens=2)["choices"]) == 2
