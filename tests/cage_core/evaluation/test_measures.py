"""Measures against closed forms, brute force and each other."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cage_core.evaluation.calibration import calibrate
from cage_core.evaluation.decoder import DecodedAnswer
from cage_core.evaluation.measures import hypervolume, measure, perplexity
from cage_core.evaluation.statistics import estimate, resamples


def test_hypervolume_of_boxes_in_closed_form() -> None:
    assert hypervolume(np.array([[0.5, 0.4, 0.3]])) == pytest.approx(0.06)
    assert hypervolume(np.array([[1.0, 0.5], [0.5, 1.0]])) == pytest.approx(0.75)
    assert hypervolume(np.array([[1.0, 0.5], [0.5, 1.0], [0.4, 0.4]])) == pytest.approx(0.75)
    assert hypervolume(np.array([[-1.0, 0.5]])) == 0.0


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 4), st.integers(1, 5))
def test_hypervolume_is_inclusion_and_exclusion(seed: int, dimensions: int, count: int) -> None:
    points = np.random.default_rng(seed).random((count, dimensions))
    volume = 0.0
    for chosen in range(1, 2**count):
        members = [index for index in range(count) if chosen >> index & 1]
        volume -= (-1) ** len(members) * float(points[members].min(axis=0).prod())
    assert hypervolume(points) == pytest.approx(volume)


def answer(tokens: tuple[int, ...], text: str, base_log_prob: float) -> DecodedAnswer:
    return DecodedAnswer(text, tokens, True, 0.3, (1.0, -0.5), base_log_prob)


def test_the_numbers_of_an_answer() -> None:
    found = measure(answer((1, 2, 1, 2, 3), "Rest. Rest. Drink.", -2.5), [0.25, 0.5])
    assert found.repeats
    assert found.distinct == 0.75
    assert found.kl_nats == pytest.approx(0.06)
    assert found.scores == (0.25, 0.5)
    assert not measure(answer((1, 2), "Rest. Drink.", -1.0), [0.0]).repeats


def test_perplexity_counts_tokens_not_answers() -> None:
    measured = [measure(answer((1, 2, 3, 4), "a", -4 * math.log(2)), [0.0]), measure(answer((1,), "b", 0.0), [0.0])]
    assert perplexity(measured) == pytest.approx(2 ** (4 / 5))


def test_bootstrap_intervals_hold_the_truth_as_often_as_they_say() -> None:
    random = np.random.default_rng(0)
    hits = 0
    for seed in range(200):
        values = random.normal(size=60)
        found = estimate(lambda shares, values=values: float(values @ shares), resamples(60, 400, seed))
        hits += found.low <= 0 <= found.high
        assert found.value == pytest.approx(values.mean())
    assert 0.88 <= hits / 200 <= 0.99


def test_same_resamples_for_every_method() -> None:
    np.testing.assert_array_equal(resamples(10, 50, 1), resamples(10, 50, 1))
    np.testing.assert_allclose(resamples(10, 50, 1).sum(1), 1.0)


@settings(max_examples=50, deadline=None)
@given(st.floats(0.2, 2.5), st.floats(0.001, 0.1), st.floats(0.01, 0.3), st.floats(0.3, 8.0))
def test_calibration_finds_the_strength(power: float, factor: float, target: float, start: float) -> None:
    found = calibrate(lambda strength: factor * strength**power, target, start, tries=40)
    if 0.01 < (target / factor) ** (1 / power) < 200:
        assert found.matched
        assert found.kl_nats == pytest.approx(target, rel=0.05)


def test_calibration_goes_on_from_what_is_known() -> None:
    tried: list[float] = []

    def kl_at(strength: float) -> float:
        tried.append(strength)
        return 0.02 * strength**1.3

    assert calibrate(kl_at, 0.02, 5.0, known=[(0.5, kl_at(0.5)), (2.0, kl_at(2.0))]).matched
    assert len(tried) == 3  # the two that were known, and the one between them: not the start
    tried.clear()
    assert calibrate(kl_at, 0.05, 5.0, known=[(2.0, 0.0501)]).strength == 2.0
    assert tried == []


def test_calibration_begins_elsewhere_where_its_start_is_known() -> None:
    known = [(1.0, 0.01), (2.0, 0.01 * 2**1.5)]
    for some in (known, known[1:]):
        assert calibrate(lambda strength: 0.01 * strength**1.5, 0.12, 2.0, known=some).matched


def test_calibration_does_not_run_beyond_a_peak() -> None:
    tried: list[float] = []

    def rises_and_falls(strength: float) -> float:
        tried.append(strength)
        return max(strength * (4 - strength), 1e-3)

    found = calibrate(rises_and_falls, 3.0, 0.2, tolerance=0.05, tries=8, known=[(3.9, 0.39)])
    assert found.matched
    assert max(tried) < 4


def test_calibration_takes_the_first_rise_of_a_curve_that_falls_again() -> None:
    found = calibrate(lambda s: s * (4 - s), 3.0, 0.2, tolerance=0.01, tries=12, known=[(3.9, 0.39), (2.0, 4.0)])
    assert found.strength == pytest.approx(1.0, rel=0.02)


def test_calibration_says_when_a_budget_is_out_of_reach() -> None:
    found = calibrate(lambda strength: min(0.01 * strength, 0.03), 0.12, 1.0, tries=10)
    assert not found.matched
    assert found.kl_nats == pytest.approx(0.03)
