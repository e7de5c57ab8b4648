"""Every claim of the paper that docs/paper.md lists, checked anew.

python -m bench.paper_claims --out bench/results/paper_claims.json
python -m bench.paper_claims --only uniqueness theorem3
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor

from bench.machine import machine
from bench.solver import compare_with_published
from cage_core.best_responses import best_response
from cage_core.blending import METHODS, kl_nats, strength_for_kl
from cage_core.dynamics import gauss_seidel, jacobi, optimistic_hedge
from cage_core.equilibrium import equilibrium_gap, solve_equilibrium
from cage_core.game import Game

Finding = dict[str, Any]


def games(count: int, principals: int, tokens: int, temperature: float, seed: int, scale: float = 1.0) -> Game:
    """Normal payoffs over a random base policy."""
    generator = torch.Generator().manual_seed(seed)
    base = torch.log_softmax(2 * torch.randn(count, tokens, generator=generator, dtype=torch.float64), dim=-1)
    payoffs = scale * torch.randn(count, principals, tokens, generator=generator, dtype=torch.float64)
    return Game(base, payoffs, temperature)


def closed_form() -> Finding:
    """The closed-form best response against L-BFGS-B with exact gradients from five starts."""
    advantage = []
    for seed in range(60):
        game = games(1, 2, 12, 0.3, seed)
        others = torch.rand(1, 12, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        reserve = float(best_response(game, others, 0))
        base, payoff = game.base_log_probs[0].numpy() + others[0].numpy() / 0.3, game.payoffs[0, 0].numpy()
        advantage.append(reserve - 0.3 - _searched_utility(base, payoff, 0.3, seed))
    return {"games": 60, "most_the_search_found_more": max(0.0, -min(advantage)), "least_it_found_less": min(advantage)}


def upper_bound() -> Finding:
    """The paper's ceiling y <= payoff (payoffs shifted to a minimum of 0) never binds: reserves stay above 0."""
    lowest = []
    for principals in (1, 2, 4, 8):
        game = games(500, principals, 50, 0.1, principals)
        shifted = Game(game.base_log_probs, game.payoffs - game.payoffs.amin(-1, keepdim=True), 0.1)
        lowest.append(float(solve_equilibrium(shifted).reserves.min()))
    return {"games": 2000, "lowest_reserve": min(lowest), "temperature": 0.1}


def uniqueness() -> Finding:
    """Theorem 1: games solved from many starts; and a game of three principals with three equilibria."""
    largest = {}
    for principals in (1, 2, 3, 5, 8):
        game = games(500, principals, 30, 0.2, principals)
        reference = solve_equilibrium(game)
        spread = torch.zeros(500, dtype=torch.float64)
        for seed in range(4):
            generator = torch.Generator().manual_seed(seed)
            start = 3 * torch.randn(500, principals, generator=generator, dtype=torch.float64)
            other = solve_equilibrium(game, start)
            spread = torch.maximum(spread, (other.policy - reference.policy).abs().amax(-1))
        largest[principals] = {
            "largest_difference": float(spread.max()),
            "games_that_differ": int((spread > 1e-6).sum()),
        }
    game = several_equilibria()
    starts = [-0.1, 0.13, 0.6]
    found = [solve_equilibrium(game, torch.full((3,), start, dtype=torch.float64)) for start in starts]
    return {
        "random_games_by_principals": largest,
        "counterexample_policies": [[round(p, 4) for p in answer.policy.tolist()] for answer in found],
        "counterexample_gaps": [float(equilibrium_gap(game, answer.incentives)) for answer in found],
    }


def several_equilibria() -> Game:
    """Three principals, four tokens: each abhors one rare token that the two others like."""
    rare, like, dislike = 0.05, 0.5, -22.0
    policy = torch.tensor([1 - 3 * rare, rare, rare, rare], dtype=torch.float64)
    payoffs = torch.full((3, 4), like, dtype=torch.float64)
    payoffs[:, 0] = 0.0
    payoffs[:, 1:].fill_diagonal_(dislike)
    base = torch.log(policy) - torch.tensor([0.0, 2 * like, 2 * like, 2 * like], dtype=torch.float64)
    return Game(base, payoffs, 1.0)


def algorithm1() -> Finding:
    """Algorithm 1 with exact best responses, and Gauss-Seidel: share of 150 games that do not settle in 200 rounds."""
    finding: Finding = {"games_each": 150, "rounds": 200, "candidates": 30, "temperature": 0.2}
    for principals in (2, 3, 5, 8):
        game = games(150, principals, 30, 0.2, 10 + principals)
        finding[str(principals)] = {
            "jacobi_failed": int((~jacobi(game, 200).converged(1e-6)).sum()),
            "damped_half_failed": int((~jacobi(game, 200, damping=0.5).converged(1e-6)).sum()),
            "gauss_seidel_failed": int((~gauss_seidel(game, 200).converged(1e-6)).sum()),
        }
    return finding


