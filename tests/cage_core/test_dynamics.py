import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from cage_core.dynamics import Trajectory, gauss_seidel, jacobi, optimistic_hedge
from cage_core.equilibrium import solve_equilibrium
from cage_core.errors import InvalidGame
from tests.cage_core.games import random_game
from tests.oracles import response_policy

GAME = random_game(3, principals=3, tokens=12, tau=0.5)


def hedge(rounds: int) -> Trajectory:
    return optimistic_hedge(GAME, rounds, torch.Generator().manual_seed(0))


@pytest.mark.parametrize("play", [lambda: gauss_seidel(GAME, 60), lambda: jacobi(GAME, 200, damping=0.5)])
def test_dynamics_that_converge_end_at_the_equilibrium(play):
    trajectory = play()
    assert bool(trajectory.converged())
    torch.testing.assert_close(trajectory.reserves[-1], solve_equilibrium(GAME).reserves, rtol=0, atol=1e-5)


def test_undamped_jacobi_need_not_converge():
    games = random_game(0, principals=4, tokens=20, batch=(20,), tau=0.3)
    assert 0.1 < float(jacobi(games, 100).converged().double().mean()) < 0.9
    assert float(gauss_seidel(games, 100).converged().double().mean()) > 0.95


@pytest.mark.parametrize("rounds", [5, 80])
@pytest.mark.parametrize("play", [lambda rounds: jacobi(GAME, rounds), lambda rounds: gauss_seidel(GAME, rounds)])
def test_regret_is_at_most_what_the_paper_promises(play, rounds: int):
    trajectory = play(rounds)
    assert bool((trajectory.regret <= trajectory.regret_against_anything + 1e-9).all())
    assert bool((trajectory.regret_against_anything <= trajectory.bound + 1e-9).all())


def test_hedge_keeps_its_promise_and_its_mean_regret_falls():
    short, long = hedge(50), hedge(800)
    for trajectory in (short, long):
        assert bool((trajectory.regret <= trajectory.bound + 1e-9).all())
    assert float(long.regret[-1].max()) / 800 < 0.5 * float(short.regret[-1].max()) / 50


def test_the_best_fixed_payment_of_any_shape_lies_between_the_two_regrets():
    trajectory = hedge(20)
    base, payoffs, tau = GAME.base_log_probs.numpy(), GAME.payoffs.numpy(), float(GAME.temperature)
    incentives = np.maximum(payoffs - trajectory.reserves.numpy()[:, :, None], 0)
    for principal in range(3):
        others = incentives.sum(axis=1) - incentives[:, principal]
        payoff = payoffs[principal]

        def loss(own, others=others, payoff=payoff):
            policies = [response_policy(base, own + row, tau) for row in others]
            return -sum(float(policy @ (payoff - own)) for policy in policies)

        start = np.maximum(payoff - trajectory.reserves[:, principal].mean().item(), 0)
        best = -minimize(loss, start, method="L-BFGS-B", bounds=[(0, None)] * payoff.size).fun
        regret = best - float(trajectory.utilities[:, principal].sum())
        assert regret >= float(trajectory.regret[-1, principal]) - 0.02 * 20
        assert regret <= float(trajectory.regret_against_anything[-1, principal]) + 1e-9


def test_a_batch_plays_like_its_games_alone():
    games = random_game(1, batch=(3,), tokens=9)
    together = jacobi(games, 6)
    alone = jacobi(random_game(1, batch=(3,), tokens=9), 6)
    assert together.regret.shape == (6, 3, 3)
    assert torch.equal(together.reserves, alone.reserves)


def test_one_round_is_no_dynamics():
    with pytest.raises(InvalidGame, match="rounds must be at least 2"):
        jacobi(GAME, 1)
