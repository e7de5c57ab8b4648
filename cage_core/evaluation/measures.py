"""What is measured of answers, and of a front of them."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cage_core.evaluation.decoder import DecodedAnswer

Floats = NDArray[np.float64]

_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")


@dataclass(frozen=True)
class Measured:
    """One answer in numbers.

    Attributes:
        scores: [objectives] the judge's.
        advantages: [principals] sum of q_j(chosen) - E_base[q_j], nats.
        kl_nats: mean per token.
        base_log_prob: mean per token, nats.
        repeats: whether a sentence occurs twice.
        distinct: share of the answer's pairs of neighbouring tokens that are different ones.
    """

    scores: tuple[float, ...]
    advantages: tuple[float, ...]
    kl_nats: float
    base_log_prob: float
    num_tokens: int
    ended: bool
    repeats: bool
    distinct: float


def measure(answer: DecodedAnswer, scores: Sequence[float]) -> Measured:
    """The numbers of one answer."""
    count = len(answer.tokens)
    pairs = list(zip(answer.tokens, answer.tokens[1:], strict=False))
    sentences = [sentence for sentence in _SENTENCE_END.split(answer.text.strip()) if sentence]
    return Measured(
        scores=tuple(round(float(score), 5) for score in scores),
        advantages=tuple(round(advantage, 4) for advantage in answer.advantages),
        kl_nats=answer.kl_nats / count,
        base_log_prob=answer.base_log_prob / count,
        num_tokens=count,
        ended=answer.ended,
        repeats=len(set(sentences)) < len(sentences),
        distinct=len(set(pairs)) / max(1, len(pairs)),
    )


def hypervolume(points: Floats) -> float:
    """Volume of the region between the origin and the points, in any number of objectives.

    Slices along the last objective (HSO: While et al. 2006); exact, meant for fronts of tens of points.

    Args:
        points: [points, objectives], higher is better; coordinates below 0 count as 0.
    """
    points = np.maximum(points, 0.0)
    if points.shape[1] == 1:
        return float(points.max(initial=0.0))
    heights = np.unique(points[:, -1])
    below = np.concatenate([[0.0], heights[:-1]])
    slices = zip(heights, below, strict=True)
    return sum(float(top - low) * hypervolume(points[points[:, -1] >= top, :-1]) for top, low in slices)


def perplexity(measured: Sequence[Measured]) -> float:
    """Perplexity of the answers' tokens under the base, on its candidates."""
    total = sum(m.base_log_prob * m.num_tokens for m in measured)
    return math.exp(-total / sum(m.num_tokens for m in measured))
