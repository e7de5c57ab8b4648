"""Drawing a token from the final policy."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cage_core.engine.request import Sampling


def draw(policy: NDArray[np.float64], sampling: Sampling, uniform: float) -> int:
    """Index of the token drawn from `policy` by inverse transform.

    Args:
        policy: [candidates] probabilities.
        uniform: in [0, 1); the only randomness, so that a seed fixes the answer.
    """
    if len(policy) == 1 or sampling.temperature == 0:
        return int(policy.argmax())
    if sampling.temperature != 1:
        policy = np.power(policy / policy.max(), 1 / sampling.temperature)
    if sampling.top_p < 1:
        policy = _nucleus(policy / policy.sum(), sampling.top_p)
    cumulative = policy.cumsum()
    return int(np.searchsorted(cumulative, uniform * cumulative[-1], side="right"))


def _nucleus(policy: NDArray[np.float64], top_p: float) -> NDArray[np.float64]:
    order = np.argsort(-policy, kind="stable")
    before = policy[order].cumsum() - policy[order]
    kept = np.zeros_like(policy)
    chosen = order[before < top_p]
    kept[chosen] = policy[chosen]
    return kept
