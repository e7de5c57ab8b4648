"""Limits, seen from outside: who is refused, what the answer says, and that others are not touched."""

import json
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import httpx
import openai
import pytest
import redis
from prometheus_client import CollectorRegistry
from sqlalchemy import func, select

from learner.store.keys import create_key
from learner.store.models import ApiKey, Generation, Tenant
from service.access.limits import REDIS_REST_SECONDS, Limits, forget_user
from service.access.security import Caller
from service.errors import RateLimited
from service.settings import LimitSettings
from tests.service.another_server import PATIENT, another_server
from tests.service.conftest import MODEL, Stack, TenantClient
from tests.waiting import wait_until

QUESTION = [{"role": "user", "content": "How can I sleep better?"}]


def limit(stack: Stack, tenant: TenantClient, **columns: int) -> None:
    """Give a tenant limits."""
    with stack.services.database.session() as session:
        row = session.get(Tenant, tenant.tenant_id)
        for column, value in columns.items():
            setattr(row, column, value)
    stack.services.callers.forget()


def chat(tenant: TenantClient, **changes: Any) -> httpx.Response:
    body = {"model": MODEL, "messages": QUESTION, "user": "ada", "max_tokens": 4, **changes}
    return tenant.http.post("/v1/chat/completions", json=body)


def generations(stack: Stack, tenant: TenantClient) -> int:
    with stack.services.database.session() as session:
        found = select(func.count()).select_from(Generation).where(Generation.tenant_id == tenant.tenant_id)
        return session.scalar(found) or 0


def levels(stack: Stack, tenant: TenantClient, kind: str) -> dict[str, float]:
    """What Redis holds of the one bucket of a kind."""
    names = list(stack.services.redis.scan_iter(f"cage:limits:{{{tenant.tenant_id}}}:{kind}*"))
    assert len(names) == 1
    held = stack.services.redis.hgetall(names[0])
    return {name.decode(): float(value) for name, value in held.items()}


@pytest.fixture(scope="module")
def patient(stack: Stack) -> Iterator[Stack]:
    """A server that does not take a busy test machine's Redis for dead."""
    with another_server(stack) as url:
        yield replace(stack, url=url)


@pytest.fixture
def limited(patient: Stack, tenant: TenantClient) -> Iterator[TenantClient]:
    headers = {"Authorization": f"Bearer {tenant.key}"}
    with httpx.Client(base_url=patient.url, headers=headers, timeout=30) as http:
        yield replace(tenant, http=http)


def test_without_limits_nothing_is_said(limited: TenantClient) -> None:
    answer = chat(limited).raise_for_status()
    assert not [name for name in answer.headers if name.startswith("x-ratelimit")]


def test_what_is_left_stands_on_every_answer(patient: Stack, limited: TenantClient) -> None:
    limit(patient, limited, requests_per_minute=5, user_requests_per_minute=3, tokens_per_minute=5000)
    headers = chat(limited).raise_for_status().headers
    # The user's bucket has less left than the tenant's.
    assert headers["x-ratelimit-limit-requests"] == "3"
    assert headers["x-ratelimit-remaining-requests"] == "2"
    assert headers["x-ratelimit-limit-tokens"] == "5000"
    assert 0 < int(headers["x-ratelimit-remaining-tokens"]) < 5000
    assert 0 < float(headers["x-ratelimit-reset-requests"].removesuffix("s")) <= 20
    unreadable = limited.http.get("/v1/feedback/fb_none")
    assert unreadable.status_code == 404
    assert unreadable.headers["x-ratelimit-limit-requests"] == "5"


