import subprocess
import sys

import torch

import cage_core
from cage_core import Game, best_response, equilibrium_gap, solve_equilibrium


def test_the_public_names_are_these() -> None:
    assert cage_core.__all__ == ["Equilibrium", "Game", "best_response", "equilibrium_gap", "solve_equilibrium"]
    for name in cage_core.__all__:
        assert getattr(cage_core, name).__module__.startswith("cage_core.")


def test_the_documented_call() -> None:
    generator = torch.Generator().manual_seed(0)
    base_log_probs = torch.randn(2, 8, generator=generator).log_softmax(-1)
    game = Game(base_log_probs, torch.randn(2, 3, 8, generator=generator), 0.5)
    eq = solve_equilibrium(game, initial_reserves=None)
    assert eq.policy.shape == (2, 8)
    assert eq.reserves.shape == (2, 3)
    assert eq.incentives.shape == (2, 3, 8)
    assert eq.gap.shape == (2,)
    assert float(equilibrium_gap(game, eq.incentives).max()) < 1e-6
    others = eq.incentives.sum(1) - eq.incentives[:, 0]
    torch.testing.assert_close(best_response(game, others, 0), eq.reserves[:, 0], atol=1e-5, rtol=0)


def test_the_package_alone_does_not_import_torch() -> None:
    check = "import sys, cage_core, cage_core.pocket.scorers; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0
