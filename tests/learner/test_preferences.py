"""From evidence to coefficients and weights."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from learner.evidence import FIXED_POINT, Evidence, accumulate
from learner.preferences import box, decoder_weights, prior_precisions, solve_theta
from tests.learner.strategies import CONSTANTS, NAMES, play

PRIOR = dict(zip(NAMES, (0.4, 0.3, 0.2, 0.1), strict=True))


def test_without_evidence_the_prior_holds() -> None:
    theta, bias = solve_theta(Evidence.none(), PRIOR, 0.0, CONSTANTS)
    assert theta == pytest.approx(PRIOR, abs=1e-15)
    assert bias == 0.0


@pytest.mark.parametrize("seed", range(10))
def test_equals_an_independent_minimiser(seed: int) -> None:
    evidence = accumulate(play(seed, 60, delay=3, adversarial=seed % 2 == 0), CONSTANTS)
    theta, bias = solve_theta(evidence, PRIOR, 0.1, CONSTANTS)
    full = evidence.over(NAMES)
    pull = np.diag(prior_precisions(4, CONSTANTS))
    centre = np.array([*PRIOR.values(), 0.1])

    def objective(at: np.ndarray) -> float:
        quadratic = 0.5 * at @ (full.precision / FIXED_POINT) @ at - (full.linear / FIXED_POINT) @ at
        return float(0.5 * (at - centre) @ pull @ (at - centre) + quadratic)

    bounds = list(zip(*box(4, CONSTANTS), strict=True))
    found = minimize(objective, centre, bounds=bounds, method="L-BFGS-B", options={"ftol": 1e-15, "gtol": 1e-10})
    ours = np.array([*(theta[name] for name in NAMES), bias])
    assert objective(ours) <= found.fun + 1e-12
    assert ours == pytest.approx(found.x, abs=1e-4)


def test_the_order_of_the_prior_changes_no_bit() -> None:
    evidence = accumulate(play(5, 40, delay=0, adversarial=False), CONSTANTS)
    turned = dict(reversed(PRIOR.items()))
    assert solve_theta(evidence, turned, 0.0, CONSTANTS) == solve_theta(evidence, PRIOR, 0.0, CONSTANTS)


def test_principals_come_and_go() -> None:
    evidence = accumulate(play(2, 40, delay=0, adversarial=False), CONSTANTS)
    dropped = {name: weight for name, weight in PRIOR.items() if name != evidence.principals[0]}
    theta, _ = solve_theta(evidence, dropped | {"candour": 0.5}, 0.0, CONSTANTS)
    assert set(theta) == {*dropped, "candour"}
    assert theta["candour"] == pytest.approx(0.5, abs=1e-12)


weights = st.lists(st.floats(0, 1.5), min_size=4, max_size=4)


@given(weights)
@settings(derandomize=True)
def test_weights_are_a_distribution(coefficients: list[float]) -> None:
    found = decoder_weights(coefficients, tuple(PRIOR.values()))
    assert min(found) >= 0
    assert sum(found) == pytest.approx(1.0, abs=1e-12)


def test_weights_are_the_coefficients_normalised_or_the_prior_when_none_is_left() -> None:
    assert decoder_weights((1.0, 0.0, 1.0, 0.0), (0.25,) * 4) == (0.5, 0.0, 0.5, 0.0)
    assert decoder_weights((0.0,) * 4, (0.4, 0.3, 0.2, 0.1)) == pytest.approx((0.4, 0.3, 0.2, 0.1))
    nearly = decoder_weights((1e-9, 0.0, 0.0, 0.0), (0.4, 0.3, 0.2, 0.1))
    assert nearly == pytest.approx((0.4, 0.3, 0.2, 0.1), abs=1e-8)
