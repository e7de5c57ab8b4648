"""Evidence is a sum: any order, split, merge and retraction of the same votes gives the same bits."""

import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from learner.errors import EvidenceOverflow
from learner.evidence import FIXED_POINT, Evidence, accumulate
from learner.observations import Observation, design
from learner.preferences import box
from learner.surrogate import curvature, logistic_loss
from tests.learner.strategies import CONSTANTS, NAMES, observations, play

streams = st.lists(observations(), min_size=1, max_size=30)


@given(streams, st.randoms(use_true_random=False))
@settings(derandomize=True, deadline=None)
def test_order_and_split_change_no_bit(stream: list[Observation], shuffle: random.Random) -> None:
    whole = accumulate(stream, CONSTANTS)
    shuffled = shuffle.sample(stream, len(stream))
    cut = shuffle.randint(0, len(stream))
    assert accumulate(shuffled, CONSTANTS) == whole
    assert accumulate(shuffled[:cut], CONSTANTS) + accumulate(shuffled[cut:], CONSTANTS) == whole
    one_by_one = Evidence.none()
    for vote in shuffled:
        one_by_one = one_by_one + accumulate([vote], CONSTANTS)
    assert one_by_one == whole


@given(streams, streams)
@settings(derandomize=True, deadline=None)
def test_retraction_leaves_no_trace(kept: list[Observation], retracted: list[Observation]) -> None:
    both = accumulate(kept + retracted, CONSTANTS)
    left = both - accumulate(retracted, CONSTANTS)
    assert left.over(NAMES) == accumulate(kept, CONSTANTS).over(NAMES)
    signs = [1] * len(kept) + [1, -1] * len(retracted)
    replayed = kept + [vote for vote in retracted for _ in range(2)]
    assert accumulate(replayed, CONSTANTS, signs).over(NAMES) == left.over(NAMES)


@given(streams)
@settings(derandomize=True, deadline=None)
def test_the_order_of_principals_within_an_answer_changes_no_bit(stream: list[Observation]) -> None:
    turned = [
        Observation(v.principals[::-1], v.features[::-1], (*v.theta[-2::-1], v.theta[-1]), v.value) for v in stream
    ]
    assert accumulate(turned, CONSTANTS) == accumulate(stream, CONSTANTS)


def test_unseen_principals_change_no_bit() -> None:
    small = Observation(("caution",), (0.7,), (0.3, 0.1), 1)
    large = Observation(NAMES, (0.0, 0.7, 0.0, 0.0), (0.2, 0.3, 0.4, 0.5, 0.1), 1)
    assert accumulate([small], CONSTANTS).over(NAMES) == accumulate([large], CONSTANTS)


@pytest.mark.parametrize("seed", range(20))
def test_each_vote_gives_the_quadratic_below_its_loss(seed: int) -> None:
    generator = np.random.default_rng(seed)
    lower, upper = box(len(NAMES), CONSTANTS)
    theta = generator.uniform(lower, upper)
    vote = Observation(
        NAMES, tuple(3 * generator.normal(size=4)), tuple(theta.tolist()), int(generator.choice([-1, 1]))
    )
    evidence = accumulate([vote], CONSTANTS)
    precision, linear = evidence.precision / FIXED_POINT, evidence.linear / FIXED_POINT
    x = np.append(np.clip(vote.features, -3, 3), 1.0)

    def loss(at: np.ndarray) -> float:
        return logistic_loss(vote.value * float(x @ at))

    step = 1e-5 * np.eye(5)
    gradient = np.array([(loss(theta + d) - loss(theta - d)) / 2e-5 for d in step])
    assert precision @ theta - linear == pytest.approx(gradient, abs=1e-8)
    for other in generator.uniform(lower, upper, size=(200, 5)):
        away = other - theta
        assert loss(theta) + gradient @ away + 0.5 * away @ precision @ away <= loss(other) + 1e-7


def test_logit_ranges_are_attained_on_the_box() -> None:
    votes = design(play(3, 20, delay=0, adversarial=False), CONSTANTS)
    lowest, highest = votes.logit_ranges(CONSTANTS)
    corners = np.array(np.meshgrid(*zip(*box(len(votes.principals), CONSTANTS), strict=True), indexing="ij")).reshape(
        votes.features.shape[1], -1
    )
    reached = votes.features @ corners
    assert lowest == pytest.approx(reached.min(axis=1))
    assert highest == pytest.approx(reached.max(axis=1))
    assert all(map(curvature, votes.logits(), lowest, highest))


def test_absurd_features_are_clipped() -> None:
    calm = Observation(("caution",), (3.0,), (0.3, 0.1), 1)
    assert accumulate([replace(calm, features=(1e300,))], CONSTANTS) == accumulate([calm], CONSTANTS)


def test_overflow_has_a_name() -> None:
    some = accumulate(play(1, 10, delay=0, adversarial=False), CONSTANTS)
    huge = Evidence(some.principals, some.precision, np.full_like(some.linear, 2**61), 1)
    with pytest.raises(EvidenceOverflow, match="window"):
        huge + huge
    wide = replace(CONSTANTS, feature_limit=1e12)
    with pytest.raises(EvidenceOverflow, match="feature limit"):
        accumulate([Observation(("caution",), (1e12,), (0.0, 0.0), 1)], wide)


@given(streams, st.integers(1, 40))
@settings(derandomize=True, deadline=None)
def test_the_cap_keeps_direction_and_limits_weight(stream: list[Observation], cap: int) -> None:
    evidence = accumulate(stream, CONSTANTS)
    capped = evidence.capped(cap)
    assert capped.feedback_count == min(cap, len(stream))
    share = min(1.0, cap / len(stream))
    assert np.abs(capped.precision - evidence.precision * share).max() <= 1.0 + 1e-12 * FIXED_POINT
    assert np.abs(capped.linear - evidence.linear * share).max() <= 1.0 + 1e-12 * FIXED_POINT


def test_ten_thousand_thumbs_weigh_no_more_than_the_cap() -> None:
    vote = Observation(NAMES, (1.0, -0.5, 0.2, 0.0), (0.25,) * 4 + (0.0,), 1)
    flood = accumulate([vote] * 10_000, CONSTANTS).capped(50)
    honest = accumulate([vote] * 50, CONSTANTS)
    assert np.abs(flood.linear - honest.linear).max() <= 1
    assert np.abs(flood.precision - honest.precision).max() <= 1
