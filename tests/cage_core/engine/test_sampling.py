import numpy as np
import pytest

from cage_core.engine import Sampling
from cage_core.engine.sampling import draw

POLICY = np.array([0.5, 0.3, 0.15, 0.05])


def frequencies(sampling: Sampling) -> np.ndarray:
    grid = (np.arange(20_000) + 0.5) / 20_000
    return np.bincount([draw(POLICY, sampling, u) for u in grid], minlength=4) / len(grid)


def test_draws_follow_the_policy() -> None:
    assert frequencies(Sampling(1, 0)) == pytest.approx(POLICY, abs=1e-3)


def test_temperature_sharpens() -> None:
    assert frequencies(Sampling(1, 0, temperature=0.5)) == pytest.approx(POLICY**2 / (POLICY**2).sum(), abs=1e-3)


def test_zero_temperature_takes_the_likeliest() -> None:
    assert frequencies(Sampling(1, 0, temperature=0)) == pytest.approx([1, 0, 0, 0])


def test_top_p_keeps_the_smallest_sufficient_set() -> None:
    assert frequencies(Sampling(1, 0, top_p=0.7)) == pytest.approx([0.625, 0.375, 0, 0], abs=1e-3)


def test_impossible_tokens_are_never_drawn() -> None:
    policy = np.array([0.0, 1.0, 0.0])
    assert {draw(policy, Sampling(1, 0), u) for u in (0.0, 0.5, 1 - 1e-16)} == {1}
