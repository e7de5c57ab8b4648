"""Generate, thumb, learn, push, generate: the product's one job."""

import json
from collections.abc import Callable

import pytest

from tests.service.conftest import Stack, TenantClient
from tests.waiting import wait_until


def test_a_thumb_changes_the_next_answer(tenant: TenantClient) -> None:
    before = tenant.ask(seed=3)
    assert before["cage"]["parameter_version"] == 0
    assert before["cage"]["scope"] == "tenant"
    tenant.vote(before["id"], "down")
    state = tenant.wait_for_votes(1)
    assert state["scope"] == "user"
    assert sum(state["weights"].values()) == pytest.approx(1)
    after = tenant.ask(seed=3)
    assert after["cage"]["parameter_version"] == state["parameter_version"] > 0
    assert after["cage"]["weights"] == state["weights"] != before["cage"]["weights"]


def test_a_vote_counts_once_and_can_be_changed_and_retracted(tenant: TenantClient) -> None:
    answers = [tenant.ask(seed=seed)["id"] for seed in (1, 2)]
    tenant.vote(answers[0], "up")
    alone = tenant.wait_for_votes(1)["weights"]

    receipt = tenant.vote(answers[1], "up")
    again = tenant.vote(answers[1], True)
    assert again == {"feedback_id": receipt["feedback_id"], "duplicate": True}
    both = tenant.wait_for_votes(2)["weights"]
    assert both != alone

    path = f"/v1/feedback/{receipt['feedback_id']}"
    changed = tenant.http.put(path, json={"value": "down"}).raise_for_status().json()
    assert changed["value"] == "down"
    wait_until(lambda: tenant.http.get(path).json()["learned"])
    wait_until(lambda: tenant.state()["weights"] not in (alone, both))

    retracted = tenant.http.delete(path).raise_for_status().json()
    assert retracted["value"] is None
    assert tenant.wait_for_votes(1)["weights"] == alone


def test_what_one_user_likes_does_not_become_anothers_vote(tenant: TenantClient) -> None:
    tenant.vote(tenant.ask(user="ada")["id"], "up")
    tenant.wait_for_votes(1, "ada")
    assert tenant.state("bob")["scope"] == "tenant"


def test_regret_is_measured_and_bounded(tenant: TenantClient) -> None:
    for seed in range(3):
        tenant.vote(tenant.ask(seed=seed)["id"], "up" if seed % 2 else "down")
    wait_until(lambda: (tenant.state()["regret"] or {}).get("feedback_count") == 3)
    regret = tenant.state()["regret"]
    assert regret["measured"] <= regret["bound"]


def test_votes_while_redis_is_empty_are_learned(tenant: TenantClient, stack: Stack) -> None:
    tenant.vote(tenant.ask(seed=1)["id"], "up")
    stack.services.redis.flushall()
    tenant.vote(tenant.ask(seed=2)["id"], "down")
    tenant.wait_for_votes(2)


def test_another_tenants_votes_are_out_of_reach(tenant: TenantClient, new_tenant: Callable[[], TenantClient]) -> None:
    theirs = new_tenant()
    feedback_id = theirs.vote(theirs.ask()["id"])["feedback_id"]
    for method in ("GET", "DELETE"):
        assert tenant.http.request(method, f"/v1/feedback/{feedback_id}").status_code == 404
    assert tenant.http.put(f"/v1/feedback/{feedback_id}", json={"value": "down"}).status_code == 404
    assert theirs.http.get(f"/v1/feedback/{feedback_id}").json()["value"] == "up"


def test_a_client_that_leaves_frees_its_rows(tenant: TenantClient, stack: Stack) -> None:
    # At temperature 2 the little model rambles on to the limit.
    body = {"model": "cage-pocket", "messages": [{"role": "user", "content": "hi"}], "temperature": 2, "stream": True}
    with tenant.http.stream("POST", "/v1/chat/completions", json={**body, "max_tokens": 700}) as response:
        inference_id = json.loads(next(response.iter_lines()).removeprefix("data: "))["id"]
    wait_until(lambda: stack.services.engine.num_running == 0)
    vote = tenant.http.post("/v1/feedback", json={"inference_id": inference_id, "value": "up"})
    assert vote.status_code == 404, "the answer was completed although nobody listened"


def test_health_readiness_and_metrics(tenant: TenantClient) -> None:
    assert tenant.http.get("/health").json() == {"status": "ok"}
    ready = tenant.http.get("/ready")
    assert ready.json() == {"ready": True, "engine": True, "database": True, "redis": True, "draining": False}
    tenant.vote(tenant.ask()["id"])
    tenant.wait_for_votes(1)
    metrics = tenant.http.get("/metrics").text
    for name in ("cage_feedback_total", "cage_feedback_to_decoder_seconds_bucket", "cage_tokens_total"):
        assert name in metrics
    assert 'route="/v1/users/{user_id:path}/weights"' in metrics
    assert "ada" not in metrics