def theorem3() -> Finding:
    """Theorem 3: distance between the maximiser of its objective and the equilibrium, 500 games for each J."""
    finding: Finding = {}
    for principals in (1, 2, 3, 5):
        game = games(500, principals, 50, 0.1, 20 + principals)
        difference = (METHODS["theorem3"](game, None).policy - solve_equilibrium(game).policy).abs().amax(-1)
        finding[str(principals)] = {
            "median_largest_difference": round(float(difference.median()), 4),
            "largest_difference": float(difference.max()),
        }
    return finding


def published_settings() -> Finding:
    """Numerical-gradient L-BFGS-B, 8 iterations, 5 rounds, stop 1e-3: distance to the equilibrium."""
    return {f"first payments {share}": compare_with_published(2, 1.5, share) for share in (0.0, 0.5)}


def regret_bound() -> Finding:
    """Measured regret of best-response dynamics and of Hedge beside what theory promises; median of 30 games."""
    finding: Finding = {"rounds": 100, "games": 30}
    generator = torch.Generator().manual_seed(0)
    for principals in (2, 3, 5):
        game = games(30, principals, 20, 0.3, 30 + principals)
        plays = {
            "jacobi": jacobi(game, 100),
            "gauss_seidel": gauss_seidel(game, 100),
            "optimistic_hedge": optimistic_hedge(game, 100, generator),
        }
        for name, play in plays.items():
            finding[f"{name}, J={principals}"] = {
                "median_regret": round(float(play.regret[-1].median()), 4),
                "median_regret_against_anything": round(float(play.regret_against_anything[-1].median()), 4),
                "median_bound": round(float(play.bound[-1].median()), 2),
                "bound_violated": int(
                    (_bounded(name, play.regret[-1], play.regret_against_anything[-1]) > play.bound[-1] + 1e-9).sum()
                ),
            }
    return finding


def equal_kl() -> Finding:
    """Mean payoff of all principals together at equal KL to the base: linear blending against the equilibrium."""
    finding: Finding = {"games": 200, "candidates": 50}
    for target in (0.02, 0.12, 0.5):
        game = games(200, 3, 50, 0.1, 40)
        gains = {}
        for method in ("linear", "equilibrium"):
            strength = strength_for_kl(game, target, method)
            applied = torch.where(torch.isfinite(strength), strength, 1.0)
            stronger = Game(game.base_log_probs, game.payoffs * applied[:, None, None], 0.1)
            policy = METHODS[method](stronger, None).policy
            reached = torch.isfinite(strength) & ((kl_nats(stronger, policy) - target).abs() < 1e-6)
            total = ((policy - game.base_policy()) * game.payoffs.sum(1)).sum(-1)
            gains[method] = torch.where(reached, total, torch.nan)
        both = torch.isfinite(gains["linear"]) & torch.isfinite(gains["equilibrium"])
        finding[f"KL {target}"] = {
            "games_compared": int(both.sum()),
            "linear": round(float(gains["linear"][both].mean()), 4),
            "equilibrium": round(float(gains["equilibrium"][both].mean()), 4),
            "equilibrium_better_in": int((gains["equilibrium"][both] > gains["linear"][both] + 1e-6).sum()),
        }
    return finding


def _bounded(name: str, regret: Tensor, against_anything: Tensor) -> Tensor:
    return regret if name == "optimistic_hedge" else against_anything


def _searched_utility(log_weights: np.ndarray[Any, Any], payoff: np.ndarray[Any, Any], tau: float, seed: int) -> float:
    rng = np.random.default_rng(seed)

    def loss(own: np.ndarray[Any, Any]) -> tuple[float, np.ndarray[Any, Any]]:
        logits = log_weights + own / tau
        policy = np.exp(logits - logits.max())
        policy /= policy.sum()
        mean = float(policy @ (payoff - own))
        return -mean, policy - policy * (payoff - own - mean) / tau

    starts = [np.zeros_like(payoff), *(rng.uniform(0, np.ptp(payoff), payoff.shape) for _ in range(4))]
    options = {"maxiter": 2000, "ftol": 1e-15, "gtol": 1e-12}
    bounds = [(0, None)] * payoff.size
    return max(
        -float(minimize(loss, own, jac=True, method="L-BFGS-B", bounds=bounds, options=options).fun) for own in starts
    )


CLAIMS: dict[str, Callable[[], Finding]] = {
    claim.__name__: claim
    for claim in (
        closed_form,
        upper_bound,
        uniqueness,
        algorithm1,
        theorem3,
        published_settings,
        regret_bound,
        equal_kl,
    )
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", default=list(CLAIMS), choices=list(CLAIMS))
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    findings = {}
    for name in arguments.only:
        findings[name] = CLAIMS[name]()
        print(name, json.dumps(findings[name], indent=1), flush=True)
    if arguments.out is not None:
        arguments.out.write_text(json.dumps({**machine(), "claims": findings}, indent=2) + "\n")


if __name__ == "__main__":
    main()
