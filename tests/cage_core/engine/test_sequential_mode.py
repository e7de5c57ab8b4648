"""Modes that play a game over the answer: linear blending's tokens, weights that follow the answer, a certificate."""

from dataclasses import replace

import numpy as np
import pytest

from cage_core.engine import Answer, DecodeRequest, Engine, LanguageModel, Sampling, Steering
from cage_core.engine.rows import BASE_NETWORK, Row, RowPlanner
from cage_core.sequential import BALANCE_RATE, BUDGET_RATE, BudgetedGame, budget_shares, budgeted_weights

ADAPTERS = {"brisk": 1, "calm": 2, "kind": 3}
WEIGHTS = {"calm": 0.5, "kind": 0.3, "brisk": 0.2}
STEERING = Steering(WEIGHTS, 4.0, "budgeted")


def answer(engine: Engine, steering: Steering, seed: int = 0, **sampling: float) -> Answer:
    planner = RowPlanner(tuple(range(40, 52)))
    for name in steering.weights:
        planner.reward(planner.row(Row(BASE_NETWORK, ADAPTERS[name], planner.base_prompt)))
    return engine.answer(DecodeRequest(planner.plan(), steering, Sampling(40, seed, **sampling), traced=True))


@pytest.mark.parametrize("mode", ["balanced", "budgeted"])
@pytest.mark.parametrize("seed", range(3))
def test_the_certificate_is_within_its_bound(engine: Engine, mode: str, seed: int) -> None:
    found = answer(engine, replace(STEERING, mode=mode), seed)
    assert found.sequential_regret_nats is not None
    assert found.sequential_bound_nats is not None
    assert found.sequential_regret_nats <= found.sequential_bound_nats
    assert np.isfinite(found.sequential_regret_nats)


def test_weights_and_certificate_follow_from_the_tokens(engine: Engine, model: LanguageModel) -> None:
    """Played again from the tokens: the last token's weights, and the certificate, need only the advantages."""
    found = answer(engine, STEERING)
    weights = np.array(list(WEIGHTS.values()))
    bids = np.array([trace.weights for trace in found.traces])
    assert (bids <= weights).all()
    # Where weights are b / (1 + exp(c (X - b))), advantages are read back from them.
    over = np.log(weights / bids - 1) / BUDGET_RATE
    advantages = over + budget_shares(weights)
    steps = np.diff(advantages, axis=0)
    total = np.array(found.features) * found.completion_tokens * np.array(model.feature_scales(WEIGHTS))
    game = BudgetedGame.opening(weights)
    for step in [*steps, total - advantages[-1]]:
        game = game.after(step)
    assert found.sequential_regret_nats == pytest.approx(game.regret_nats / found.completion_tokens, abs=1e-6)
    assert found.sequential_bound_nats == pytest.approx(game.bound_nats / found.completion_tokens, abs=1e-6)


def test_other_modes_have_no_certificate_and_keep_their_weights(engine: Engine) -> None:
    for mode in ("linear", "equilibrium"):
        found = answer(engine, replace(STEERING, mode=mode))
        assert found.sequential_regret_nats is None
        assert all(trace.weights == pytest.approx(tuple(WEIGHTS.values())) for trace in found.traces)


def test_the_balanced_mode_is_linear_blending_with_a_balance(engine: Engine) -> None:
    named = answer(engine, replace(STEERING, mode="balanced"))
    option = answer(engine, replace(STEERING, mode="linear", balance=BALANCE_RATE))
    assert named.text == option.text
    assert named.traces == option.traces
    assert named.sequential_regret_nats == option.sequential_regret_nats
    assert all(sum(trace.weights) == pytest.approx(1.0) for trace in named.traces)
    assert len({trace.weights for trace in named.traces}) > 1


def test_a_balance_on_equilibrium_tokens_is_certified_too(engine: Engine) -> None:
    found = answer(engine, replace(STEERING, mode="equilibrium", balance=0.3))
    assert found.sequential_regret_nats is not None
    assert found.sequential_bound_nats is not None
    assert found.sequential_regret_nats <= found.sequential_bound_nats


def test_who_has_no_weight_never_bids(engine: Engine) -> None:
    """Nobody without a weight ever bids."""
    alone = {"calm": 1.0, "kind": 0.0, "brisk": 0.0}
    found = answer(engine, Steering(alone, 6.0, "budgeted"))
    assert all(trace.weights[1:] == (0.0, 0.0) for trace in found.traces)
    assert found.traces[0].weights[0] > 0.99


def test_the_same_tokens_as_linear_blending_while_nobody_has_been_served(engine: Engine) -> None:
    """At the first token every bid is its weight times 1 / (1 + exp(-c b_j))."""
    weights = np.array(list(WEIGHTS.values()))
    opening = dict(zip(WEIGHTS, budgeted_weights(weights, np.zeros(3)).tolist(), strict=True))
    budgeted = answer(engine, STEERING).traces[0]
    linear = answer(engine, Steering(opening, 4.0, "linear")).traces[0]
    assert budgeted.token == linear.token
    assert budgeted.probability == pytest.approx(linear.probability)
    assert budgeted.incentives == pytest.approx(linear.incentives)


def test_a_kl_budget_is_spent_on_who_still_bids(engine: Engine) -> None:
    found = answer(engine, replace(STEERING, kl_budget_nats=0.05))
    assert 0.0 < found.mean_kl_nats <= 0.05 * 1.01
