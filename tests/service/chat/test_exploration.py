"""What the decoder plays beyond the learned weights: draws from the posterior, and committed reserves."""

from learner.exploration import in_force
from learner.scope import Scope
from learner.store.models import Generation
from learner.store.tenants import set_exploration
from tests.service.conftest import Stack, TenantClient
from tests.waiting import wait_until


def logged(stack: Stack, inference_id: str) -> Generation:
    with stack.services.database.session() as session:
        return session.get_one(Generation, inference_id)


def test_a_tenant_that_explores_logs_the_draws_it_played(stack: Stack, tenant: TenantClient) -> None:
    with stack.services.database.session() as session:
        set_exploration(session, tenant.tenant_id, "thompson")
    before_learning = logged(stack, tenant.ask(seed=1)["id"])
    assert before_learning.theta == [0.25, 0.25, 0.25, 0.25, 0.0]
    tenant.vote(before_learning.id)
    tenant.wait_for_votes(1)
    learned = stack.services.parameters.get(Scope(tenant.tenant_id, "ada"))
    for seed in (1, 2):
        drawn = in_force(learned, "thompson", seed)
        generation = logged(stack, tenant.ask(seed=seed)["id"])
        assert generation.theta == list(drawn.theta) != list(learned.theta)
        assert generation.weights == list(drawn.weights)
        assert generation.parameter_version == 1
    with stack.services.database.session() as session:
        set_exploration(session, tenant.tenant_id, "none")
    stack.services.callers.forget()
    assert logged(stack, tenant.ask(seed=2)["id"]).theta == list(learned.theta)


def test_reserves_follow_the_weights_and_can_be_committed_to(stack: Stack, tenant: TenantClient) -> None:
    tenant.vote(tenant.ask()["id"])
    scope = Scope(tenant.tenant_id, "ada")
    wait_until(lambda: stack.services.parameters.get(scope).named_reserves is not None)
    reserves = stack.services.parameters.get(scope).named_reserves
    assert reserves is not None
    assert set(reserves) == {"brevity", "caution", "detail", "warmth"}
    answer = tenant.ask(cage={"mode": "committed"})
    assert logged(stack, answer["id"]).mode == "committed"


def test_nothing_can_be_committed_to_before_anything_was_learned(tenant: TenantClient) -> None:
    response = tenant.http.post(
        "/v1/chat/completions",
        json={"model": "cage-pocket", "messages": [{"role": "user", "content": "Hi"}], "cage": {"mode": "committed"}},
    )
    assert response.status_code == 422
    assert "reserve" in response.text
