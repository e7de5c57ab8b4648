"""The games over an answer: their weights are gradients of what the principals want, and their bounds hold."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from cage_core.sequential import (
    BALANCE_RATE,
    BUDGET_RATE,
    AnswerGame,
    BalancedGame,
    BudgetedGame,
    answer_game,
    balanced_weights,
    budget_shares,
    budgeted_weights,
    nash_weights,
)

RULES = [budgeted_weights, nash_weights, balanced_weights]


@st.composite
def answers(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Weights [J] and token advantages [T, J]: random, trending, alternating to hurt whoever bids, and constant."""
    random = np.random.default_rng(draw(st.integers(0, 2**31)))
    principals, tokens = draw(st.integers(1, 6)), draw(st.integers(1, 80))
    weights = random.random(principals) * draw(st.sampled_from([0.01, 1.0, 10.0]))
    weights[random.random(principals) < 0.2] = 0.0
    advantages = random.normal(size=(tokens, principals)) * draw(st.floats(0, 2))
    kind = draw(st.sampled_from(["random", "trend", "alternating", "constant"]))
    if kind == "trend":
        advantages += random.normal(size=principals) / 4
    elif kind == "alternating":
        advantages = np.abs(advantages) * np.where(np.arange(tokens)[:, None] % 2 == 0, 1.0, -1.0)
    elif kind == "constant":
        advantages[:] = advantages[0]
    return weights, advantages


def played(game: AnswerGame, advantages: np.ndarray) -> AnswerGame:
    for token in advantages:
        game = game.after(token)
    return game


@settings(max_examples=300, deadline=None)
@given(answers(), st.floats(0, 20), st.floats(0.01, 3))
def test_the_regret_within_an_answer_is_within_its_bound(
    answer: tuple[np.ndarray, np.ndarray], budget: float, rate: float
) -> None:
    weights, advantages = answer
    for opening in (BudgetedGame.opening(weights, budget), BalancedGame.opening(weights, rate)):
        game = played(opening, advantages)
        assert game.regret_nats <= game.bound_nats + 1e-7
        assert 0 <= game.bound_nats < math.inf


def test_the_bounds_are_not_idle() -> None:
    """Tokens that serve who bids most, and then harm it while it bids less, come close to the bound."""
    game: AnswerGame = BudgetedGame.opening(np.ones(1), 0.0)
    for turn in range(400):
        game = game.after(np.array([0.5 if turn % 2 == 0 else -0.5]))
    assert 0.3 * game.bound_nats < game.regret_nats
    game = BalancedGame.opening(np.ones(2), 0.5)
    for turn in range(400):
        game = game.after(np.array([0.25, -0.25]) * (1 if turn % 2 == 0 else -1))
    assert 0.3 * game.bound_nats < game.regret_nats


@settings(max_examples=100, deadline=None)
@given(answers(), st.floats(0.01, 3))
def test_nobody_is_behind_the_mix_by_more_than_its_own_bound(
    answer: tuple[np.ndarray, np.ndarray], rate: float
) -> None:
    """Computed apart: X_j >= sum_t p_t . d_t - log(1 / p_1j) / c - (c / 8) sum_t range_t^2 for every principal."""
    weights, advantages = answer
    if not weights.any():
        return
    served, gained, ranges = np.zeros(len(weights)), 0.0, 0.0
    for token in advantages:
        gained += float(balanced_weights(weights, served, rate) @ token) / weights.sum()
        ranges += float(np.ptp(token[weights > 0])) ** 2
        served = served + token
    for index in np.flatnonzero(weights > 0):
        prior = math.log(weights.sum() / weights[index])
        assert served[index] >= gained - prior / rate - rate / 8 * ranges - 1e-7
    game = played(BalancedGame.opening(weights, rate), advantages)
    assert game.regret_nats == pytest.approx(gained - served[weights > 0].min(), abs=1e-9)


