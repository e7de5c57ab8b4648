"""Measured regret is exact and stays under its bound."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from learner.observations import Observation, design
from learner.preferences import box
from learner.regret import OPTIMALITY_NATS, best_in_hindsight, measure
from learner.surrogate import LearningConstants, logistic_loss
from tests.learner.strategies import CONSTANTS, NAMES, play


@given(
    seed=st.integers(0, 10**6),
    votes=st.integers(1, 120),
    delay=st.integers(0, 40),
    adversarial=st.booleans(),
    limit=st.sampled_from([1.0, 1.5, 4.0]),
    precision=st.sampled_from([0.1, 2.0]),
)
@settings(derandomize=True, deadline=None, max_examples=60)
def test_regret_stays_under_its_bound(
    seed: int, votes: int, delay: int, adversarial: bool, limit: float, precision: float
) -> None:
    constants = replace(CONSTANTS, coefficient_limit=limit, prior_precision=precision)
    seen = play(seed, votes, delay=delay, adversarial=adversarial, constants=constants)
    regret = measure(seen, dict.fromkeys(NAMES, 0.25), constants)
    assert regret.regret <= regret.bound + votes * OPTIMALITY_NATS


@pytest.mark.parametrize("seed", range(6))
def test_the_comparator_is_the_best_there_is(seed: int) -> None:
    seen = play(seed, 80, delay=5, adversarial=seed % 2 == 0)
    votes = design(seen, CONSTANTS)
    regret = measure(seen, dict.fromkeys(NAMES, 0.25), CONSTANTS)

    def loss(theta: np.ndarray) -> float:
        return float(np.logaddexp(0, -votes.values * (votes.features @ theta)).sum())

    bounds = list(zip(*box(len(votes.principals), CONSTANTS), strict=True))
    starts = [np.array([low for low, _ in bounds]), np.array([high for _, high in bounds])]
    least = min(minimize(loss, start, bounds=bounds, method="L-BFGS-B").fun for start in starts)
    assert regret.best_loss <= least + len(seen) * OPTIMALITY_NATS
    assert loss(np.array(regret.best_theta)) == pytest.approx(regret.best_loss, rel=1e-12)


def test_totals_match_their_definitions() -> None:
    seen = play(11, 30, delay=0, adversarial=False)
    prior = dict(zip(NAMES, (0.4, 0.3, 0.2, 0.1), strict=True))
    regret = measure(seen, prior, CONSTANTS)

    def total(theta_of: dict[str, float] | None) -> float:
        loss = 0.0
        for vote in seen:
            used = vote.theta[:-1] if theta_of is None else [theta_of[name] for name in vote.principals]
            bias = vote.theta[-1] if theta_of is None else 0.0
            clipped = np.clip(vote.features, -3, 3)
            loss += logistic_loss(vote.value * (float(clipped @ np.array(used)) + bias))
        return loss

    uniform = dict.fromkeys(NAMES, 1 / len(regret.principals))
    assert regret.incurred_loss == pytest.approx(total(None))
    assert regret.prior_loss == pytest.approx(total(prior))
    assert regret.uniform_loss == pytest.approx(total(uniform))
    assert regret.regret == pytest.approx(regret.incurred_loss - regret.best_loss)
    assert regret.feedback_count == 30


def test_regret_per_vote_vanishes() -> None:
    per_vote = [
        measure(play(4, votes, delay=0, adversarial=False), {}, CONSTANTS).regret / votes for votes in (50, 1000)
    ]
    assert per_vote[1] < per_vote[0] / 4


def test_one_sided_votes_end_in_a_corner() -> None:
    constants = LearningConstants(1.0, 1.0, 2.0, 1.0, 3.0)
    seen = [Observation(NAMES, (1.0,) * 4, (0.25,) * 4 + (0.0,), 1)] * 20
    best = best_in_hindsight(design(seen, constants), constants)
    assert best.tolist() == [2.0] * 4 + [1.0]
