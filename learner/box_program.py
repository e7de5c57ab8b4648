"""Minimise a strictly convex quadratic over a box, exactly."""

import numpy as np
from numpy.typing import NDArray

from learner.errors import SolverStalled

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]

RELATIVE_TOLERANCE = 1e-12


def minimise_over_box(hessian: Matrix, linear: Vector, lower: Vector, upper: Vector) -> Vector:
    """argmin of theta' hessian theta / 2 - linear' theta over lower <= theta <= upper.

    Primal active-set method (Nocedal and Wright 2006, section 16.5, for bounds only): solve on the free
    coordinates, stop at the first bound met, release the bound that pulls hardest inwards. Each release
    lowers the objective strictly, so it ends after finitely many steps; deterministic.

    Args:
        hessian: [n, n], symmetric positive definite.
    Raises:
        SolverStalled: rounding kept it from an optimum.
    """
    theta = np.clip(np.zeros_like(linear), lower, upper)
    scale = 1.0 + float(np.abs(linear).max()) + float(np.abs(hessian).max()) * float(np.abs(upper).max())
    free = (theta > lower) & (theta < upper)
    for _ in range(20 * len(linear) + 20):
        target = _free_minimum(hessian, linear, theta, free)
        blocked, step = _first_bound(theta, target, lower, upper)
        if blocked is not None:
            theta = np.clip(theta + step * (target - theta), lower, upper)
            theta[blocked] = lower[blocked] if target[blocked] < lower[blocked] else upper[blocked]
            free[blocked] = False
            continue
        theta = target
        gradient = hessian @ theta - linear
        pull = np.where(free, 0.0, np.where(theta <= lower, -gradient, gradient))
        pull[lower == upper] = 0.0
        hardest = int(np.argmax(pull))
        if pull[hardest] <= RELATIVE_TOLERANCE * scale:
            return theta
        free[hardest] = True
    raise SolverStalled("the box program found no optimum; its quadratic is close to singular")


def _free_minimum(hessian: Matrix, linear: Vector, theta: Vector, free: NDArray[np.bool_]) -> Vector:
    """Minimum over the free coordinates alone, the others held where they are."""
    target = theta.copy()
    if free.any():
        held = hessian[np.ix_(free, ~free)] @ theta[~free]
        target[free] = np.linalg.solve(hessian[np.ix_(free, free)], linear[free] - held)
    return target


def _first_bound(theta: Vector, target: Vector, lower: Vector, upper: Vector) -> tuple[int | None, float]:
    """The coordinate that leaves the box first on the way from theta to target, and how far that is."""
    bound = np.where(target < lower, lower, upper)
    outside = (target < lower) | (target > upper)
    if not outside.any():
        return None, 1.0
    with np.errstate(divide="ignore", invalid="ignore"):
        steps = np.where(outside, (bound - theta) / (target - theta), np.inf)
    blocked = int(np.argmin(steps))
    return blocked, float(np.clip(steps[blocked], 0.0, 1.0))
