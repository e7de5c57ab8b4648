"""Passes over the candidates: the loops that take the time, written so that compilers vectorise them."""

from __future__ import annotations

import numpy as np

from cage_core.kernels.compiling import COMPILED, Floats, vectorised

LOG2_E = 1.4426950408889634
LN2_HIGH = 0.6931471803691238
LN2_LOW = 1.9082149292705877e-10
SMALLEST_LOGIT = -708.0
EXPONENT_BIAS = 1023
MANTISSA_BITS = 52


@vectorised
def add_payments(payoffs: Floats, reserve: float, logits: Floats) -> None:
    """Add one principal's payments (payoff - reserve)+ to the logits."""
    for k in range(logits.shape[0]):
        logits[k] += max(payoffs[k] - reserve, 0.0)


@vectorised
def subtract_payments(payoffs: Floats, reserve: float, logits: Floats) -> None:
    """Take one principal's payments (payoff - reserve)+ out of the logits."""
    for k in range(logits.shape[0]):
        logits[k] -= max(payoffs[k] - reserve, 0.0)


@vectorised
def largest(values: Floats) -> float:
    result: float = values[0]
    for k in range(values.shape[0]):
        result = max(result, values[k])
    return result


@vectorised
def smallest(values: Floats) -> float:
    result: float = values[0]
    for k in range(values.shape[0]):
        result = min(result, values[k])
    return result


@vectorised
def _compiled_exponentials(logits: Floats, powers: Floats) -> float:
    """exp(x) = 2**n exp(r), |r| <= log(2) / 2, Taylor polynomial of degree 13: good to 2 units in the last place."""
    top = largest(logits)
    bits = powers.view(np.int64)
    for k in range(logits.shape[0]):
        x = max(logits[k] - top, SMALLEST_LOGIT)
        n = np.floor(x * LOG2_E + 0.5)
        r = (x - n * LN2_HIGH) - n * LN2_LOW
        p = 1.0 / 6227020800.0
        p = p * r + 1.0 / 479001600.0
        p = p * r + 1.0 / 39916800.0
        p = p * r + 1.0 / 3628800.0
        p = p * r + 1.0 / 362880.0
        p = p * r + 1.0 / 40320.0
        p = p * r + 1.0 / 5040.0
        p = p * r + 1.0 / 720.0
        p = p * r + 1.0 / 120.0
        p = p * r + 1.0 / 24.0
        p = p * r + 1.0 / 6.0
        p = p * r + 0.5
        p = p * r + 1.0
        logits[k] = p * r + 1.0
        bits[k] = np.int64(np.int32(n) + EXPONENT_BIAS) << MANTISSA_BITS
    total = 0.0
    for k in range(logits.shape[0]):
        logits[k] *= powers[k]
        total += logits[k]
    return total


def _interpreted_exponentials(logits: Floats, powers: Floats) -> float:
    np.exp(np.maximum(logits - logits.max(), SMALLEST_LOGIT), out=logits)
    return float(logits.sum())


# Weights exp(logit - largest logit) in place of the logits; returns their sum. `powers` is scratch, [N].
exponentials = _compiled_exponentials if COMPILED else _interpreted_exponentials


@vectorised
def multiply(values: Floats, factor: float) -> None:
    for k in range(values.shape[0]):
        values[k] *= factor


@vectorised
def split(weights: Floats, payoffs: Floats, reserve: float) -> tuple[float, float, float]:
    """Weight of the tokens a principal does not pay for, of those it pays for, and the weighted shortfall."""
    low, high, shortfall = 0.0, 0.0, 0.0
    for k in range(weights.shape[0]):
        excess = payoffs[k] - reserve
        high += weights[k] if excess > 0.0 else 0.0
        low += weights[k] if excess <= 0.0 else 0.0
        shortfall -= weights[k] * min(excess, 0.0)
    return low, high, shortfall


@vectorised
def shared_shortfalls(
    weights: Floats, payoffs: Floats, reserve: float, others: Floats, other: float
) -> tuple[float, float]:
    """Weighted shortfall of one principal over the tokens another pays for, and of the other over the one's."""
    one, another = 0.0, 0.0
    for k in range(weights.shape[0]):
        excess, other_excess = payoffs[k] - reserve, others[k] - other
        one -= weights[k] * min(excess, 0.0) if other_excess > 0.0 else 0.0
        another -= weights[k] * min(other_excess, 0.0) if excess > 0.0 else 0.0
    return one, another


@vectorised
def count_between(payoffs: Floats, one: float, another: float) -> int:
    """Number of tokens that one reserve pays for and another does not."""
    lower, upper = min(one, another), max(one, another)
    count = 0
    for k in range(payoffs.shape[0]):
        count += 1 if lower < payoffs[k] <= upper else 0
    return count
