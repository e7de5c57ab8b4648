"""What votes say about preferences, as sums: order-free, mergeable, reversible.

Each vote contributes the quadratic that lies below its loss (`learner.surrogate`), taken at the parameters
that were in force when the answer was made, so a late vote teaches the same as a prompt one. Contributions
are rounded to fixed point one by one and added as integers: any order, any split and any retraction ends
in bitwise the same evidence.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from learner.errors import EvidenceOverflow
from learner.observations import Floats, Observation, design
from learner.surrogate import LearningConstants, curvature, probability

FIXED_POINT = 2.0**32
LARGEST = 2.0**62

Integers = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Evidence:
    """Sum of the quadratics of a set of votes, in fixed point.

    Attributes:
        principals: sorted; the bias comes after them in every array.
        precision: [n + 1, n + 1], sum of c x x'.
        linear: [n + 1], sum of c x x' theta - gradient.
        feedback_count: number of votes in it.
    """

    principals: tuple[str, ...]
    precision: Integers
    linear: Integers
    feedback_count: int

    @classmethod
    def none(cls) -> Self:
        """No votes at all."""
        return cls((), np.zeros((1, 1), np.int64), np.zeros(1, np.int64), 0)

    def over(self, principals: Iterable[str]) -> "Evidence":
        """The same evidence over other principals: new ones have none, dropped ones are held at 0."""
        names = tuple(sorted(principals))
        if names == self.principals:
            return self
        own = {name: place for place, name in enumerate(self.principals)}
        kept = [place for place, name in enumerate(names) if name in own] + [len(names)]
        source = [own[name] for name in names if name in own] + [len(own)]
        precision = np.zeros((len(names) + 1, len(names) + 1), np.int64)
        precision[np.ix_(kept, kept)] = self.precision[np.ix_(source, source)]
        linear = np.zeros(len(names) + 1, np.int64)
        linear[kept] = self.linear[source]
        return Evidence(names, precision, linear, self.feedback_count)

    def __add__(self, other: "Evidence") -> "Evidence":
        union = {*self.principals, *other.principals}
        mine, theirs = self.over(union), other.over(union)
        return Evidence(
            mine.principals,
            _checked_sum(mine.precision, theirs.precision),
            _checked_sum(mine.linear, theirs.linear),
            mine.feedback_count + theirs.feedback_count,
        )

    def __neg__(self) -> "Evidence":
        return Evidence(self.principals, -self.precision, -self.linear, -self.feedback_count)

    def __sub__(self, other: "Evidence") -> "Evidence":
        return self + -other

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Evidence):
            return NotImplemented
        same_votes = (self.principals, self.feedback_count) == (other.principals, other.feedback_count)
        return (
            same_votes and np.array_equal(self.precision, other.precision) and np.array_equal(self.linear, other.linear)
        )

    def capped(self, feedback_count: int) -> "Evidence":
        """The same evidence with no more weight than `feedback_count` votes."""
        if self.feedback_count <= feedback_count:
            return self
        return Evidence(
            self.principals,
            _scaled(self.precision, feedback_count, self.feedback_count),
            _scaled(self.linear, feedback_count, self.feedback_count),
            feedback_count,
        )


def accumulate(
    observations: Sequence[Observation], constants: LearningConstants, signs: Sequence[int] | None = None
) -> Evidence:
    """Evidence of votes; of `signs`, +1 adds a vote's contribution and -1 takes it away.

    No bit may depend on which votes share a batch, so exp and log are the scalar ones: the vectorised ones
    may round differently at the tail of an array.

    Raises:
        EvidenceOverflow: the sum does not fit.
    """
    if not observations:
        return Evidence.none()
    votes = design(observations, constants)
    logits = votes.logits()
    lowest, highest = votes.logit_ranges(constants)
    curvatures = np.array(list(map(curvature, logits.tolist(), lowest.tolist(), highest.tolist())))
    slopes = np.array([-r * probability(-r * z) for r, z in zip(votes.values, logits.tolist(), strict=True)])

    weights = np.ones(len(observations), np.int64) if signs is None else np.asarray(signs, np.int64)
    size = len(votes.principals) + 1
    rows, columns = np.triu_indices(size)
    precision = np.zeros((size, size), np.int64)
    terms = (curvatures[:, None] * votes.features[:, rows]) * votes.features[:, columns]
    precision[rows, columns] = precision[columns, rows] = _fixed_sum(terms, weights)
    linear = _fixed_sum((curvatures * logits - slopes)[:, None] * votes.features, weights)
    return Evidence(votes.principals, precision, linear, int(weights.sum()))


def _fixed_sum(terms: Floats, weights: Integers) -> Integers:
    """Column sums of the rounded terms, in units of 2**-32."""
    scaled = np.rint(terms * FIXED_POINT)
    if not np.abs(scaled).sum(axis=0).max() < LARGEST:
        raise EvidenceOverflow("one batch of votes exceeds the range of the evidence; lower the feature limit")
    total: Integers = (scaled.astype(np.int64) * weights[:, None]).sum(axis=0)
    return total


def _checked_sum(left: Integers, right: Integers) -> Integers:
    if not np.abs(left.astype(np.float64) + right.astype(np.float64)).max() < LARGEST:
        raise EvidenceOverflow("the scope holds more evidence than its range; give it a window or reset it")
    return left + right


def _scaled(values: Integers, numerator: int, denominator: int) -> Integers:
    """values * numerator / denominator, rounded down, exactly."""
    flat = [value * numerator // denominator for value in values.ravel().tolist()]
    return np.array(flat, np.int64).reshape(values.shape)
