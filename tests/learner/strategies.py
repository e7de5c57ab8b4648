"""Hypothesis strategies for votes, and the constants that mathematical tests use."""

import numpy as np
from hypothesis import strategies as st

from learner.evidence import Evidence, accumulate
from learner.observations import Observation
from learner.preferences import solve_theta
from learner.surrogate import LearningConstants, probability

CONSTANTS = LearningConstants(
    prior_precision=2.0, bias_prior_precision=1.0, coefficient_limit=1.5, bias_limit=1.0, feature_limit=3.0
)

NAMES = ("brevity", "caution", "detail", "warmth")


@st.composite
def observations(draw: st.DrawFn) -> Observation:
    """Any vote on any answer, under any subset and order of the principals."""
    principals = tuple(draw(st.lists(st.sampled_from(NAMES), min_size=1, unique=True)))
    features = draw(st.lists(st.floats(-1e6, 1e6), min_size=len(principals), max_size=len(principals)))
    theta = draw(st.lists(st.floats(0, 1.5), min_size=len(principals), max_size=len(principals)))
    bias = draw(st.floats(-1, 1))
    return Observation(principals, tuple(features), (*theta, bias), draw(st.sampled_from([-1, 1])))


def play(
    seed: int, votes: int, *, delay: int, adversarial: bool, constants: LearningConstants = CONSTANTS
) -> list[Observation]:
    """Votes on answers made with what was learned from all but the newest `delay` votes before them.

    An adversary always votes against what the parameters predict; otherwise votes follow a hidden taste.
    """
    random = np.random.default_rng(seed)
    names = NAMES[: int(random.integers(1, 5))]
    prior = dict.fromkeys(names, 1 / len(names))
    taste, scale = random.normal(size=len(names)), float(random.choice([0.1, 1.0, 4.0]))
    theta, evidence, seen = (*prior.values(), 0.0), Evidence.none(), list[Observation]()
    for turn in range(votes):
        features = scale * random.normal(size=len(names))
        up = float(features @ theta[:-1]) + theta[-1] < 0
        if not adversarial:
            up = random.random() < probability(3 * float(features @ taste))
        seen.append(Observation(names, tuple(features.tolist()), theta, 1 if up else -1))
        if turn >= delay:
            evidence = evidence + accumulate([seen[turn - delay]], constants)
            learned, bias = solve_theta(evidence, prior, 0.0, constants)
            theta = (*(learned[name] for name in names), bias)
    return seen
