"""The fused kernel: run by Triton's interpreter on a CPU (TRITON_INTERPRET=1), or as it is on a GPU."""

import math
import os

import pytest
import torch

from cage_core import equilibrium
from cage_core.equilibrium import GAP_TOLERANCE, Equilibrium, Status, solve_equilibrium, solve_on_device
from cage_core.errors import InvalidGame
from cage_core.game import Game
from cage_core.kernels import fused
from tests.cage_core.games import random_game

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
runs_here = pytest.mark.skipif(
    not fused.AVAILABLE or not (DEVICE == "cuda" or INTERPRETED),
    reason="the fused kernel was not run: it needs Triton, and a CUDA device or TRITON_INTERPRET=1",
)
on_a_gpu = pytest.mark.skipif(
    not fused.AVAILABLE or DEVICE != "cuda" or INTERPRETED,
    reason="no CUDA device with Triton here: CUDA graphs were not run",
)
# NumPy, which stands in for the GPU, warns where a step is rejected for being infinite.
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


def moved(game: Game, device: str = DEVICE) -> Game:
    temperature = game.temperature.to(device) if isinstance(game.temperature, torch.Tensor) else game.temperature
    return Game(game.base_log_probs.to(device), game.payoffs.to(device), temperature)


def assert_same(answer: Equilibrium, expected: Equilibrium, tolerance: float = 1e-9) -> None:
    for name in ("policy", "reserves", "incentives", "gap"):
        actual, wanted = getattr(answer, name).cpu(), getattr(expected, name)
        assert actual.dtype == wanted.dtype
        torch.testing.assert_close(actual, wanted, rtol=0, atol=tolerance)
    assert answer.status_codes.cpu().tolist() == expected.status_codes.tolist()


def nasty(kind: str) -> Game:
    game = random_game(20, principals=3, tokens=11, batch=(4,), tau=0.2)
    base, payoffs = game.base_log_probs.clone(), game.payoffs.clone()
    if kind == "tied":
        payoffs = torch.round(payoffs * 2) / 2
    elif kind == "opposed":
        payoffs = payoffs[:, :1] * torch.tensor([1.0, -1.0, 1.0], dtype=torch.float64).unsqueeze(-1)
    elif kind == "impossible candidates":
        base[:, ::3] = -math.inf
        base[0, 2:] = -math.inf
    elif kind == "zero weight":
        payoffs[:, 1] = 0.0
        payoffs[0] = 7.0
    elif kind == "offset":
        payoffs += 1e3 * torch.arange(3, dtype=torch.float64).unsqueeze(-1)
    elif kind == "own temperatures":
        return Game(base, payoffs, torch.tensor([0.05, 0.2, 1.0, 5.0], dtype=torch.float64))
    return Game(base, payoffs, 0.2)


@runs_here
@pytest.mark.parametrize(("principals", "tokens", "tau"), [(1, 1, 0.3), (1, 9, 0.1), (2, 16, 0.1), (4, 30, 0.1)])
def test_the_fused_kernel_agrees_with_the_cpu(principals: int, tokens: int, tau: float):
    game = random_game(21, principals, tokens, batch=(2, 2), tau=tau)
    assert_same(solve_on_device(moved(game)), solve_equilibrium(game))


@runs_here
@pytest.mark.parametrize(
    "kind", ["tied", "opposed", "impossible candidates", "zero weight", "offset", "own temperatures"]
)
def test_nasty_games_agree_with_the_cpu(kind: str):
    game = nasty(kind)
    assert_same(solve_on_device(moved(game)), solve_equilibrium(game))


@runs_here
def test_cold_extreme_games_are_certified_by_other_code():
    game = random_game(22, principals=2, tokens=16, batch=(3,), scale=10.0, tau=1e-3)
    answer = solve_on_device(moved(game))
    assert answer.status is Status.EQUILIBRIUM
    assert float(equilibrium.equilibrium_gap(moved(game), answer.incentives).max()) <= GAP_TOLERANCE


@runs_here
def test_padding_changes_nothing():
    game = random_game(23, principals=2, tokens=8, batch=(2,))
    payoffs = torch.zeros(2, 3, 17, dtype=torch.float64)
    payoffs[:, :2, :8] = game.payoffs
    base = torch.full((2, 17), -math.inf, dtype=torch.float64)
    base[:, :8] = game.base_log_probs
    answer = solve_on_device(moved(Game(base, payoffs, game.temperature)))
    expected = solve_equilibrium(game)
    torch.testing.assert_close(answer.policy[:, :8].cpu(), expected.policy, rtol=0, atol=1e-12)
    torch.testing.assert_close(answer.reserves[:, :2].cpu(), expected.reserves, rtol=0, atol=1e-12)
    assert not answer.policy[:, 8:].any()
    assert not answer.incentives[:, 2:].any()
    assert not answer.incentives[:, :, 8:].any()


