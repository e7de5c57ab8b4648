"""Equal footing: the strength at which a method spends a given KL per token."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

KL_TOLERANCE = 0.05
_STRONGEST, _WEAKEST = 200.0, 0.01


@dataclass(frozen=True)
class Calibration:
    """Outcome of a search.

    Attributes:
        strength: the best one found.
        kl_nats: mean KL per token at it.
        matched: whether that is the target within `KL_TOLERANCE`.
    """

    strength: float
    kl_nats: float
    matched: bool


def calibrate(
    kl_at: Callable[[float], float], target_nats: float, start: float, tolerance: float = KL_TOLERANCE, tries: int = 6
) -> Calibration:
    """Strength whose mean KL per token is the target; regula falsi on logarithms.

    Args:
        kl_at: mean KL per token at a strength, nats; grows with the strength, up to noise.
        start: first strength tried.
        tries: evaluations at most.
    """
    tried: list[tuple[float, float]] = []
    strength = start
    for _ in range(tries):
        tried.append((strength, kl_at(strength)))
        if _off(tried[-1][1], target_nats) <= tolerance:
            break
        strength = _next(tried, target_nats)
    strength, reached = min(tried, key=lambda point: _off(point[1], target_nats))
    return Calibration(strength, reached, _off(reached, target_nats) <= tolerance)


def _off(reached_nats: float, target_nats: float) -> float:
    return abs(reached_nats / target_nats - 1)


def _next(tried: list[tuple[float, float]], target_nats: float) -> float:
    """Interpolated on logarithms between the nearest on both sides; extrapolated as KL ~ strength^1.5 from one."""
    low = max((point for point in tried if point[1] < target_nats), default=None)
    high = min((point for point in tried if point[1] >= target_nats), default=None)
    if low and high and low[1] > 0 and low[0] < high[0]:
        share = math.log(target_nats / low[1]) / math.log(high[1] / low[1])
        return float(low[0] * (high[0] / low[0]) ** min(max(share, 0.1), 0.9))
    strength, reached = tried[-1]
    factor = float((target_nats / max(reached, 1e-6)) ** (1 / 1.5))
    return min(max(strength * min(max(factor, 0.25), 4.0), _WEAKEST), _STRONGEST)
