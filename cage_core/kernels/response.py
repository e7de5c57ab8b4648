"""One principal's exact best response, by closed forms on the pieces of a concave function."""

from __future__ import annotations

import math

from cage_core.kernels.compiling import Floats, compiled

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
def best_reserve(log_weights: Floats, payoffs: Floats, trial: float) -> float:
    """Reserve of the best response to the others (docs/paper.md, eq. 2), from a trial reserve near it.

    With weights a, H(m) = sum over low of a (m - v - 1) - sum over high of a exp(v - m) is increasing, concave
    and once differentiable, and its root is the reserve. The closed form on the piece around a trial on
    one side of the root lands on the other side; where the two bracket no token's payoff the answer is exact.

    Args:
        log_weights: [N] log pi0 plus the others' incentives, up to a constant.
        payoffs: [N] of the principal who responds.
        trial: where to look first.
    """
    tokens = payoffs.shape[0]
    lower, upper = -math.inf, math.inf
    lowest, highest = math.inf, -math.inf
    for k in range(tokens):
        lowest = min(lowest, payoffs[k])
        highest = max(highest, payoffs[k])
    trial = min(max(trial, lowest), highest + 1.0)
    for _ in range(MAX_PIECES):
        largest = -math.inf
        for k in range(tokens):
            largest = max(largest, log_weights[k] + max(payoffs[k] - trial, 0.0))
        low, high, shortfall = 0.0, 0.0, 0.0
        for k in range(tokens):
            excess = payoffs[k] - trial
            if excess > 0.0:
                high += math.exp(log_weights[k] + excess - largest)
            else:
                weight = math.exp(log_weights[k] - largest)
                low += weight
                shortfall -= weight * excess
        value = shortfall - low - high
        if value < 0.0:
            lower = trial
        else:
            upper = trial
        if low > 0.0:
            step = piece_root(low, high, shortfall)
        else:
            step = -value / (low + high)
        target = trial + step
        crossed = False
        for k in range(tokens):
            if (payoffs[k] > trial) != (payoffs[k] > target):
                crossed = True
                break
        if not crossed and low > 0.0:
            return target
        if not lower < target < upper:
            # The tangent of a concave function never passes its root from below: safe, if slower.
            target = 0.5 * (lower + upper) if upper < math.inf and lower > -math.inf else trial - value / (low + high)
            if not lower < target < upper:
                return trial
        trial = target
    return trial
