import json
import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from cage_core import equilibrium
from cage_core.best_responses import best_response
from cage_core.equilibrium import Status, committed_outcome, equilibrium_gap, solve_equilibrium
from cage_core.errors import InvalidGame
from cage_core.game import Game
from cage_core.kernels.continuation import follow
from cage_core.kernels.newton import newton
from tests.cage_core.games import games, random_game
from tests.oracles import brute_force_gap, utility


@settings(max_examples=150, deadline=None)
@given(games())
def test_nobody_gains_by_deviating(game: Game):
    answer = solve_equilibrium(game)
    assert answer.status is Status.EQUILIBRIUM
    assert float(equilibrium_gap(game, answer.incentives)) <= 1e-10
    assert float(answer.policy.sum()) == pytest.approx(1.0, abs=1e-12)


@settings(max_examples=12, deadline=None)
@given(games(most_principals=3, most_tokens=12))
def test_brute_force_finds_no_deviation_either(game: Game):
    answer = solve_equilibrium(game)
    tau = float(game.temperature)
    gap = brute_force_gap(game.base_log_probs.numpy(), game.payoffs.numpy(), answer.incentives.numpy(), tau)
    assert gap <= 1e-8


@settings(max_examples=12, deadline=None)
@given(games(most_principals=3, most_tokens=10), st.integers(0, 2**31))
def test_the_gap_of_arbitrary_incentives_agrees_with_brute_force(game: Game, seed: int):
    generator = torch.Generator().manual_seed(seed)
    incentives = torch.rand(game.payoffs.shape, generator=generator, dtype=torch.float64)
    base, payoffs, paid = (t.numpy() for t in (game.base_log_probs, game.payoffs, incentives))
    tau = float(game.temperature)
    gap = float(equilibrium_gap(game, incentives))
    # Search can stop short of the best deviation, so it bounds the gap from below ...
    assert brute_force_gap(base, payoffs, paid, tau) <= gap + 1e-7
    # ... and a deviation that earns the gap bounds it from above.
    gains = []
    for j, payoff in enumerate(payoffs):
        others = paid.sum(0) - paid[j]
        reserve = float(best_response(game, torch.from_numpy(others), j))
        deviation = (payoff - reserve).clip(min=0)
        gains.append(utility(base, payoff, deviation, others, tau) - utility(base, payoff, paid[j], others, tau))
    assert max(gains) == pytest.approx(gap, rel=1e-7, abs=1e-7)


@settings(max_examples=60, deadline=None)
@given(games(most_principals=2), st.lists(st.floats(-50, 50), min_size=2, max_size=2))
def test_shifting_payoffs_moves_reserves_and_nothing_else(game: Game, shifts: list[float]):
    shift = torch.tensor(shifts[: game.num_principals], dtype=torch.float64)
    moved = solve_equilibrium(Game(game.base_log_probs, game.payoffs + shift.unsqueeze(-1), game.temperature))
    answer = solve_equilibrium(game)
    torch.testing.assert_close(moved.policy, answer.policy, rtol=0, atol=1e-9)
    torch.testing.assert_close(moved.reserves - shift, answer.reserves, rtol=0, atol=1e-9)


@settings(max_examples=60, deadline=None)
@given(games(most_principals=2), st.randoms(use_true_random=False))
def test_the_order_of_tokens_and_principals_does_not_matter(game: Game, random):
    tokens = torch.tensor(random.sample(range(game.num_candidates), game.num_candidates))
    principals = torch.tensor(random.sample(range(game.num_principals), game.num_principals))
    shuffled = Game(game.base_log_probs[tokens], game.payoffs[principals][:, tokens], game.temperature)
    answer, other = solve_equilibrium(game), solve_equilibrium(shuffled)
    torch.testing.assert_close(other.policy, answer.policy[tokens], rtol=0, atol=1e-9)
    torch.testing.assert_close(other.reserves, answer.reserves[principals], rtol=0, atol=1e-9)


@settings(max_examples=40, deadline=None)
@given(games(most_principals=2), st.floats(0.01, 100))
def test_payoffs_and_temperature_scale_together(game: Game, factor: float):
    scaled = Game(game.base_log_probs, game.payoffs * factor, game.temperature * factor)
    torch.testing.assert_close(solve_equilibrium(scaled).policy, solve_equilibrium(game).policy, rtol=0, atol=1e-9)


