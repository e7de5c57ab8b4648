"""Safeguarded semismooth Newton method on the reserves of one game."""

from __future__ import annotations

import math

import numpy as np

from cage_core.kernels.compiling import Floats, compiled
from cage_core.kernels.conditions import evaluate
from cage_core.kernels.linear_system import solve_in_place
from cage_core.kernels.loops import add_payments, subtract_payments
from cage_core.kernels.response import best_reserve

MAX_STEPS = 40
MAX_HALVINGS = 5
TOLERANCE = 1e-12
ROUNDING = 1e-7
# Nearly singular Jacobians send Newton's method off the scale of any game.
LONGEST_STEP = 1e15


@compiled
def residuals(shortfalls: Floats, target: float, out: Floats) -> float:
    """Distance of every expected shortfall G_j from its target, and the largest in absolute value.

    G / target - 1 below the target, log(G / target) above it, where G grows exponentially.
    """
    size = 0.0
    for j in range(shortfalls.shape[0]):
        ratio = shortfalls[j] / target
        out[j] = math.log(ratio) if ratio > 1.0 else ratio - 1.0
        if not math.isfinite(out[j]):
            return math.inf
        size = max(size, abs(out[j]))
    return size


@compiled
def scale_rows(jacobian: Floats, shortfalls: Floats, target: float) -> None:
    """Turn derivatives of the shortfalls into derivatives of `residuals`."""
    for j in range(shortfalls.shape[0]):
        scale = 1.0 / max(shortfalls[j], target)
        for i in range(shortfalls.shape[0]):
            jacobian[j, i] *= scale


@compiled
def sweep(
    log_base: Floats, payoffs: Floats, reserves: Floats, log_weights: Floats, weights: Floats, powers: Floats
) -> None:
    """One Gauss-Seidel sweep in place: every principal in turn answers the others exactly.

    Args:
        log_weights, weights, powers: [N] scratch.
    """
    log_weights[:] = log_base
    for j in range(payoffs.shape[0]):
        add_payments(payoffs[j], reserves[j], log_weights)
    for j in range(payoffs.shape[0]):
        subtract_payments(payoffs[j], reserves[j], log_weights)
        reserves[j] = best_reserve(log_weights, payoffs[j], reserves[j], weights, powers)
        add_payments(payoffs[j], reserves[j], log_weights)


@compiled
def newton(
    log_base: Floats, payoffs: Floats, reserves: Floats, policy: Floats, weights: Floats, powers: Floats
) -> tuple[int, bool]:
    """Improve the reserves in place until they are an equilibrium; returns steps taken and success.

    A Newton step is halved until the residual falls; where it does not, an exact sweep takes its place.

    Args:
        log_base: [N]; payoffs: [J, N]; reserves: [J] start in, answer out.
        policy: [N] out, the policy the reserves induce.
        weights, powers: [N] scratch.
    """
    principals = payoffs.shape[0]
    shortfalls, residual, direction = np.empty(principals), np.empty(principals), np.empty(principals)
    jacobian = np.empty((principals, principals))
    trial = np.empty(principals)
    evaluate(log_base, payoffs, reserves, policy, shortfalls, jacobian, powers)
    size = residuals(shortfalls, 1.0, residual)
    for step in range(MAX_STEPS):
        if size <= TOLERANCE:
            return step, True
        scale_rows(jacobian, shortfalls, 1.0)
        direction[:] = residual
        regular = solve_in_place(jacobian, direction, principals) != 0.0
        for j in range(principals):
            regular = regular and abs(direction[j]) < LONGEST_STEP
        length = 1.0 if regular else 0.0
        accepted = False
        for _ in range(MAX_HALVINGS):
            if length == 0.0:
                break
            for j in range(principals):
                trial[j] = reserves[j] - length * direction[j]
            evaluate(log_base, payoffs, trial, policy, shortfalls, jacobian, powers)
            new_size = residuals(shortfalls, 1.0, residual)
            if new_size < (1.0 - 1e-4 * length) * size:
                accepted = True
                break
            length *= 0.5
        if accepted:
            reserves[:] = trial
            size = new_size
            continue
        if size <= ROUNDING:
            evaluate(log_base, payoffs, reserves, policy, shortfalls, jacobian, powers)
            return step, True
        sweep(log_base, payoffs, reserves, policy, weights, powers)
        evaluate(log_base, payoffs, reserves, policy, shortfalls, jacobian, powers)
        size = residuals(shortfalls, 1.0, residual)
    return MAX_STEPS, size <= ROUNDING
