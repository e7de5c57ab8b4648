"""Confidence intervals by resampling prompts: answers to one prompt are not independent, prompts are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A figure and the 2.5 and 97.5 % points of its bootstrap distribution."""

    value: float
    low: float
    high: float


def resamples(num_prompts: int, count: int, seed: int) -> Floats:
    """[count, prompts] how often each prompt is in each resample, as shares that sum to 1.

    The same for the same arguments, so that methods asked the same prompts are compared on the same resamples.
    """
    random = np.random.default_rng(seed)
    return random.multinomial(num_prompts, np.full(num_prompts, 1 / num_prompts), size=count) / num_prompts


def estimate(figure: Callable[[Floats], float], shares: Floats) -> Estimate:
    """A figure of the whole sample, with its interval.

    Args:
        figure: of the prompts' shares [prompts].
        shares: from `resamples`.
    """
    even = np.full(shares.shape[1], 1 / shares.shape[1])
    low, high = np.quantile([figure(row) for row in shares], (0.025, 0.975))
    return Estimate(float(figure(even)), float(low), float(high))
