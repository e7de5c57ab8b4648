"""The box program against brute force and its optimality conditions."""

import itertools

import numpy as np
import pytest

from learner.box_program import minimise_over_box


def brute_force(hessian: np.ndarray, linear: np.ndarray, lower: np.ndarray, upper: np.ndarray) -> np.ndarray:
    """The best feasible point over all ways to put coordinates on a bound."""
    best, least = lower, np.inf
    for sides in itertools.product((-1, 0, 1), repeat=len(linear)):
        theta = np.where(np.array(sides) < 0, lower, upper).astype(float)
        free = np.array(sides) == 0
        if free.any():
            held = hessian[np.ix_(free, ~free)] @ theta[~free]
            theta[free] = np.linalg.solve(hessian[np.ix_(free, free)], linear[free] - held)
        value = 0.5 * theta @ hessian @ theta - linear @ theta
        if (theta >= lower).all() and (theta <= upper).all() and value < least:
            best, least = theta, value
    return best


def problem(seed: int, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    root = random.normal(size=(size, size)) * random.choice([0.1, 1.0, 30.0])
    hessian = root @ root.T + random.choice([1e-4, 1.0]) * np.eye(size)
    linear = random.normal(size=size) * random.choice([0.1, 1.0, 30.0])
    lower = -np.abs(random.normal(size=size)) * random.integers(0, 2, size)
    upper = np.abs(random.normal(size=size))
    return hessian, linear, lower, upper


@pytest.mark.parametrize("seed", range(60))
def test_equals_brute_force(seed: int) -> None:
    given = problem(seed, 1 + seed % 4)
    assert minimise_over_box(*given) == pytest.approx(brute_force(*given), abs=1e-10)


@pytest.mark.parametrize("seed", range(60))
def test_meets_the_optimality_conditions(seed: int) -> None:
    hessian, linear, lower, upper = problem(seed, 5 + seed % 12)
    theta = minimise_over_box(hessian, linear, lower, upper)
    gradient = (hessian @ theta - linear) / np.abs(hessian).max()
    assert (lower <= theta).all()
    assert (theta <= upper).all()
    assert np.abs(theta - np.clip(theta - gradient, lower, upper)).max() <= 1e-10


def test_permuted_coordinates_give_the_permuted_point() -> None:
    hessian, linear, lower, upper = problem(3, 7)
    order = np.random.default_rng(0).permutation(7)
    permuted = minimise_over_box(hessian[np.ix_(order, order)], linear[order], lower[order], upper[order])
    assert permuted == pytest.approx(minimise_over_box(hessian, linear, lower, upper)[order], abs=1e-12)


def test_an_empty_interior_is_a_point() -> None:
    point = np.array([0.5, 1.0])
    assert minimise_over_box(np.eye(2), np.array([9.0, -9.0]), point, point).tolist() == [0.5, 1.0]
