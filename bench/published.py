"""The solver settings of the published experiments, written anew from their description.

Nonlinear Jacobi: in each of at most 5 rounds every principal answers the round before by L-BFGS-B with
numerical gradients and at most 8 iterations, inside 0 <= y <= payoff (payoffs shifted to a minimum of 0);
rounds stop early once no payment moves by more than 1e-3 (arXiv 2605.13875, Algorithm 1 and experiments).
The first round's starting point is not part of that description and matters a great deal: it is a parameter.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

Floats = NDArray[np.float64]
ROUNDS = 5
ITERATIONS = 8
STOP = 1e-3


@dataclass(frozen=True)
class PublishedAnswer:
    """Policy [N] and incentives [J, N] where the settings stop, and whether their stopping rule was met."""

    policy: Floats
    incentives: Floats
    stopped_by_itself: bool


def solve_as_published(log_base: Floats, payoffs: Floats, temperature: float, initial_share: float) -> PublishedAnswer:
    """Play at most ROUNDS rounds; everybody first pays `initial_share` of its shifted payoffs."""
    ceilings = payoffs - payoffs.min(axis=1, keepdims=True)
    incentives = initial_share * ceilings
    stopped = False
    for _ in range(ROUNDS):
        total = incentives.sum(axis=0)
        answers = np.stack(
            [
                _answer(log_base, ceiling, total - own, own, temperature)
                for ceiling, own in zip(ceilings, incentives, strict=True)
            ]
        )
        stopped = bool(np.abs(answers - incentives).max() <= STOP)
        incentives = answers
        if stopped:
            break
    return PublishedAnswer(_policy(log_base, incentives.sum(axis=0), temperature), incentives, stopped)


def _answer(log_base: Floats, ceiling: Floats, others: Floats, own: Floats, temperature: float) -> Floats:
    def loss(payments: Floats) -> float:
        return -float(_policy(log_base, others + payments, temperature) @ (ceiling - payments))

    bounds = [(0.0, float(most)) for most in ceiling]
    found = minimize(loss, own, method="L-BFGS-B", bounds=bounds, options={"maxiter": ITERATIONS})
    return np.asarray(found.x, dtype=np.float64)


def _policy(log_base: Floats, aggregate: Floats, temperature: float) -> Floats:
    logits = log_base + aggregate / temperature
    weights = np.exp(logits - logits.max())
    policy: Floats = weights / weights.sum()
    return policy
