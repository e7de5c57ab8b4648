"""A batch of games, solved one after another."""

from __future__ import annotations

import math

import numpy as np

from cage_core.kernels.compiling import Floats, Integers, compiled
from cage_core.kernels.continuation import follow
from cage_core.kernels.newton import newton, sweep
from cage_core.kernels.response import best_reserve


@compiled
def solve_one(log_base: Floats, payoffs: Floats, start: Floats, warm: bool, reserves: Floats, policy: Floats) -> int:
    """Equilibrium of one game in units of its temperature; returns the steps taken."""
    principals = payoffs.shape[0]
    if warm:
        reserves[:] = start
    else:
        for j in range(principals):
            reserves[j] = best_reserve(log_base, payoffs[j], -math.inf)
        sweep(log_base, payoffs, reserves, policy)
    steps, solved = newton(log_base, payoffs, reserves, policy)
    if not solved:
        more, _ = follow(log_base, payoffs, reserves)
        polish, _ = newton(log_base, payoffs, reserves, policy)
        steps += more + polish
    return steps


@compiled
def certified_gap(log_base: Floats, payoffs: Floats, reserves: Floats, log_weights: Floats) -> float:
    """Largest gain from a unilateral deviation, by exact best responses to the incentives themselves."""
    principals, tokens = payoffs.shape
    gap = 0.0
    for j in range(principals):
        largest = -math.inf
        for k in range(tokens):
            others = 0.0
            for i in range(principals):
                if i != j:
                    others += max(payoffs[i, k] - reserves[i], 0.0)
            log_weights[k] = log_base[k] + others
            largest = max(largest, log_weights[k] + max(payoffs[j, k] - reserves[j], 0.0))
        best = best_reserve(log_weights, payoffs[j], reserves[j])
        total, shortfall = 0.0, 0.0
        for k in range(tokens):
            excess = payoffs[j, k] - reserves[j]
            weight = math.exp(log_weights[k] + max(excess, 0.0) - largest)
            total += weight
            shortfall += weight * ((best - reserves[j]) - min(excess, 0.0))
        gap = max(gap, shortfall / total - 1.0)
    return gap


@compiled
def solve_games(
    base: Floats,
    payoffs: Floats,
    temperatures: Floats,
    start: Floats,
    warm: bool,
    policy: Floats,
    reserves: Floats,
    incentives: Floats,
    gaps: Floats,
    steps: Integers,
) -> None:
    """Solve every game of a batch; the last five arguments are filled in.

    Candidates of no probability and principals who are indifferent between all others are set aside first,
    so that padding changes nothing, to the last bit.
    """
    games, principals, tokens = payoffs.shape
    kept, active = np.empty(tokens, np.int64), np.empty(principals, np.int64)
    flat_values, all_log_base, all_policy = np.empty(principals * tokens), np.empty(tokens), np.empty(tokens)
    all_reserves, all_start, origin = np.empty(principals), np.empty(principals), np.empty(principals)
    for game in range(games):
        temperature = temperatures[game]
        largest = -math.inf
        num_kept = 0
        for k in range(tokens):
            if base[game, k] > -math.inf:
                kept[num_kept] = k
                num_kept += 1
                largest = max(largest, base[game, k])
        total = 0.0
        for k in range(num_kept):
            total += math.exp(base[game, kept[k]] - largest)
        normaliser = largest + math.log(total)
        for k in range(num_kept):
            all_log_base[k] = base[game, kept[k]] - normaliser
        num_active = 0
        for j in range(principals):
            lowest, highest = math.inf, -math.inf
            for k in range(num_kept):
                lowest = min(lowest, payoffs[game, j, kept[k]])
                highest = max(highest, payoffs[game, j, kept[k]])
            origin[j] = highest
            if highest > lowest:
                active[num_active] = j
                num_active += 1
        values = flat_values[: num_active * num_kept].reshape(num_active, num_kept)
        for row in range(num_active):
            j = active[row]
            all_start[row] = (start[game, j] - origin[j]) / temperature if warm else 0.0
            for k in range(num_kept):
                values[row, k] = (payoffs[game, j, kept[k]] - origin[j]) / temperature
        log_base, found, chosen = all_log_base[:num_kept], all_reserves[:num_active], all_policy[:num_kept]
        if num_active > 0:
            steps[game] = solve_one(log_base, values, all_start[:num_active], warm, found, chosen)
            gaps[game] = certified_gap(log_base, values, found, chosen) * temperature
        else:
            steps[game] = 0
            gaps[game] = 0.0
        for j in range(principals):
            reserves[game, j] = origin[j] + temperature
            for k in range(tokens):
                incentives[game, j, k] = 0.0
        chosen[:] = log_base
        for row in range(num_active):
            j = active[row]
            reserves[game, j] = origin[j] + found[row] * temperature
            for k in range(num_kept):
                paid = max(values[row, k] - found[row], 0.0)
                incentives[game, j, kept[k]] = paid * temperature
                chosen[k] += paid
        largest = -math.inf
        for k in range(num_kept):
            largest = max(largest, chosen[k])
        total = 0.0
        for k in range(num_kept):
            chosen[k] = math.exp(chosen[k] - largest)
            total += chosen[k]
        for k in range(tokens):
            policy[game, k] = 0.0
        for k in range(num_kept):
            policy[game, kept[k]] = chosen[k] / total
