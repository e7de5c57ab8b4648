"""The default constants learn a taste within tens of thumbs; docs/decisions/0002 has the reasons."""

import numpy as np
import pytest

from learner.settings import LearnerSettings
from tests.learner.simulated_user import LIKED, weights_over_time

CONSTANTS = LearnerSettings(database_url="postgresql://none/none", redis_url="redis://none").constants
USERS = range(60)


@pytest.mark.parametrize(("correlation", "share_of_users"), [(0.6, 0.7), (0.8, 0.85)])
def test_most_tastes_are_found_within_forty_thumbs(correlation: float, share_of_users: float) -> None:
    runs = [weights_over_time(seed, CONSTANTS, votes=40, correlation=correlation) for seed in USERS]
    final = np.array([run[-1, LIKED] for run in runs])
    assert np.mean(final >= 0.5) >= share_of_users
    assert np.median(final) >= 0.6


def test_weights_settle() -> None:
    """A single late thumb moves less than a tenth of the weight on average."""
    moved = [
        0.5 * np.abs(np.diff(weights_over_time(seed, CONSTANTS, votes=40, correlation=0.6)[10:], axis=0)).sum(axis=1)
        for seed in USERS
    ]
    assert np.mean(moved) < 0.1


def test_patience_pays() -> None:
    final = [weights_over_time(seed, CONSTANTS, votes=200, correlation=0.6)[-1, LIKED] for seed in range(20)]
    assert np.median(final) >= 0.8
    assert np.mean(np.array(final) >= 0.5) >= 0.95
