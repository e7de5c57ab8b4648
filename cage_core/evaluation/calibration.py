"""Equal footing: the strength at which a method spends a given KL per token."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

KL_TOLERANCE = 0.05
_STRONGEST, _WEAKEST = 200.0, 0.01
# KL grows about so with the strength while nothing more is known of a method.
_FIRST_EXPONENT = 1.5
_EXPONENTS = (0.4, 3.0)
_LARGEST_FACTOR = 4.0

Point = tuple[float, float]
"""A strength, and what it came to."""


@dataclass(frozen=True)
class Calibration:
    """Outcome of a search.

    Attributes:
        strength: the best one found.
        kl_nats: mean KL per token at it.
        matched: whether that is the target within the tolerance asked for.
    """

    strength: float
    kl_nats: float
    matched: bool


def calibrate(
    kl_at: Callable[[float], float],
    target_nats: float,
    start: float,
    tolerance: float = KL_TOLERANCE,
    tries: int = 6,
    known: Sequence[Point] = (),
) -> Calibration:
    """Strength whose mean KL per token is the target; regula falsi and secants on logarithms.

    Args:
        kl_at: mean KL per token at a strength, nats; grows with the strength, up to noise.
        start: first strength tried, unless it is known already or known ones lie on both sides of the target.
        tries: evaluations at most.
        known: what earlier searches along the same curve have found.
    """
    tried = sorted(known)
    is_new = all(point[0] != start for point in tried) and _crossing(tried, target_nats) is None
    strength = start if is_new else _next(tried, target_nats)
    for _ in range(tries):
        found = bool(tried) and _off(_nearest(tried, target_nats)[1], target_nats) <= tolerance
        if found or any(point[0] == strength for point in tried):  # twice the same: the end of the range
            break
        tried = sorted([*tried, (strength, kl_at(strength))])
        strength = _next(tried, target_nats)
    strength, reached = _nearest(tried, target_nats)
    return Calibration(strength, reached, _off(reached, target_nats) <= tolerance)


def _off(reached: float, target: float) -> float:
    return abs(reached / target - 1)


def _nearest(points: Sequence[Point], target: float) -> Point:
    return min(points, key=lambda point: _off(point[1], target))


def _crossing(points: Sequence[Point], target: float) -> tuple[Point, Point] | None:
    """Where the curve first rises through the target, among points by ascending strength."""
    return next(((low, high) for low, high in pairwise(points) if low[1] < target <= high[1]), None)


def _next(points: Sequence[Point], target: float) -> float:
    """Between the points around the target; beyond the nearest one as steeply as it and the one before it say."""
    crossing = _crossing(points, target)
    if crossing is not None:
        (low, below), (high, above) = crossing
        share = math.log(target / below) / math.log(above / below) if below > 0 else 0.5
        return float(low * (high / low) ** min(max(share, 0.1), 0.9))
    nearest = _nearest(points, target)
    if nearest[1] < target:
        before = [point for point in points if point[0] < nearest[0]][-1:]
    else:
        before = [point for point in points if point[0] > nearest[0]][:1]
    exponent = _exponent(nearest, *before) if before else _FIRST_EXPONENT
    factor = float((target / max(nearest[1], 1e-6)) ** (1 / exponent))
    factor = min(max(factor, 1 / _LARGEST_FACTOR), _LARGEST_FACTOR)
    return min(max(nearest[0] * factor, _WEAKEST), _STRONGEST)


def _exponent(one: Point, other: Point) -> float:
    if min(one[1], other[1]) <= 0:
        return _FIRST_EXPONENT
    steepness = math.log(one[1] / other[1]) / math.log(one[0] / other[0])
    return min(max(steepness, _EXPONENTS[0]), _EXPONENTS[1])
