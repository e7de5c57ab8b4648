"""Every route against every kind of wrong key: all cells are refused, and nothing is written.

A route that the table does not know fails the test, so that none is added without saying who may use it.
"""

import itertools
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from sqlalchemy import text

from learner.store.keys import SCOPES, create_key, revoke_key
from learner.store.models import Base
from tests.service.conftest import MODEL, Stack, TenantClient

PUBLIC = {
    ("GET", "/health"),
    ("GET", "/ready"),
    ("GET", "/metrics"),
}
ENDLESS = ("GET", "/v1/dashboard/events")
ANY_SCOPE: frozenset[str] = frozenset(SCOPES)
ACCEPTS: dict[tuple[str, str], frozenset[str]] = {
    ("POST", "/v1/chat/completions"): frozenset({"generate"}),
    ("GET", "/v1/models"): ANY_SCOPE,
    ("POST", "/v1/feedback"): frozenset({"feedback"}),
    ("GET", "/v1/feedback/{feedback_id}"): frozenset({"feedback"}),
    ("PUT", "/v1/feedback/{feedback_id}"): frozenset({"feedback"}),
    ("DELETE", "/v1/feedback/{feedback_id}"): frozenset({"feedback"}),
    ("GET", "/v1/users/{user_id}/weights"): frozenset({"read"}),
    ("GET", "/v1/keys"): frozenset({"admin"}),
    ("POST", "/v1/keys"): frozenset({"admin"}),
    ("GET", "/v1/keys/{key_id}"): frozenset({"admin"}),
    ("DELETE", "/v1/keys/{key_id}"): frozenset({"admin"}),
    ("POST", "/v1/keys/{key_id}/rotate"): frozenset({"admin"}),
    ("GET", "/v1/audit"): frozenset({"admin"}),
    ("GET", "/v1/generations"): frozenset({"read"}),
    ("GET", "/v1/generations/{generation_id}"): frozenset({"read"}),
    ("GET", "/v1/users"): frozenset({"read"}),
    ("GET", "/v1/users/{user_id}"): frozenset({"read"}),
    ("GET", "/v1/users/{user_id}/history"): frozenset({"read"}),
    ("GET", "/v1/users/{user_id}/export"): frozenset({"read"}),
    ("POST", "/v1/users/{user_id}/reset"): frozenset({"operate"}),
    ("DELETE", "/v1/users/{user_id}"): frozenset({"operate"}),
    ("GET", "/v1/regret"): frozenset({"read"}),
    ("GET", "/v1/principals"): ANY_SCOPE,
    ("GET", "/v1/tenants"): frozenset({"operate", "admin"}),
    ("POST", "/v1/tenants"): frozenset({"admin"}),
    ("GET", "/v1/tenants/{tenant_id}"): frozenset({"operate", "admin"}),
    ("PATCH", "/v1/tenants/{tenant_id}"): frozenset({"admin"}),
    ("DELETE", "/v1/tenants/{tenant_id}"): frozenset({"admin"}),
    ("GET", "/v1/dashboard/tenants"): frozenset({"operate"}),
    ("GET", "/v1/dashboard/tenant"): frozenset({"operate"}),
    ("GET", "/v1/dashboard/users/{user_id}"): frozenset({"operate"}),
    ENDLESS: frozenset({"operate"}),
}
OPERATORS_ONLY = {("POST", "/v1/tenants"), ("DELETE", "/v1/tenants/{tenant_id}")}
BODIES: dict[tuple[str, str], object] = {
    ("POST", "/v1/chat/completions"): {"model": MODEL, "messages": [{"role": "user", "content": "hi"}]},
    ("POST", "/v1/feedback"): {"inference_id": "{generation_id}", "value": "down"},
    ("PUT", "/v1/feedback/{feedback_id}"): {"value": "down"},
    ("POST", "/v1/keys"): {"label": "stolen"},
    ("POST", "/v1/keys/{key_id}/rotate"): {},
    ("POST", "/v1/tenants"): {"name": "made by a stranger"},
    ("PATCH", "/v1/tenants/{tenant_id}"): {"strength": 9.0},
}


# The learner fills these in its own time, from votes that were rightly given.
LEARNED_TABLES = {
    "anonymous_evidence",
    "incentive_points",
    "learner_states",
    "learning_failures",
    "parameter_versions",
    "regret_points",
    "tenant_shares",
}
REQUESTED_TABLES = sorted(set(Base.metadata.tables) - LEARNED_TABLES)


class Victim:
    """A tenant whose things others try to reach."""

    def __init__(self, stack: Stack, tenant: TenantClient) -> None:
        self.tenant_id = tenant.tenant_id
        answer = tenant.ask("victim-question", user="victim-user")
        receipt = tenant.vote(answer["id"], "up")
        tenant.wait_for_votes(1, "victim-user")
        with stack.services.database.session() as session:
            key, _ = create_key(session, tenant.tenant_id, "victim-key", SCOPES)
        self.ids = {
            "feedback_id": receipt["feedback_id"],
            "generation_id": answer["id"],
            "user_id": "victim-user",
            "key_id": key.id,
            "tenant_id": tenant.tenant_id,
        }

    def names(self) -> list[str]:
        """Everything of which no stranger may read a trace."""
        return [*self.ids.values(), "victim-question", "victim-key"]