def test_modes_and_balance_choose_the_game() -> None:
    weights = np.array([0.5, 0.5])
    assert answer_game("linear", weights, 0.0) is None
    assert isinstance(answer_game("budgeted", weights, 1.5), BudgetedGame)
    for mode, balance, rate in (("equilibrium", 0.3, 0.3), ("balanced", 0.0, BALANCE_RATE), ("balanced", 1.5, 1.5)):
        game = answer_game(mode, weights, balance)
        assert isinstance(game, BalancedGame)
        assert game.rate == rate


def test_worst_served_comes_within_the_regret_of_the_best_mix() -> None:
    """Contexts drawn alike, tokens chosen to serve the adapted weights best: the worst-served principal ends within
    O(sqrt(log J / T)) of what the best fixed mix could have guaranteed, found here by convex optimisation."""
    random = np.random.default_rng(5)
    principals, tokens, candidates = 4, 4000, 6
    contexts = random.normal(size=(tokens, candidates, principals)) * 0.3
    contexts -= contexts.mean(axis=1, keepdims=True)

    def best_value(mix: np.ndarray) -> float:
        return float((contexts @ mix).max(axis=1).mean())

    start = np.full(principals, 1 / principals)
    constraint = {"type": "eq", "fun": lambda mix: mix.sum() - 1}
    best = minimize(best_value, start, bounds=[(0, 1)] * principals, constraints=constraint).fun
    reach = float(np.ptp(contexts, axis=2).max())
    rate = math.sqrt(8 * math.log(principals) / tokens) / reach
    served = np.zeros(principals)
    for context in contexts:
        mix = balanced_weights(start, served, rate)
        served = served + context[(context @ mix).argmax()]
    regret = reach * math.sqrt(math.log(principals) / (2 * tokens))
    assert best - 2 * regret <= served.min() / tokens <= best + 1e-6


@pytest.mark.parametrize("rule", RULES)
def test_weights_are_gradients_of_a_concave_utility_of_the_answer(rule) -> None:
    """No rule gives more for having been served more, and none gives anything to who has no weight."""
    random = np.random.default_rng(0)
    for _ in range(50):
        weights = random.random(4) * (random.random(4) > 0.2)
        served, more = random.normal(size=4) * 3, np.zeros(4)
        index = int(random.integers(4))
        more[index] = random.random()
        before, after = rule(weights, served), rule(weights, served + more)
        assert after[index] <= before[index] + 1e-12
        assert not before[weights == 0].any()


def test_budgeted_weights_are_the_slopes_of_the_utility() -> None:
    weights, served, budget, step = np.array([0.5, 0.3, 0.2]), np.array([1.9, -0.4, 3.0]), 4.0, 1e-6

    def utility(values: np.ndarray) -> np.ndarray:
        shares = budget_shares(weights, budget)
        return -weights * np.logaddexp(-BUDGET_RATE * values, -BUDGET_RATE * shares) / BUDGET_RATE

    slopes = (utility(served + step) - utility(served - step)) / (2 * step)
    np.testing.assert_allclose(budgeted_weights(weights, served, budget), slopes, atol=1e-8)


def test_an_unserved_principal_bids_at_least_half_and_one_long_served_nothing() -> None:
    weights = np.array([0.7, 0.3])
    bids = budgeted_weights(weights, np.array([2.7, 40.0]))
    assert bids[0] >= weights[0] / 2
    assert bids[1] < 1e-9


@pytest.mark.parametrize("rule", RULES)
def test_a_batch_is_its_rows(rule) -> None:
    random = np.random.default_rng(1)
    weights, served = random.random((7, 3)), random.normal(size=(7, 3))
    rows = [rule(w, x) for w, x in zip(weights, served, strict=True)]
    np.testing.assert_allclose(rule(weights, served), rows)


def test_without_any_weight_nothing_is_bid_and_nothing_regretted() -> None:
    none = np.zeros(3)
    for rule in RULES:
        assert not rule(none, np.array([1.0, -1.0, 0.0])).any()
    for game in (BudgetedGame.opening(none), BalancedGame.opening(none)):
        assert played(game, np.ones((3, 3))).regret_nats == 0.0
