"""Votes with the answers they are about, and the same as arrays."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from learner.surrogate import LearningConstants

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Observation:
    """One vote with the answer it is about.

    Attributes:
        features: one per principal.
        theta: in force when the answer was made; one per principal, then the bias.
        value: +1 or -1.
    """

    principals: tuple[str, ...]
    features: tuple[float, ...]
    theta: tuple[float, ...]
    value: int


@dataclass(frozen=True, eq=False)
class Design:
    """Observations as arrays over one set of principals, sorted by name, with the bias as last column.

    Attributes:
        features: [votes, n + 1]; clipped; 0 for principals that an answer did not have, 1 for the bias.
        theta: [votes, n + 1], in force; 0 for principals that an answer did not have.
        values: [votes], +1 or -1.
    """

    principals: tuple[str, ...]
    features: Floats
    theta: Floats
    values: Floats

    def logits(self) -> Floats:
        """theta.x + b of each vote under the parameters that were in force."""
        return sum_columns(self.features * self.theta)

    def logit_ranges(self, constants: LearningConstants) -> tuple[Floats, Floats]:
        """Smallest and largest logit of each vote under any parameters in the box."""
        reach = self.features[:, :-1] * constants.coefficient_limit
        lowest = sum_columns(np.minimum(reach, 0.0)) - constants.bias_limit
        highest = sum_columns(np.maximum(reach, 0.0)) + constants.bias_limit
        return lowest, highest


def design(observations: Sequence[Observation], constants: LearningConstants) -> Design:
    """Arrays of observations over the union of their principals."""
    names = tuple(sorted({name for seen in observations for name in seen.principals}))
    place = {name: column for column, name in enumerate(names)}
    features = np.zeros((len(observations), len(names) + 1))
    theta = np.zeros_like(features)
    for row, seen in enumerate(observations):
        columns = [place[name] for name in seen.principals]
        features[row, columns] = seen.features
        theta[row, [*columns, len(names)]] = seen.theta
    np.clip(features, -constants.feature_limit, constants.feature_limit, out=features)
    features[:, -1] = 1.0
    return Design(names, features, theta, np.array([seen.value for seen in observations], np.float64))


def sum_columns(values: Floats) -> Floats:
    """Row sums, added from left to right: columns of zeros, and the other rows, change no bit of them."""
    total = np.zeros(len(values))
    for column in values.T:
        total = total + column
    return total