@settings(max_examples=40, deadline=None)
@given(games(), st.integers(1, 3), st.integers(1, 5))
def test_padding_changes_nothing_to_the_last_bit(game: Game, more_principals: int, more_tokens: int):
    principals, tokens = game.payoffs.shape
    payoffs = torch.zeros(principals + more_principals, tokens + more_tokens, dtype=torch.float64)
    payoffs[:principals, :tokens] = game.payoffs
    base = torch.cat([game.base_log_probs, torch.full((more_tokens,), -math.inf, dtype=torch.float64)])
    answer, padded = solve_equilibrium(game), solve_equilibrium(Game(base, payoffs, game.temperature))
    assert torch.equal(padded.policy[:tokens], answer.policy)
    assert torch.equal(padded.reserves[:principals], answer.reserves)
    assert torch.equal(padded.incentives[:principals, :tokens], answer.incentives)
    assert not padded.policy[tokens:].any()
    assert not padded.incentives[principals:].any()
    assert not padded.incentives[:, tokens:].any()


def test_a_batch_equals_its_games_one_by_one():
    game = random_game(0, batch=(4, 3))
    answer = solve_equilibrium(game)
    for row in range(4):
        for column in range(3):
            index = (row, column)
            alone = solve_equilibrium(Game(game.base_log_probs[index], game.payoffs[index], game.temperature))
            assert torch.equal(answer.policy[index], alone.policy)
            assert torch.equal(answer.incentives[index], alone.incentives)
    assert answer.gap.shape == answer.iterations.shape == answer.status_codes.shape == (4, 3)


@settings(max_examples=40, deadline=None)
@given(games())
def test_the_batched_path_agrees_with_the_kernel(game: Game):
    # Three or more principals can have several equilibria, and the two paths need not find the same one.
    assume(game.num_principals <= 2)
    other = equilibrium._solve_batched(game, None)
    torch.testing.assert_close(other.policy, solve_equilibrium(game).policy, rtol=0, atol=1e-9)
    assert other.status is Status.EQUILIBRIUM


def test_the_batched_path_solves_what_newton_alone_does_not():
    game = random_game(5, principals=8, tokens=60, batch=(300,), scale=4.0, tau=0.02)
    answer = equilibrium._solve_batched(game, None)
    assert answer.status is Status.EQUILIBRIUM


@settings(max_examples=60, deadline=None)
@given(games(most_principals=8))
def test_the_last_resort_solves_every_game_by_itself(game: Game):
    scaled = game.payoffs / game.temperature
    scaled = scaled - scaled.amax(dim=-1, keepdim=True)
    payoffs = np.ascontiguousarray(scaled[scaled.amin(dim=-1) < 0].numpy())
    assume(payoffs.size)
    base = game.base_log_probs.numpy()
    reserves, scratch = np.empty(payoffs.shape[0]), np.empty((3, base.size))
    _, followed = follow(base, payoffs, reserves)
    _, solved = newton(base, payoffs, reserves, scratch[0], scratch[1], scratch[2])
    assert followed
    assert solved


def test_a_warm_start_finds_the_same_equilibrium_in_fewer_steps():
    game = random_game(1, batch=(50,))
    cold = solve_equilibrium(game)
    warm = solve_equilibrium(game, cold.reserves)
    torch.testing.assert_close(warm.policy, cold.policy, rtol=0, atol=1e-10)
    assert int(warm.iterations.max()) <= 1
    elsewhere = solve_equilibrium(game, torch.full((3,), -40.0))
    assert bool(elsewhere.converged.all())


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float16, 2e-3), (torch.bfloat16, 2e-2)])
def test_lower_precision_is_solved_in_double_and_rounded(dtype: torch.dtype, tolerance: float):
    game = random_game(2, batch=(20,))
    lower = Game(game.base_log_probs.to(dtype), game.payoffs.to(dtype), 0.3)
    same = Game(lower.base_log_probs.double(), lower.payoffs.double(), 0.3)
    answer = solve_equilibrium(lower)
    assert answer.policy.dtype == dtype
    assert bool(answer.converged.all())
    torch.testing.assert_close(answer.policy.double(), solve_equilibrium(same).policy, rtol=0, atol=tolerance)


def test_a_nearly_singular_step_does_not_lose_the_reserves():
    generator = torch.Generator().manual_seed(0)
    uniform = torch.rand(400, 12, 20, generator=generator, dtype=torch.float64)
    cauchy = torch.tan((uniform - 0.5) * math.pi).clamp(-1e7, 1e7)
    answer = solve_equilibrium(Game(torch.zeros(400, 20, dtype=torch.float64), cauchy, 0.01))
    assert bool(torch.isfinite(answer.policy).all())
    assert bool((answer.gap <= 1e-8).all())


def test_what_overflows_is_never_called_an_equilibrium():
    game = Game.unchecked(torch.zeros(3), torch.tensor([[1e30, -1e30, 0.0]]), 1e-30)
    assert solve_equilibrium(game).status is Status.NOT_CONVERGED