@pytest.fixture
def victim(stack: Stack, tenant: TenantClient) -> Victim:
    return Victim(stack, tenant)


@pytest.fixture
def make_key(stack: Stack) -> Callable[..., str]:
    """Makes keys that nothing is wrong with, and others."""

    def make(tenant_id: str | None, scopes: frozenset[str] = ANY_SCOPE, kind: str = "good") -> str:
        now = datetime.now(UTC)
        expires_at = now - timedelta(seconds=1) if kind == "expired" else None
        with stack.services.database.session() as session:
            key, plaintext = create_key(session, tenant_id, kind, scopes, expires_at=expires_at)
            if kind == "revoked":
                revoke_key(session, tenant_id, key.id, now)
        return plaintext

    return make


def operations(stack: Stack) -> Iterator[tuple[str, str]]:
    """Method and path of every operation that the server has and that needs a key."""
    document = httpx.get(f"{stack.url}/openapi.json").json()
    for path, methods in document["paths"].items():
        for method in methods:
            operation = (method.upper(), path)
            if operation not in PUBLIC:
                yield operation


def call(stack: Stack, victim: Victim, operation: tuple[str, str], headers: dict[str, str]) -> httpx.Response:
    """The operation, aimed at the victim's things."""
    method, path = operation
    body = json.dumps(BODIES[operation]) if operation in BODIES else None
    for name, value in victim.ids.items():
        path = path.replace(f"{{{name}}}", value)
        body = body.replace(f"{{{name}}}", value) if body else body
    assert "{" not in path, f"no id for {path}"
    more = {"Content-Type": "application/json"} if body else {}
    return httpx.request(method, stack.url + path, headers={**headers, **more}, content=body, timeout=30)


def rows(stack: Stack) -> dict[str, int]:
    with stack.services.database.session() as session:
        return {table: session.scalar(text(f"SELECT count(*) FROM {table}")) or 0 for table in REQUESTED_TABLES}


def assert_refused(response: httpx.Response, status: int, cell: object) -> None:
    assert response.status_code == status, (cell, response.status_code, response.text)
    error = response.json()["error"]
    assert error.keys() == {"message", "type", "param", "code"}, cell
    assert "Traceback" not in response.text


def test_the_table_knows_every_route(stack: Stack) -> None:
    assert set(operations(stack)) == set(ACCEPTS)


def test_keys_that_open_nothing(stack: Stack, victim: Victim, make_key: Callable[..., str]) -> None:
    good = make_key(victim.tenant_id)
    wrong = {
        "no key": {},
        "empty": {"Authorization": "Bearer"},
        "unknown": {"Authorization": "Bearer cage_" + "x" * 43},
        "not a bearer": {"Authorization": f"Basic {good}"},
        "one character off": {"Authorization": f"Bearer {good[:-1]}"},
        "revoked": {"Authorization": f"Bearer {make_key(victim.tenant_id, kind='revoked')}"},
        "expired": {"Authorization": f"Bearer {make_key(victim.tenant_id, kind='expired')}"},
    }
    before = rows(stack)
    for operation, (kind, headers) in itertools.product(operations(stack), wrong.items()):
        response = call(stack, victim, operation, headers)
        assert_refused(response, 401, (operation, kind))
        assert response.headers["WWW-Authenticate"] == "Bearer"
    assert rows(stack) == before


def test_keys_without_the_scope(stack: Stack, victim: Victim, make_key: Callable[..., str]) -> None:
    keys = {scope: make_key(victim.tenant_id, frozenset({scope})) for scope in SCOPES}
    before = rows(stack)
    for operation, (scope, key) in itertools.product(operations(stack), keys.items()):
        if scope not in ACCEPTS[operation]:
            response = call(stack, victim, operation, {"Authorization": f"Bearer {key}"})
            assert_refused(response, 403, (operation, scope))
    assert rows(stack) == before


def test_another_tenants_key(
    stack: Stack, victim: Victim, new_tenant: Callable[[], TenantClient], make_key: Callable[..., str]
) -> None:
    stranger = {"Authorization": f"Bearer {make_key(new_tenant().tenant_id)}"}
    masked = {**stranger, "X-Cage-Tenant": victim.tenant_id}
    before = victim_rows(stack, victim)
    for operation in operations(stack):
        assert_refused(call(stack, victim, operation, masked), 404, (operation, "names the victim"))
        if operation == ENDLESS:
            continue  # opened by its own key it goes on for ever; its own tests read what it says
        response = call(stack, victim, operation, stranger)
        if operation in OPERATORS_ONLY:
            assert response.status_code in (403, 404), (operation, response.text)
            continue
        leaked = [name for name in victim.names() if name in response.text]
        if "{" in operation[1] and "{user_id}" not in operation[1]:
            assert_refused(response, 404, (operation, "stranger"))
            continue
        # A user's id belongs to whoever says it; what comes back is the stranger's own user of that name.
        assert leaked in ([], ["victim-user"]) or operation == ("POST", "/v1/feedback"), (operation, response.text)
    assert victim_rows(stack, victim) == before


def victim_rows(stack: Stack, victim: Victim) -> list[object]:
    """All that the victim has, as text."""
    with stack.services.database.session(victim.tenant_id) as session:
        return [
            session.scalar(text(f"SELECT string_agg(t::text, '|' ORDER BY t::text) FROM {table} t"))
            for table in REQUESTED_TABLES
            if table != "principals"
        ]
