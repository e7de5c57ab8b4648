import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import wrightomega

from cage_core.best_responses import best_response, wright_omega
from cage_core.game import Game
from cage_core.kernels.response import best_reserve
from cage_core.kernels.response import wright_omega as scalar_wright_omega
from tests.cage_core.games import games
from tests.oracles import best_utility, utility

POINTS = np.concatenate([np.linspace(-750, 50, 4001), np.linspace(-3, 4, 4001), np.logspace(1, 12, 200)])


def test_wright_omega_agrees_with_scipy():
    expected = wrightomega(POINTS)
    np.testing.assert_allclose(wright_omega(torch.from_numpy(POINTS)).numpy(), expected, rtol=1e-14, atol=1e-320)
    scalars = [scalar_wright_omega(float(point)) for point in POINTS]
    np.testing.assert_allclose(scalars, expected, rtol=1e-14, atol=1e-320)


@settings(max_examples=40, deadline=None)
@given(games(most_principals=1, most_tokens=25), st.integers(0, 2**31))
def test_no_payment_found_by_brute_force_beats_it(game: Game, seed: int):
    others = torch.rand(game.num_candidates, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    reserve = float(best_response(game, others, 0))
    base, payoff, tau = game.base_log_probs.numpy(), game.payoffs[0].numpy(), float(game.temperature)
    own = np.maximum(payoff - reserve, 0)
    reached = utility(base, payoff, own, others.numpy(), tau)
    assert reached == pytest.approx(reserve - tau, abs=1e-10)
    assert best_utility(base, payoff, others.numpy(), tau) <= reached + 1e-9


@settings(max_examples=60, deadline=None)
@given(games(most_principals=1), st.floats(-100, 100))
def test_the_compiled_search_finds_the_same_reserve_from_anywhere(game: Game, trial: float):
    tau = float(game.temperature)
    scaled = (game.payoffs[0] / tau).numpy()
    scratch = np.empty((2, scaled.size))
    found = best_reserve(game.base_log_probs.numpy(), scaled, trial, scratch[0], scratch[1]) * tau
    nobody = torch.zeros(game.num_candidates, dtype=torch.float64)
    assert found == pytest.approx(float(best_response(game, nobody, 0)), rel=1e-11, abs=1e-11)


def test_enormous_payoffs_of_negligible_tokens_cost_no_accuracy():
    base = torch.tensor([0.0, -1.0, -60.0, -2000.0], dtype=torch.float64)
    payoffs = torch.tensor([[0.0, 0.3, -1e9, 1e3]], dtype=torch.float64)
    game = Game(base, payoffs, 0.5)
    reserve = float(best_response(game, torch.zeros(4, dtype=torch.float64), 0))
    policy = torch.softmax(base + (payoffs[0] - reserve).clamp(min=0) / 0.5, dim=-1)
    assert float((policy * (reserve - payoffs[0]).clamp(min=0)).sum()) == pytest.approx(0.5, rel=1e-9)


def test_an_indifferent_principal_keeps_the_temperature():
    game = Game(torch.zeros(4, dtype=torch.float64), torch.full((1, 4), 3.0, dtype=torch.float64), 0.25)
    assert float(best_response(game, torch.zeros(4, dtype=torch.float64), 0)) == pytest.approx(3.25)
