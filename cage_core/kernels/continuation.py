"""Last resort: follow the equilibria from a game that is trivial to the game that is asked."""

from __future__ import annotations

import math

import numpy as np

from cage_core.kernels.compiling import Floats, compiled
from cage_core.kernels.conditions import evaluate
from cage_core.kernels.linear_system import solve_in_place
from cage_core.kernels.newton import LONGEST_STEP, residuals, scale_rows

MAX_STEPS = 20_000
MAX_CORRECTIONS = 8
CORRECTED = 1e-12
ROUNDING = 1e-15
KINK_DISTANCE = 1e-3
BISECTIONS = 50


@compiled
def bordered(log_base: Floats, payoffs: Floats, point: Floats, border: Floats, matrix: Floats, right: Floats) -> float:
    """Jacobian of the curve's conditions at a point with one more row, and their residuals.

    A point is J reserves and the target rho; the conditions are G_j(reserves) = rho, in logarithms.

    Args:
        point, border: [J + 1]. matrix: [J + 1, J + 1] out. right: [J + 1] out; its last entry is left alone.
    """
    principals = payoffs.shape[0]
    shortfalls = np.empty(principals)
    jacobian = np.empty((principals, principals))
    policy, powers = np.empty(payoffs.shape[1]), np.empty(payoffs.shape[1])
    evaluate(log_base, payoffs, point[:principals], policy, shortfalls, jacobian, powers)
    target = float(point[principals])
    size = residuals(shortfalls, target, right[:principals])
    scale_rows(jacobian, shortfalls, target)
    for j in range(principals):
        for i in range(principals):
            matrix[j, i] = jacobian[j, i]
        matrix[j, principals] = -1.0 / target * min(shortfalls[j] / target, 1.0)
    for i in range(principals + 1):
        matrix[principals, i] = border[i]
    return size


@compiled
def tangent(log_base: Floats, payoffs: Floats, point: Floats, border: Floats, orientation: float) -> Floats:
    """Unit tangent of the curve at a point, on the side that keeps the orientation; zeros where there is none.

    The determinant bordered by the tangent keeps its sign along the curve, kinks and folds included.
    """
    size = point.shape[0]
    matrix, right = np.empty((size, size)), np.empty(size)
    attempt = border.copy()
    for row in range(size + 1):
        bordered(log_base, payoffs, point, attempt, matrix, right)
        right[:] = 0.0
        right[size - 1] = 1.0
        determinant = solve_in_place(matrix, right, size)
        length = math.sqrt((right * right).sum())
        if determinant != 0.0 and math.isfinite(length) and length < 1e12:
            return right * (math.copysign(1.0, determinant) * orientation / length)
        attempt[:] = 0.0
        attempt[min(row, size - 1)] = 1.0
    return np.zeros(size)


@compiled
def correct(log_base: Floats, payoffs: Floats, predicted: Floats, normal: Floats, point: Floats) -> int:
    """Newton's method back to the curve inside the plane through `predicted` across `normal`.

    Writes the answer to `point`. Returns the corrections used, or -1 where it does not converge.
    """
    size = point.shape[0]
    matrix, right = np.empty((size, size)), np.empty(size)
    point[:] = predicted
    previous = math.inf
    for correction in range(MAX_CORRECTIONS):
        if not (point[size - 1] > 0.0 and np.abs(point).max() < LONGEST_STEP):
            return -1
        residual = bordered(log_base, payoffs, point, normal, matrix, right)
        if residual <= CORRECTED:
            return correction
        if residual >= 0.5 * previous:
            # Reserves far from 0 are rounded more coarsely than the conditions ask for.
            return correction if residual <= 1e-10 + ROUNDING * np.abs(point).max() else -1
        previous = residual
        right[size - 1] = 0.0
        if solve_in_place(matrix, right, size) == 0.0:
            return -1
        point -= right
    return -1


@compiled
def distance_to_kink(
    log_base: Floats,
    payoffs: Floats,
    point: Floats,
    direction: Floats,
    beyond: Floats,
    orientation: float,
    length: float,
) -> float:
    """How far along `direction` the tangent turns into the one `beyond` the kink; by bisection in [0, length]."""
    near, far = 0.0, length
    for _ in range(BISECTIONS):
        middle = 0.5 * (near + far)
        there = tangent(log_base, payoffs, point + middle * direction, direction, orientation)
        if (there * beyond).sum() > (there * direction).sum():
            far = middle
        else:
            near = middle
    return far


@compiled
def follow(log_base: Floats, payoffs: Floats, reserves: Floats) -> tuple[int, bool]:
    """Equilibrium at the end of the curve of equilibria with target rho, from rho so large that nobody pays.

    The conditions E[(m_j - v_j)+] = rho have one solution for large rho and one at least for every rho > 0,
    all in a bounded set, so the curve that starts at the first arrives at rho = 1, folds included. It is
    followed by pseudo-arclength (Allgower and Georg 1990, chapters 4 and 6).

    Args:
        reserves: [J] out. Returns steps taken and success; the answer still wants a Newton polish.
    """
    principals, tokens = payoffs.shape
    last = principals
    point, normal, end = np.empty(principals + 1), np.zeros(principals + 1), np.zeros(principals + 1)
    end[last] = 1.0
    start = 1.0
    for j in range(principals):
        mean, highest = 0.0, -math.inf
        for k in range(tokens):
            mean += math.exp(log_base[k]) * payoffs[j, k]
            highest = max(highest, payoffs[j, k])
        point[j] = mean
        start = max(start, highest - mean)
    for j in range(principals):
        point[j] += start + 1.0
    point[last] = start + 1.0
    direction = np.full(principals + 1, -1.0 / math.sqrt(principals + 1.0))
    orientation = 1.0
    following = tangent(log_base, payoffs, point, direction, 1.0)
    if (following * direction).sum() < 0.0:
        orientation = -1.0
        following *= -1.0
    direction = following
    length = start
    candidate = np.empty(principals + 1)
    for step in range(MAX_STEPS):
        advanced = False
        while length > 1e-13 * (1.0 + start):
            for beyond in range(2):
                predicted = point + length * direction
                normal[:] = direction
                if beyond == 1:
                    if length > KINK_DISTANCE * point[last] or not predicted[last] > 0.0:
                        break
                    normal = tangent(log_base, payoffs, predicted, direction, orientation)
                    if not (normal * normal).sum() > 0.0:
                        break
                    to_kink = distance_to_kink(log_base, payoffs, point, direction, normal, orientation, length)
                    predicted = point + to_kink * direction + length * normal
                used = correct(log_base, payoffs, predicted, normal, candidate)
                if used >= 0 and np.abs(candidate - predicted).max() <= length:
                    following = tangent(log_base, payoffs, candidate, normal, orientation)
                    if (following * normal).sum() > 0.0:
                        advanced = True
                        break
            if advanced and candidate[last] <= 1.0:
                # The curve has crossed rho = 1 on this step: the crossing is the answer.
                share = (point[last] - 1.0) / (point[last] - candidate[last])
                predicted = point + share * (candidate - point)
                if correct(log_base, payoffs, predicted, end, candidate) >= 0:
                    reserves[:] = candidate[:principals]
                    return step, True
                advanced = False
            if advanced:
                point[:] = candidate
                direction[:] = following
                if used <= 3:
                    length *= 2.0
                break
            length *= 0.5
        if not advanced:
            reserves[:] = point[:principals]
            return step, False
    reserves[:] = point[:principals]
    return MAX_STEPS, False