def test_a_refusal_is_openais_and_writes_nothing(patient: Stack, limited: TenantClient) -> None:
    limit(patient, limited, user_requests_per_minute=2)
    chat(limited).raise_for_status()
    chat(limited).raise_for_status()
    with (
        openai.OpenAI(base_url=f"{patient.url}/v1", api_key=limited.key, max_retries=0) as client,
        pytest.raises(openai.RateLimitError) as caught,
    ):
        client.chat.completions.create(model=MODEL, messages=QUESTION, user="ada")
    assert caught.value.body["code"] == "rate_limit_exceeded"
    assert "this user may make 2 requests in a minute" in caught.value.body["message"]
    headers = caught.value.response.headers
    assert 1 <= int(headers["retry-after"]) <= 30
    assert headers["x-ratelimit-remaining-requests"] == "0"
    assert generations(patient, limited) == 2
    stream = chat(limited, stream=True)
    assert (stream.status_code, stream.json()["error"]["code"]) == (429, "rate_limit_exceeded")


def test_the_client_waits_as_told_and_succeeds(patient: Stack, limited: TenantClient) -> None:
    limit(patient, limited, requests_per_minute=20)
    while limited.http.get("/v1/users/ada/weights").status_code == 200:
        pass
    with openai.OpenAI(base_url=f"{patient.url}/v1", api_key=limited.key, max_retries=5) as client:
        answer = client.chat.completions.with_raw_response.create(model=MODEL, messages=QUESTION, max_tokens=2)
    assert answer.retries_taken >= 1
    assert answer.parse().choices[0].message.content


def test_one_user_does_not_use_up_the_tenant(patient: Stack, limited: TenantClient) -> None:
    limit(patient, limited, requests_per_minute=100, user_requests_per_minute=1)
    chat(limited).raise_for_status()
    used = levels(patient, limited, "tenant")["requests"]
    assert [chat(limited).status_code for _ in range(5)] == [429] * 5
    assert levels(patient, limited, "tenant")["requests"] <= used
    chat(limited, user="bob").raise_for_status()
    chat(limited, user=None).raise_for_status()


def test_a_tenants_keys_share_its_limit_and_have_their_own(patient: Stack, limited: TenantClient) -> None:
    limit(patient, limited, requests_per_minute=3)
    with patient.services.database.session() as session:
        _, narrow = create_key(session, limited.tenant_id, "narrow", ["read"], requests_per_minute=1)
    bearer = {"Authorization": f"Bearer {narrow}"}
    path = "/v1/users/ada/weights"
    assert [limited.http.get(path, headers=bearer).status_code for _ in range(2)] == [200, 429]
    assert [limited.http.get(path).status_code for _ in range(3)] == [200, 200, 429]


def test_an_operators_key_has_its_own_limit(patient: Stack) -> None:
    with patient.services.database.session() as session:
        _, key = create_key(session, None, "narrow operator", ["admin"], requests_per_minute=1)
    with httpx.Client(base_url=patient.url, headers={"Authorization": f"Bearer {key}"}) as operator:
        assert [operator.get("/v1/keys").status_code for _ in range(2)] == [200, 429]


def test_votes_count_as_requests_of_their_user(patient: Stack, limited: TenantClient) -> None:
    answer = limited.ask(user="ada")["id"]
    limit(patient, limited, user_requests_per_minute=1, user_tokens_per_minute=10)
    vote = {"inference_id": answer, "value": "up"}
    receipt = limited.http.post("/v1/feedback", json=vote).raise_for_status().json()
    path = f"/v1/feedback/{receipt['feedback_id']}"
    assert limited.http.post("/v1/feedback", json={**vote, "value": "down"}).status_code == 429
    assert limited.http.put(path, json={"value": "down"}).status_code == 429
    assert limited.http.delete(path).status_code == 429
    assert limited.http.get(path).json()["value"] == "up"
    assert limited.http.post("/v1/feedback", json={**vote, "user": "bob"}).status_code == 201


def test_tokens_are_reserved_then_settled(patient: Stack, limited: TenantClient) -> None:
    limit(patient, limited, tokens_per_minute=1000, user_tokens_per_minute=900)
    answer = chat(limited, max_tokens=300, stop=[" "]).raise_for_status()
    used = answer.json()["usage"]["total_tokens"]
    assert used < 200
    assert int(answer.headers["x-ratelimit-remaining-tokens"]) < 900 - 300
    wait_until(lambda: levels(patient, limited, "tenant")["tokens"] <= used)
    # At most some seconds of draining, 1000 tokens in 60 s.
    assert levels(patient, limited, "user")["tokens"] <= used
    wait_until(lambda: used - 200 < levels(patient, limited, "tenant")["tokens"])


