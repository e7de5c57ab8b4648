"""Draws come from the posterior that the votes leave, inside the box, and repeat with their seed."""

from dataclasses import replace

import numpy as np
import pytest

from learner.evidence import accumulate
from learner.exploration import draw, in_force
from learner.parameters import Parameters
from learner.posterior import posterior_of
from learner.preferences import decoder_weights, solve_theta
from tests.learner.conftest import now
from tests.learner.strategies import CONSTANTS, play

ORDER = ("warmth", "brevity", "detail", "caution")
PRIOR = (0.25, 0.25, 0.25, 0.25, 0.0)


def learned(votes: int, seed: int = 4) -> Parameters:
    seen = play(seed, votes, delay=0, adversarial=False)
    evidence = accumulate(seen, CONSTANTS)
    theta, bias = solve_theta(evidence, dict(zip(ORDER, PRIOR, strict=False)), 0.0, CONSTANTS)
    coefficients = tuple(theta[name] for name in ORDER)
    posterior = posterior_of(evidence, ORDER, PRIOR, PRIOR[:-1], CONSTANTS)
    weights = decoder_weights(coefficients, PRIOR[:-1])
    return Parameters("t", "u", 1, ORDER, (*coefficients, bias), weights, votes, now(), now(), posterior)


def draws(parameters: Parameters, count: int) -> np.ndarray:
    return np.array([draw(parameters, np.random.default_rng(seed)).theta for seed in range(count)])


def rejection_sample(parameters: Parameters, count: int) -> np.ndarray:
    """The truth: Gaussian draws, those outside the box thrown away."""
    posterior = parameters.posterior
    assert posterior is not None
    precision = posterior.precision_matrix()
    mean = np.linalg.solve(precision, np.array(posterior.linear))
    samples = np.random.default_rng(0).multivariate_normal(mean, np.linalg.inv(precision), size=count)
    lower = np.array([0.0] * 4 + [-CONSTANTS.bias_limit])
    upper = np.array([CONSTANTS.coefficient_limit] * 4 + [CONSTANTS.bias_limit])
    return samples[((samples >= lower) & (samples <= upper)).all(axis=1)]


@pytest.mark.parametrize("votes", [3, 60])
def test_draws_have_the_distribution_of_the_truncated_gaussian(votes: int) -> None:
    parameters = learned(votes)
    drawn, truth = draws(parameters, 1500), rejection_sample(parameters, 400_000)
    assert len(truth) > 3000
    error = 4 * truth.std(axis=0) * (1 / 1500 + 1 / len(truth)) ** 0.5
    assert np.all(np.abs(drawn.mean(axis=0) - truth.mean(axis=0)) < error)
    assert drawn.std(axis=0) == pytest.approx(truth.std(axis=0), rel=0.12)
    correlation = np.abs(np.corrcoef(drawn.T) - np.corrcoef(truth.T))
    assert correlation.max() < 0.12


def test_certainty_ends_exploration() -> None:
    parameters = learned(20)
    assert parameters.posterior is not None
    certain = replace(
        parameters.posterior,
        precision=tuple(1e8 * value for value in parameters.posterior.precision),
        linear=tuple(1e8 * value for value in parameters.posterior.linear),
    )
    spread = np.abs(draws(replace(parameters, posterior=certain), 20) - np.array(parameters.theta)).max()
    assert spread < 5e-3


def test_a_draw_repeats_with_its_seed_and_is_played_and_logged_alike() -> None:
    parameters = learned(20)
    first, again, other = (in_force(parameters, "thompson", seed) for seed in (5, 5, 6))
    assert first == again
    assert first.theta != other.theta
    assert first.weights == decoder_weights(first.theta[:-1], PRIOR[:-1])
    assert first.version == parameters.version
    assert in_force(parameters, "none", 5) is parameters
    before_learning = replace(parameters, posterior=None)
    assert in_force(before_learning, "thompson", 5) is before_learning
