"""From evidence to preference coefficients, and from those to the weights that decoders play.

Follow the regularised leader on the quadratics of all votes (online Newton step: Hazan, Agarwal
and Kale 2007; for the logistic loss: Jezequel, Gaillard and Rudi 2020):

    theta = argmin over K of (theta - prior)' P (theta - prior) / 2 + theta' A theta / 2 - linear' theta,
    K = {0 <= theta_j <= coefficient_limit, |bias| <= bias_limit}.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from learner.box_program import minimise_over_box
from learner.evidence import FIXED_POINT, Evidence
from learner.surrogate import LearningConstants

Vector = NDArray[np.float64]

LEAST_TOTAL = 0.5


def solve_theta(
    evidence: Evidence, prior: Mapping[str, float], prior_bias: float, constants: LearningConstants
) -> tuple[dict[str, float], float]:
    """Coefficient of each principal of the prior, and the bias.

    Principals that only the evidence knows are held at 0. The result is bitwise a function of the evidence
    and the prior; the order of neither matters.

    Raises:
        SolverStalled: see `minimise_over_box`.
    """
    known = evidence.over(prior)
    centre = np.array([*(prior[name] for name in known.principals), prior_bias])
    pull = prior_precisions(len(known.principals), constants)
    lower, upper = box(len(known.principals), constants)
    theta = minimise_over_box(
        np.diag(pull) + known.precision / FIXED_POINT,
        pull * centre + known.linear / FIXED_POINT,
        lower,
        upper,
    ).tolist()
    return dict(zip(known.principals, theta[:-1], strict=True)), theta[-1]


def prior_precisions(principals: int, constants: LearningConstants) -> Vector:
    """Diagonal of P; the bias comes last."""
    return np.array([constants.prior_precision] * principals + [constants.bias_prior_precision])


def box(principals: int, constants: LearningConstants) -> tuple[Vector, Vector]:
    """Lower and upper corner of K; the bias comes last."""
    lower = np.array([0.0] * principals + [-constants.bias_limit])
    upper = np.array([constants.coefficient_limit] * principals + [constants.bias_limit])
    return lower, upper


def decoder_weights(coefficients: Sequence[float], prior_weights: Sequence[float]) -> tuple[float, ...]:
    """Coefficients normalised to sum 1, with prior weights in place of what they lack of LEAST_TOTAL.

    Normalising alone would jump to an extreme when next to nothing is left of the coefficients; so the
    weights go continuously to the prior weights as the evidence says that no principal is liked.
    """
    total = sum(coefficients)
    lacking = max(LEAST_TOTAL - total, 0.0)
    return tuple(
        (coefficient + lacking * prior) / (total + lacking)
        for coefficient, prior in zip(coefficients, prior_weights, strict=True)
    )
