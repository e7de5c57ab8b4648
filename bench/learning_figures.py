"""Figures of `bench.learning`, from the courses that were played."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from learner.regret import measure
from learner.simulation import Thumb
from learner.surrogate import LearningConstants

if TYPE_CHECKING:
    from bench.learning import Course

REGAINED = 0.6
SMOOTHED_THUMBS = 10
RESAMPLES = 2000


def gap_figures(
    courses: Sequence[Course], principals: Sequence[str], prior: Sequence[float], oracle: Sequence[float]
) -> dict[str, Any]:
    """Share of the utility gap that is closed, with a bootstrap standard error over users, and cosines."""
    share, error, cosines = {}, {}, {}
    for number in courses[0].weights:
        cosines[number] = float(np.mean([_cosine(each, principals, number) for each in courses]))
        if courses[0].worth:
            gains = np.array([each.worth[number] for each in courses]) - np.array(prior)
            gaps = np.array(oracle) - np.array(prior)
            share[number] = float(gains.sum() / gaps.sum())
            error[number] = _bootstrap(gains, gaps)
    curve = np.mean([[thumb.utility for thumb in each.thumbs] for each in courses], axis=0)
    return {
        "gap_closed": share,
        "gap_closed_standard_error": error,
        "cosine": cosines,
        "curve_utility": curve.tolist(),
    }


def regret_figures(
    courses: Sequence[Course], principals: Sequence[str], constants: LearningConstants
) -> dict[str, Any]:
    """Measured regret and its bound after all thumbs, nats, means over users; and R_t/t on the way."""
    prior = dict.fromkeys(principals, 1.0 / len(principals))
    horizons = [number for number in (5, 10, 20, 30, 50, 75, 100) if number <= len(courses[0].thumbs)]
    regrets, bounds = [], []
    for each in courses:
        seen = [thumb.observation for thumb in each.thumbs]
        points = [measure(seen[:number], prior, constants) for number in horizons]
        regrets.append([point.regret for point in points])
        bounds.append([point.bound for point in points])
    mean_regret, mean_bound = np.mean(regrets, axis=0), np.mean(bounds, axis=0)
    return {
        "regret": float(mean_regret[-1]),
        "bound": float(mean_bound[-1]),
        "regret_per_thumb": float(mean_regret[-1] / horizons[-1]),
        "regret_within_bound": bool(np.all(np.array(regrets) <= np.array(bounds) + 1e-6)),
        "curve_horizons": horizons,
        "curve_regret_per_thumb": (mean_regret / horizons).tolist(),
        "curve_bound_per_thumb": (mean_bound / horizons).tolist(),
    }


def drift_figures(courses: Sequence[Sequence[Thumb]], changed: int, floor: float, ceiling: float) -> dict[str, Any]:
    """Thumbs after the change until the answers, averaged over users and ten thumbs, regained 60 % of the gap.

    Args:
        floor, ceiling: utility under the new taste of weights that are the old taste, and the new one.
    """
    worth = np.mean([[thumb.utility for thumb in course] for course in courses], axis=0)
    after = (worth[changed:] - floor) / (ceiling - floor)
    smoothed = np.convolve(after, np.ones(SMOOTHED_THUMBS) / SMOOTHED_THUMBS, mode="valid")
    reached = np.flatnonzero(smoothed >= REGAINED)
    return {
        "thumbs_until_regained": int(reached[0]) + SMOOTHED_THUMBS if len(reached) else None,
        "regained_at_the_end": float(smoothed[-1]),
        "curve_regained": smoothed.tolist(),
    }


def _cosine(course: Course, principals: Sequence[str], number: int) -> float:
    weights = np.array(course.weights[number])
    taste = np.array([course.taste[name] for name in principals])
    return float(weights @ taste / np.linalg.norm(weights) / np.linalg.norm(taste))


def _bootstrap(gains: NDArray[np.float64], gaps: NDArray[np.float64]) -> float:
    """Standard error of the ratio of sums, users resampled."""
    random = np.random.default_rng(0)
    chosen = random.integers(len(gains), size=(RESAMPLES, len(gains)))
    return float(np.std(gains[chosen].sum(axis=1) / gaps[chosen].sum(axis=1)))
