"""One principal's exact best response, by closed forms on the pieces of a concave function."""

from __future__ import annotations

import math

from cage_core.kernels.compiling import Floats, compiled
from cage_core.kernels.loops import add_payments, count_between, exponentials, largest, smallest, split

MAX_PIECES = 200


@compiled
def wright_omega(x: float) -> float:
    """Real Wright omega function, the root of omega + log(omega) = x (Fritsch, Shafer and Crowley 1973)."""
    if x < -700.0:
        return math.exp(x) if x > -745.0 else 0.0
    if x > 1.0:
        omega = x - math.log(x)
        if x < 3.0:
            omega = 1.0 + 0.5 * (x - 1.0)
    else:
        exponential = math.exp(x)
        omega = exponential / (1.0 + exponential)
    for _ in range(8):
        residual = x - omega - math.log(omega)
        plus = 1.0 + omega
        inner = plus * (plus + residual * (2.0 / 3.0))
        omega *= 1.0 + residual / plus * (inner - 0.5 * residual) / (inner - residual)
        if abs(residual) < 1e-4:
            break
    return omega


@compiled
def piece_root(low: float, high: float, shortfall: float) -> float:
    """Distance from a trial reserve to the best one, if no token's payoff lies in between (eq. 2).

    Args:
        low: weight of the tokens whose payoff is at most the trial reserve.
        high: weight of the others, their payment at the trial reserve included.
        shortfall: sum over the low tokens of weight * (trial reserve - payoff).
    """
    offset = 1.0 - shortfall / low
    if high <= 0.0:
        return offset
    log_odds = math.log(high) - math.log(low)
    omega = wright_omega(log_odds - offset)
    # For large omega the sum offset + omega cancels; log_odds - log(omega) is the same number and does not.
    return log_odds - math.log(omega) if omega > 1.0 else offset + omega


@compiled
def best_reserve(log_weights: Floats, payoffs: Floats, trial: float, weights: Floats, powers: Floats) -> float:
    """Reserve of the best response to the others (docs/paper.md, eq. 2), from a trial reserve near it.

    With weights a, H(m) = sum over low of a (m - v - 1) - sum over high of a exp(v - m) is increasing, concave
    and once differentiable, and its root is the reserve. The closed form on the piece around a trial on
    one side of the root lands on the other side; where no token's payoff lies in between, it is the root.

    Args:
        log_weights: [N] log pi0 plus the others' incentives, up to a constant.
        payoffs: [N] of the principal who responds.
        trial: where to look first; any number, or -inf.
        weights, powers: [N] scratch.
    """
    top = largest(payoffs)
    lower, upper = smallest(payoffs), math.inf
    trial = min(max(trial, lower), top + 1.0)
    for _ in range(MAX_PIECES):
        weights[:] = log_weights
        add_payments(payoffs, trial, weights)
        exponentials(weights, powers)
        low, high, shortfall = split(weights, payoffs, trial)
        value = shortfall - low - high
        if value < 0.0:
            lower = max(lower, trial)
        else:
            upper = min(upper, trial)
        target = math.inf
        if low > 0.0:
            target = trial + piece_root(low, high, shortfall)
            if count_between(payoffs, trial, target) == 0:
                return target
        if not lower < target < upper:
            # A tangent of a concave function never passes its root from below: safe, if slower.
            target = 0.5 * (lower + upper) if upper < math.inf else trial - value / (low + high)
            if not lower < target < upper:
                return trial
        trial = target
    return trial