@runs_here
def test_a_warm_start_takes_fewer_steps_from_anywhere():
    game = random_game(24, batch=(3,))
    expected = solve_equilibrium(game)
    warm = solve_on_device(moved(game), expected.reserves.to(DEVICE))
    assert_same(warm, expected)
    assert int(warm.iterations.max()) <= 1
    assert_same(solve_on_device(moved(game), torch.full((3,), -40.0, device=DEVICE)), expected)


@runs_here
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float16, 2e-3), (torch.bfloat16, 2e-2)])
def test_lower_precision_is_solved_in_double_and_rounded(dtype: torch.dtype, tolerance: float):
    game = random_game(25, batch=(2,))
    lower = Game(game.base_log_probs.to(dtype), game.payoffs.to(dtype), 0.3)
    assert_same(solve_on_device(moved(lower)), solve_equilibrium(lower), tolerance)


@runs_here
def test_strided_and_shared_inputs_are_read_where_they_are():
    game = random_game(26, tokens=12)
    payoffs = random_game(27, tokens=12, batch=(2,)).payoffs.transpose(-1, -2).contiguous().transpose(-1, -2)
    shared = Game(game.base_log_probs, payoffs, 0.3)
    assert_same(solve_on_device(moved(shared)), solve_equilibrium(shared))


@runs_here
@pytest.mark.parametrize("wrong", ["payoffs", "base", "start"])
def test_what_is_not_a_number_is_never_called_an_equilibrium(wrong: str):
    good, nan = torch.tensor([1.0, 0.0]), torch.tensor([math.nan, 0.0])
    base, payoffs, start = (nan if wrong == name else good for name in ("base", "payoffs", "start"))
    game = Game.unchecked(base.to(DEVICE), payoffs.expand(2, 2).to(DEVICE), 0.5)
    answer = solve_on_device(game, start.to(DEVICE))
    assert answer.status is Status.NOT_CONVERGED
    assert float(answer.gap) == math.inf


@pytest.mark.skipif(not INTERPRETED or not fused.AVAILABLE, reason="compiled kernels keep the number of steps")
@pytest.mark.parametrize("start", [None, 0.0, 3.0])
def test_the_gap_of_unfinished_games_agrees_with_other_code(monkeypatch: pytest.MonkeyPatch, start: float | None):
    monkeypatch.setattr(fused, "MAX_STEPS", type(fused.MAX_STEPS)(0))
    game = moved(random_game(33, principals=3, tokens=14, batch=(6,), tau=0.1))
    answer = solve_on_device(game, None if start is None else torch.full((3,), start, device=DEVICE))
    assert answer.status is Status.NOT_CONVERGED
    assert not answer.iterations.any()
    expected = equilibrium.equilibrium_gap(game, answer.incentives)
    assert float(expected.max()) > 1e-3
    torch.testing.assert_close(answer.gap, expected, rtol=1e-10, atol=1e-14)


@runs_here
def test_the_last_resort_replaces_only_what_did_not_converge():
    game = random_game(28, batch=(2, 2))
    answer = solve_on_device(moved(game))
    expected = solve_equilibrium(game)
    codes = answer.status_codes.clone()
    codes[1, 0] = 1
    lost = answer.policy.clone()
    lost[1, 0] = math.nan
    failed = Equilibrium(lost, answer.reserves, answer.incentives, answer.gap, codes, answer.iterations)
    rescued = equilibrium._with_last_resort(moved(game), failed)
    assert_same(rescued, expected)
    assert torch.equal(rescued.policy[0], answer.policy[0])


def test_games_too_large_for_the_kernel_are_refused_by_name():
    with pytest.raises(InvalidGame, match="at most 16 principals and 1024 candidates"):
        solve_on_device(random_game(29, principals=17, tokens=4))


@on_a_gpu
@pytest.mark.parametrize(("principals", "tokens"), [(8, 128), (3, 50), (16, 64), (16, 1024)])
def test_larger_games_agree_with_the_cpu(principals: int, tokens: int):
    game = random_game(30, principals, tokens, batch=(64,), tau=0.3)
    answer = solve_equilibrium(moved(game))
    assert answer.policy.device.type == "cuda"
    assert_same(answer, solve_equilibrium(game), 1e-8)


@on_a_gpu
def test_a_captured_graph_solves_whatever_its_inputs_hold():
    first, second = (random_game(seed, principals=8, tokens=128, batch=(64,)) for seed in (31, 32))
    base, payoffs = first.base_log_probs.cuda(), first.payoffs.cuda()
    start = torch.zeros(64, 8, dtype=torch.float64, device="cuda")
    game = Game.unchecked(base, payoffs, 0.3)
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        solve_equilibrium(game, start)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        answer = solve_equilibrium(game, start)
    for asked in (first, second):
        base.copy_(asked.base_log_probs)
        payoffs.copy_(asked.payoffs)
        graph.replay()
        assert_same(answer, solve_equilibrium(asked), 1e-8)
