"""What a version's parameters were solved from, and so how certain they are."""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from learner.evidence import FIXED_POINT, Evidence
from learner.preferences import prior_precisions
from learner.surrogate import LearningConstants

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Posterior:
    """Gaussian of density exp(-theta' precision theta / 2 + linear' theta), cut off at the box; theta is its mode.

    Attributes:
        prior: theta before the scope's own votes; one per principal in the parameters' order, then the bias.
        prior_weights: configured weight of each principal.
        precision: upper triangle of prior precision plus evidence, row by row.
        linear: one per principal, then the bias.
        coefficient_limit, bias_limit: the box, 0 <= coefficient <= limit, |bias| <= limit.
    """

    prior: tuple[float, ...]
    prior_weights: tuple[float, ...]
    precision: tuple[float, ...]
    linear: tuple[float, ...]
    coefficient_limit: float
    bias_limit: float

    @classmethod
    def from_fields(cls, fields: dict[str, Any]) -> Self:
        """Read what `dataclasses.asdict` gave, after a journey through JSON."""
        arrays = {name: tuple(map(float, fields[name])) for name in ("prior", "prior_weights", "precision", "linear")}
        return cls(
            **arrays, coefficient_limit=float(fields["coefficient_limit"]), bias_limit=float(fields["bias_limit"])
        )

    def precision_matrix(self) -> Floats:
        """[n + 1, n + 1], the bias last."""
        size = len(self.prior)
        rows, columns = np.triu_indices(size)
        matrix = np.zeros((size, size))
        matrix[rows, columns] = matrix[columns, rows] = self.precision
        return matrix


def posterior_of(
    evidence: Evidence,
    principals: tuple[str, ...],
    prior: tuple[float, ...],
    prior_weights: tuple[float, ...],
    constants: LearningConstants,
) -> Posterior:
    """The Gaussian that `solve_theta` finds the mode of, in the order of `principals`."""
    known = evidence.over(principals)
    order = [*(known.principals.index(name) for name in principals), len(principals)]
    pull = prior_precisions(len(principals), constants)
    precision = np.diag(pull) + known.precision[np.ix_(order, order)] / FIXED_POINT
    linear = pull * np.array(prior) + known.linear[order] / FIXED_POINT
    return Posterior(
        prior=prior,
        prior_weights=prior_weights,
        precision=tuple(precision[np.triu_indices(len(order))].tolist()),
        linear=tuple(linear.tolist()),
        coefficient_limit=constants.coefficient_limit,
        bias_limit=constants.bias_limit,
    )