def test_several_answers_read_the_prompt_once(patient: Stack, limited: TenantClient) -> None:
    limit(patient, limited, tokens_per_minute=100_000)
    answer = chat(limited, n=3, max_tokens=5).raise_for_status()
    reserved = 100_000 - int(answer.headers["x-ratelimit-remaining-tokens"])
    assert reserved == answer.json()["usage"]["prompt_tokens"] + 3 * 5


def test_an_abandoned_stream_is_settled_too(patient: Stack, limited: TenantClient) -> None:
    limit(patient, limited, tokens_per_minute=100_000)
    body = {"model": MODEL, "messages": QUESTION, "max_tokens": 400, "stream": True, "temperature": 2}
    with limited.http.stream("POST", "/v1/chat/completions", json=body) as response:
        reserved = 100_000 - int(response.headers["x-ratelimit-remaining-tokens"])
        next(response.iter_lines())
    assert reserved > 400
    wait_until(lambda: levels(patient, limited, "tenant")["tokens"] < reserved - 1)


def test_a_refused_answer_costs_no_tokens(patient: Stack, limited: TenantClient) -> None:
    limit(patient, limited, tokens_per_minute=1_000_000)
    assert chat(limited, max_tokens=100_000).status_code == 422
    wait_until(lambda: levels(patient, limited, "tenant")["tokens"] == 0)


def test_what_never_fits_is_no_matter_of_waiting(patient: Stack, limited: TenantClient) -> None:
    limit(patient, limited, tokens_per_minute=50)
    refused = chat(limited, max_tokens=60)
    assert refused.status_code == 422
    assert refused.json()["error"]["param"] == "max_tokens"
    assert "this tenant may use 50 in a minute" in refused.json()["error"]["message"]


def test_redis_holds_no_users_name_and_forgets(patient: Stack, limited: TenantClient) -> None:
    limit(patient, limited, user_requests_per_minute=5)
    chat(limited, user="grace.hopper").raise_for_status()
    client = patient.services.redis
    names = [name.decode() for name in client.scan_iter(f"cage:limits:{{{limited.tenant_id}}}:*")]
    assert len([name for name in names if ":user:" in name]) == 1
    assert "grace" not in json.dumps(names)
    forget_user(client, limited.tenant_id, "grace.hopper")
    assert not list(client.scan_iter(f"cage:limits:{{{limited.tenant_id}}}:user:*"))


def test_defaults_are_for_tenants_without_limits(
    stack: Stack, tenant: TenantClient, new_tenant: Callable[[], TenantClient]
) -> None:
    own = new_tenant()
    limit(stack, own, requests_per_minute=4)
    with another_server(stack, default_requests_per_minute=2) as url:

        def statuses(key: str) -> list[int]:
            headers = {"Authorization": f"Bearer {key}"}
            return [httpx.get(f"{url}/v1/users/ada/weights", headers=headers).status_code for _ in range(3)]

        assert statuses(tenant.key) == [200, 200, 429]
        assert statuses(own.key) == [200, 200, 200]


def test_processes_count_together(patient: Stack, limited: TenantClient) -> None:
    limit(patient, limited, requests_per_minute=4)
    headers = {"Authorization": f"Bearer {limited.key}"}
    with another_server(patient) as url:
        statuses = [
            httpx.get(f"{address}/v1/users/ada/weights", headers=headers).status_code
            for address in (url, patient.url) * 3
        ]
    assert statuses == [200] * 4 + [429] * 2


def caller(**limits: int) -> Caller:
    key = ApiKey(id="key_x", tenant_id="ten_x", scopes=["read"], **limits)
    return Caller(key, Tenant(id="ten_x"))


