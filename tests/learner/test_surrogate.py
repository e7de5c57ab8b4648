"""The quadratic below the loss of one vote."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from learner.surrogate import curvature, logistic_loss, mean_curvature, probability

logits = st.floats(-30, 30)
lengths = st.floats(0, 30)


@given(logits)
@settings(derandomize=True)
def test_loss_and_probability_match_their_definitions(logit: float) -> None:
    assert logistic_loss(logit) == pytest.approx(math.log(1 + math.exp(-logit)), rel=1e-12, abs=1e-13)
    assert probability(logit) == pytest.approx(1 / (1 + math.exp(-logit)), rel=1e-12)


def test_no_overflow_far_out() -> None:
    assert logistic_loss(-1e4) == 1e4
    assert logistic_loss(1e4) == 0.0
    assert probability(-1e4) == 0.0
    assert curvature(0.0, -1e6, 1e6) > 0


@given(logits, lengths, lengths)
@settings(derandomize=True, max_examples=300)
def test_quadratic_lies_below_the_loss_and_touches_it(logit: float, below: float, above: float) -> None:
    lowest, highest = logit - below, logit + above
    steps = np.linspace(lowest, highest, 501) - logit
    c = curvature(logit, lowest, highest)
    for value in (-1, 1):
        slope = -value * probability(-value * logit)
        loss = np.logaddexp(0.0, -value * (logit + steps))
        quadratic = logistic_loss(value * logit) + slope * steps + 0.5 * c * steps**2
        assert (quadratic <= loss + 1e-9).all()
    # Tight: at one end the quadratic meets the loss, so no larger curvature would do.
    assert c == min(mean_curvature(logit, lowest - logit), mean_curvature(logit, highest - logit))


@given(logits, st.floats(1e-6, 10))
@settings(derandomize=True)
def test_at_least_as_tight_as_self_concordance(logit: float, reach: float) -> None:
    """Bach 2010, Prop. 1: f(z+d) >= f(z) + f'(z)d + f''(z)(exp(-|d|) + |d| - 1)."""
    second = probability(logit) * probability(-logit)
    bach = 2 * second * (math.expm1(-reach) + reach) / reach**2 if reach > 1e-3 else second * (1 - reach / 2)
    assert curvature(logit, logit - reach, logit + reach) >= bach * (1 - 1e-4) - 1e-9


def test_small_steps_join_smoothly() -> None:
    for logit in (-3.0, 0.0, 2.0):
        assert mean_curvature(logit, 0.9999e-3) == pytest.approx(mean_curvature(logit, 1.0001e-3), rel=1e-3)
