"""Brute-force truth about common-agency games: slow, independent of the product's mathematics."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

Floats = NDArray[np.float64]


def response_policy(log_base: Floats, aggregate: Floats, temperature: float) -> Floats:
    """The agent's policy, proportional to exp(log_base + aggregate / temperature)."""
    logits = log_base + aggregate / temperature
    weights = np.exp(logits - logits.max())
    return weights / weights.sum()


def utility(log_base: Floats, payoff: Floats, own: Floats, others: Floats, temperature: float) -> float:
    """Mean payoff less mean payment of a principal who pays `own` while the others pay `others`."""
    return float(response_policy(log_base, own + others, temperature) @ (payoff - own))


def best_utility(
    log_base: Floats, payoff: Floats, others: Floats, temperature: float, starts: int = 6, seed: int = 0
) -> float:
    """Largest utility over all non-negative payments, by L-BFGS-B from several starts."""
    rng = np.random.default_rng(seed)
    spread = float(np.ptp(payoff)) + temperature

    def loss(own: Floats) -> tuple[float, Floats]:
        policy = response_policy(log_base, own + others, temperature)
        margin = payoff - own
        mean = float(policy @ margin)
        return -mean, policy - policy * (margin - mean) / temperature

    best = -np.inf
    for start in range(starts):
        own = np.zeros_like(payoff) if start == 0 else rng.uniform(0, spread, size=payoff.shape)
        options = {"maxiter": 2000, "ftol": 1e-15, "gtol": 1e-12}
        found = minimize(loss, own, jac=True, method="L-BFGS-B", bounds=[(0, None)] * payoff.size, options=options)
        best = max(best, -float(found.fun))
    return best


def brute_force_gap(log_base: Floats, payoffs: Floats, incentives: Floats, temperature: float) -> float:
    """Largest gain of one principal from the best deviation that `best_utility` finds."""
    total = incentives.sum(axis=0)
    gains = [
        best_utility(log_base, payoff, total - own, temperature)
        - utility(log_base, payoff, own, total - own, temperature)
        for payoff, own in zip(payoffs, incentives, strict=True)
    ]
    return max(gains)
