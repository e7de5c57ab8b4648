"""Thompson sampling: play a draw from what is still believed possible instead of the best guess."""

from dataclasses import replace

import numpy as np
from scipy.special import log_ndtr, ndtri_exp

from learner.parameters import Parameters
from learner.posterior import Floats, Posterior
from learner.preferences import decoder_weights

THOMPSON = "thompson"
SWEEPS = 40
STREAM = 2**128
"""Where on the seed's sequence the draws begin: far from those of the tokens."""


def in_force(parameters: Parameters, exploration: str, seed: int) -> Parameters:
    """What one request plays: the parameters, or a draw if its tenant explores; the same seed, the same draw."""
    if exploration != THOMPSON:
        return parameters
    return draw(parameters, np.random.Generator(np.random.Philox(key=seed % 2**64, counter=STREAM)))


def draw(parameters: Parameters, rng: np.random.Generator) -> Parameters:
    """The same version with theta drawn from its posterior, and the weights that belong to the draw.

    A Gaussian cut off at the box, by Gibbs sampling from its mode (Geweke 1991; Chopin 2011 for the
    one-dimensional draws). Parameters without a posterior, those before any vote, are played as they are.

    The drawn theta is what is logged as in force: a vote's quadratic touches its loss at the logged theta
    (`learner.evidence`), the regret counts the loss there, and the bound needs both to be the same point. So
    the measured regret is that of what was really played, the price of exploration included.
    """
    posterior = parameters.posterior
    if posterior is None:
        return parameters
    theta = _gibbs(posterior, np.array(parameters.theta), rng)
    coefficients = tuple(theta[:-1].tolist())
    weights = decoder_weights(coefficients, posterior.prior_weights)
    return replace(parameters, theta=(*coefficients, float(theta[-1])), weights=weights)


def _gibbs(posterior: Posterior, theta: Floats, rng: np.random.Generator) -> Floats:
    precision, linear = posterior.precision_matrix(), np.array(posterior.linear)
    lower = np.array([0.0] * (len(theta) - 1) + [-posterior.bias_limit])
    upper = np.array([posterior.coefficient_limit] * (len(theta) - 1) + [posterior.bias_limit])
    uniforms = rng.random((SWEEPS, len(theta)))
    for sweep in range(SWEEPS):
        for place in range(len(theta)):
            curvature = precision[place, place]
            mean = theta[place] + (linear[place] - precision[place] @ theta) / curvature
            theta[place] = _truncated_normal(
                mean, curvature**-0.5, lower[place], upper[place], float(uniforms[sweep, place])
            )
    return theta


def _truncated_normal(mean: float, deviation: float, lower: float, upper: float, uniform: float) -> float:
    """The quantile of a normal variable known to lie in [lower, upper]; exact far out in its tails too."""
    low, high = (lower - mean) / deviation, (upper - mean) / deviation
    if low > 0:
        # The lower tail is where log_ndtr keeps its digits: mirror.
        return -_truncated_normal(-mean, deviation, -upper, -lower, 1.0 - uniform)
    log_low, log_high = log_ndtr(low), log_ndtr(high)
    share = np.logaddexp(log_low + np.log1p(-uniform), log_high + np.log(max(uniform, 1e-300)))
    return float(np.clip(mean + deviation * ndtri_exp(share), lower, upper))