def test_one_candidate_identical_and_opposed_principals():
    one = solve_equilibrium(Game(torch.zeros(1), torch.tensor([[3.0], [-1.0]]), 0.1))
    assert one.policy.tolist() == [1.0]
    row = torch.tensor([1.0, 0.0, -2.0], dtype=torch.float64)
    base = torch.log(torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64))
    for payoffs in (torch.stack([row, row]), torch.stack([row, -row])):
        answer = solve_equilibrium(Game(base, payoffs, 0.05))
        assert answer.status is Status.EQUILIBRIUM
    indifferent = solve_equilibrium(Game(base, torch.zeros(2, 3, dtype=torch.float64), 0.05))
    torch.testing.assert_close(indifferent.policy, base.exp())
    torch.testing.assert_close(indifferent.reserves, torch.full((2,), 0.05, dtype=torch.float64))


def test_an_empty_batch_has_an_empty_answer():
    answer = solve_equilibrium(Game(torch.zeros(0, 4), torch.zeros(0, 2, 4), 0.1))
    assert answer.policy.shape == (0, 4)
    assert answer.status is Status.EQUILIBRIUM


@pytest.mark.parametrize("reserves", [torch.zeros(2), torch.zeros(4, 3), torch.tensor([0.0, math.nan, 0.0])])
def test_a_start_that_does_not_fit_is_refused(reserves: torch.Tensor):
    with pytest.raises(InvalidGame, match="initial_reserves must be"):
        solve_equilibrium(random_game(3), reserves)


def test_commitments_are_kept_and_told_apart_from_equilibria():
    game = random_game(4)
    solved = solve_equilibrium(game)
    kept = committed_outcome(game, solved.reserves)
    torch.testing.assert_close(kept.policy, solved.policy, rtol=0, atol=1e-12)
    assert kept.status is Status.EQUILIBRIUM
    away = committed_outcome(game, solved.reserves + 0.5)
    assert away.status is Status.BY_DESIGN
    assert float(away.gap) == pytest.approx(float(equilibrium_gap(game, away.incentives)), abs=1e-12)
    assert float(away.gap) > 1e-3


def test_uniqueness_fails_from_three_principals_on():
    # Each principal abhors one rare token that the two others like (docs/paper.md, Theorem 1).
    rare, like, dislike = 0.05, 0.5, -22.0
    policy = torch.tensor([1 - 3 * rare, rare, rare, rare], dtype=torch.float64)
    payoffs = torch.full((3, 4), like, dtype=torch.float64)
    payoffs[:, 0] = 0.0
    payoffs[:, 1:].fill_diagonal_(dislike)
    base = torch.log(policy) - torch.tensor([0.0, 2 * like, 2 * like, 2 * like], dtype=torch.float64)
    game = Game(base, payoffs, 1.0)
    found = [solve_equilibrium(game, torch.full((3,), start, dtype=torch.float64)) for start in (-0.1, 0.13, 0.6)]
    masses = [float(answer.policy[0]) for answer in found]
    assert masses == pytest.approx([0.8630, 0.8795, 0.9390], abs=1e-3)
    for answer in found:
        assert brute_force_gap(base.numpy(), payoffs.numpy(), answer.incentives.numpy(), 1.0) <= 1e-8


WITHOUT_NUMBA = """
import sys
sys.modules["numba"] = None
import json, torch
torch.set_num_threads(1)
from cage_core import equilibrium
from tests.cage_core.games import random_game
game = random_game(9, principals=5, tokens=15, batch=(6,), scale=2.0, tau=0.1)
solved = equilibrium.solve_equilibrium(game)
alone = equilibrium._solve_scalar(game, None, commit=False)
print(json.dumps([solved.policy.tolist(), alone.policy.tolist(), solved.gap.max().item()]))
"""


def test_without_numba_the_answers_are_equal():
    completed = subprocess.run([sys.executable, "-c", WITHOUT_NUMBA], capture_output=True, text=True, check=True)
    batched, scalar, gap = json.loads(completed.stdout)
    expected = solve_equilibrium(random_game(9, principals=5, tokens=15, batch=(6,), scale=2.0, tau=0.1)).policy
    for policy in (batched, scalar):
        torch.testing.assert_close(torch.tensor(policy, dtype=torch.float64), expected, rtol=0, atol=1e-9)
    assert gap <= 1e-10


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here: the GPU path was not run")
def test_a_cuda_device_gives_the_answers_of_the_cpu():
    game = random_game(10, principals=8, tokens=128, batch=(64,), tau=0.3)
    on_device = Game(game.base_log_probs.cuda(), game.payoffs.cuda(), 0.3)
    answer = solve_equilibrium(on_device)
    assert answer.policy.device.type == "cuda"
    torch.testing.assert_close(answer.policy.cpu(), solve_equilibrium(game).policy, rtol=0, atol=1e-8)
