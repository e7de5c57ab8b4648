"""A user with a hidden taste whose thumbs are noisy and relative to what it has become used to."""

import numpy as np

from learner.evidence import Evidence, accumulate
from learner.observations import Observation
from learner.preferences import decoder_weights, solve_theta
from learner.surrogate import LearningConstants, probability
from tests.learner.strategies import NAMES

LIKED = 1
REMEMBERED = 20


def weights_over_time(
    seed: int, constants: LearningConstants, *, votes: int, correlation: float, indifferent: bool = False
) -> np.ndarray:
    """Weights after each vote, [votes, 4], for a user who likes one principal (or none).

    A principal's score in an answer is normal, with a mean that rises with its weight; features of unit
    scale correlate with the scores. Thumb up with probability sigma(3 (score - running mean) / spread).
    """
    random = np.random.default_rng(seed)
    prior = dict.fromkeys(NAMES, 0.25)
    evidence, theta, weights = Evidence.none(), (0.25,) * 4 + (0.0,), np.full(4, 0.25)
    scores, history = list[float](), list[np.ndarray]()
    for _ in range(votes):
        score = random.normal(size=4) + 3.0 * (weights - 0.25)
        features = correlation * score + np.sqrt(1 - correlation**2) * random.normal(size=4)
        usual = scores[-REMEMBERED:]
        surprise = score[LIKED] - (np.mean(usual) if usual else 0.0)
        spread = np.std(usual) if len(usual) > 2 else 1.0
        scores.append(float(score[LIKED]))
        up = random.random() < (0.5 if indifferent else probability(3.0 * float(surprise / (spread + 1e-3))))
        vote = Observation(NAMES, tuple(features.tolist()), theta, 1 if up else -1)
        evidence = evidence + accumulate([vote], constants)
        learned, bias = solve_theta(evidence, prior, 0.0, constants)
        theta = (*(learned[name] for name in NAMES), bias)
        weights = np.array(decoder_weights(theta[:-1], (0.25,) * 4))
        history.append(weights)
    return np.array(history)