def test_a_process_without_redis_counts_for_itself(
    stack: Stack, tenant: TenantClient, caplog: pytest.LogCaptureFixture
) -> None:
    limit(stack, tenant, requests_per_minute=3)
    with another_server(stack, redis_url="redis://127.0.0.1:1") as url:
        headers = {"Authorization": f"Bearer {tenant.key}"}
        answers = [httpx.get(f"{url}/v1/users/ada/weights", headers=headers) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert answers[0].headers["x-ratelimit-remaining-requests"] == "2"
    assert len([r for r in caplog.records if "counts limits for itself" in r.message]) == 1


def test_a_redis_that_hangs_is_asked_once_in_a_while() -> None:
    """A server that takes connections and says nothing: nobody waits for it but the first, now and then."""
    silent = socket.create_server(("127.0.0.1", 0), backlog=64)
    registry = CollectorRegistry()
    settings = LimitSettings()
    limits = Limits(settings, f"redis://127.0.0.1:{silent.getsockname()[1]}", registry)
    request, started = SimpleNamespace(state=SimpleNamespace()), time.monotonic()
    for _ in range(50):
        limits.admit(request, caller(requests_per_minute=50), None)
    with pytest.raises(RateLimited):
        limits.admit(request, caller(requests_per_minute=50), None)
    tried = 1 + (time.monotonic() - started) / REDIS_REST_SECONDS
    silent.setblocking(False)
    connections = 0
    while True:
        try:
            silent.accept()[0].close()
            connections += 1
        except BlockingIOError:
            break
    assert 1 <= connections <= tried
    assert registry.get_sample_value("cage_limits_without_redis_total") == 51
    assert registry.get_sample_value("cage_rate_limited_total", {"whose": "key"}) == 1
    limits.close()
    silent.close()


def test_limits_go_back_to_redis_when_it_does(redis_url: str, redis_client: redis.Redis) -> None:
    limits = Limits(LimitSettings(**PATIENT), redis_url, CollectorRegistry())
    request = SimpleNamespace(state=SimpleNamespace())
    redis_client.set("cage:limits:{ten_x}:key:key_x", "not a bucket")
    assert not limits.admit(request, caller(requests_per_minute=9), None).shared
    redis_client.flushdb()
    wait_until(lambda: limits.admit(request, caller(requests_per_minute=1000), None).shared)
    limits.close()


def test_one_tenant_cannot_take_all_places(stack: Stack, new_tenant: Callable[[], TenantClient]) -> None:
    greedy, modest = new_tenant(), new_tenant()
    long = {"model": MODEL, "messages": QUESTION, "max_tokens": 450, "temperature": 2, "stream": True}
    short = {"model": MODEL, "messages": QUESTION, "max_tokens": 1}
    with another_server(stack, tenant_generations=2) as url:

        def ask(tenant: TenantClient, **changes: Any) -> httpx.Response:
            headers = {"Authorization": f"Bearer {tenant.key}"}
            return httpx.post(f"{url}/v1/chat/completions", json={**short, **changes}, headers=headers, timeout=30)

        never = ask(greedy, n=3)
        assert (never.status_code, never.json()["error"]["param"]) == (422, "n")
        headers = {"Authorization": f"Bearer {greedy.key}"}
        with httpx.stream(
            "POST", f"{url}/v1/chat/completions", json={**long, "n": 2}, headers=headers, timeout=30
        ) as response:
            lines = response.iter_lines()
            next(lines)
            refused = ask(greedy)
            assert refused.status_code == 429, refused.text
            assert refused.json()["error"]["code"] == "too_many_generations"
            assert refused.headers["retry-after"] == "1"
            assert ask(modest).status_code == 200
        wait_until(lambda: ask(greedy).status_code == 200)


def test_a_prompt_longer_than_anybody_reads(stack: Stack, tenant: TenantClient) -> None:
    with another_server(stack, largest_prompt_characters=30) as url:
        headers = {"Authorization": f"Bearer {tenant.key}"}
        body = {"model": MODEL, "messages": [{"role": "user", "content": "x" * 31}]}
        refused = httpx.post(f"{url}/v1/chat/completions", json=body, headers=headers)
    assert refused.status_code == 422
    assert refused.json()["error"]["code"] == "prompt_too_long"
