"""The loss of one vote and the quadratic that lies below it.

A vote r on an answer with features x costs log(1 + exp(-r (theta.x + b))) nats (logistic loss).
"""

import math
from dataclasses import dataclass

SERIES_BELOW = 1e-3


@dataclass(frozen=True)
class LearningConstants:
    """The numbers of the learner.

    Attributes:
        prior_precision: pull of every coefficient towards its prior, in votes' worth of curvature.
        bias_prior_precision: the same for the bias.
        coefficient_limit: coefficients lie in [0, coefficient_limit].
        bias_limit: the bias lies in [-bias_limit, bias_limit].
        feature_limit: features are clipped to this magnitude before anything is learned from them.
    """

    prior_precision: float
    bias_prior_precision: float
    coefficient_limit: float
    bias_limit: float
    feature_limit: float

    @property
    def evidence_fingerprint(self) -> str:
        """Names the constants that evidence depends on; evidence of other numbers cannot be added to it."""
        return f"{self.coefficient_limit!r} {self.bias_limit!r} {self.feature_limit!r}"


def logistic_loss(margin: float) -> float:
    """log(1 + exp(-margin)), without overflow."""
    return max(-margin, 0.0) + math.log1p(math.exp(-abs(margin)))


def probability(logit: float) -> float:
    """1 / (1 + exp(-logit)), without overflow."""
    if logit >= 0:
        return 1.0 / (1.0 + math.exp(-logit))
    odds = math.exp(logit)
    return odds / (1.0 + odds)


def mean_curvature(logit: float, step: float) -> float:
    """c with loss(z + d) = loss(z) + loss'(z) d + c d^2 / 2, exactly; the same for either vote."""
    slope = probability(logit)
    if abs(step) < SERIES_BELOW:
        # The remainder cancels here; self-concordance (Bach 2010, Prop. 1) bounds c from below:
        # 2 (exp(-u) + u - 1) / u^2 >= 1 - u / 3.
        return slope * (1.0 - slope) * (1.0 - abs(step) / 3.0)
    remainder = logistic_loss(-(logit + step)) - logistic_loss(-logit) - slope * step
    return max(2.0 * remainder / (step * step), 0.0)


def curvature(logit: float, lowest: float, highest: float) -> float:
    """Largest c for which the quadratic at `logit` lies below the loss on all of [lowest, highest].

    `mean_curvature` averages a bell-shaped second derivative from the logit outwards, so on either side it
    has no inner minimum (variation diminishing) and the smaller end decides: exact, not only a bound.
    """
    return min(
        mean_curvature(logit, min(lowest - logit, 0.0)),
        mean_curvature(logit, max(highest - logit, 0.0)),
    )
