"""A batch of games, solved and certified one after another."""

from __future__ import annotations

import math

import numpy as np

from cage_core.kernels.compiling import Floats, Integers, compiled
from cage_core.kernels.continuation import follow
from cage_core.kernels.loops import add_payments, count_between, exponentials, largest, multiply, smallest, split
from cage_core.kernels.newton import newton, sweep
from cage_core.kernels.response import best_reserve, piece_root

# What the given reserves are: nothing, where to begin, or what the principals keep whatever happens.
COLD, WARM, COMMITTED = 0, 1, 2


@compiled
def solve_one(
    log_base: Floats,
    payoffs: Floats,
    start: int,
    reserves: Floats,
    policy: Floats,
    weights: Floats,
    powers: Floats,
) -> int:
    """Equilibrium of one game, or the policy that given reserves induce; returns the steps taken.

    Args:
        start: COLD, WARM or COMMITTED.
        reserves: [J] out; policy: [N] out; weights, powers: [N] scratch.
    """
    if start == COMMITTED:
        policy[:] = log_base
        for j in range(payoffs.shape[0]):
            add_payments(payoffs[j], reserves[j], policy)
        multiply(policy, 1.0 / exponentials(policy, powers))
        return 0
    if start == COLD:
        # Nobody pays at first: a reserve of 0 is the highest payoff.
        reserves[:] = 0.0
        sweep(log_base, payoffs, reserves, policy, weights, powers)
    steps, solved = newton(log_base, payoffs, reserves, policy, weights, powers)
    if not solved:
        followed, _ = follow(log_base, payoffs, reserves)
        polished, _ = newton(log_base, payoffs, reserves, policy, weights, powers)
        steps += followed + polished
    return steps


@compiled
def certified_gap(
    log_base: Floats,
    payoffs: Floats,
    reserves: Floats,
    policy: Floats,
    log_weights: Floats,
    weights: Floats,
    powers: Floats,
) -> float:
    """Largest gain from a unilateral deviation, by exact best responses to the incentives (eq. 2).

    Where the closed form on the piece around a principal's reserve stays on that piece, it is the best
    response; elsewhere the best response is searched for from the others' incentives alone.

    Args:
        policy: [N] induced by the incentives; log_weights, weights, powers: [N] scratch.
    """
    principals = payoffs.shape[0]
    gap = 0.0
    for j in range(principals):
        low, high, shortfall = split(policy, payoffs[j], reserves[j])
        move = piece_root(low, high, shortfall) if low > 0.0 else math.inf
        if count_between(payoffs[j], reserves[j], reserves[j] + move) != 0:
            log_weights[:] = log_base
            for i in range(principals):
                if i != j:
                    add_payments(payoffs[i], reserves[i], log_weights)
            move = best_reserve(log_weights, payoffs[j], reserves[j], weights, powers) - reserves[j]
        # Utility of the best reserve less that of the one in force: (m' - 1) - (m - E[(m - v)+]).
        gain = move + shortfall / (low + high) - 1.0
        if not math.isfinite(gain):
            return math.inf
        gap = max(gap, gain)
    return gap


@compiled
def possible_candidates(base: Floats, kept: Integers) -> int:
    """Write the indices of candidates that can be chosen at all; returns how many there are."""
    count = 0
    for k in range(base.shape[0]):
        if base[k] > -math.inf:
            kept[count] = k
            count += 1
    return count


@compiled
def gather(values: Floats, kept: Integers, out: Floats) -> None:
    for k in range(out.shape[0]):
        out[k] = values[kept[k]]


@compiled
def normalise(log_probs: Floats, weights: Floats, powers: Floats) -> None:
    """Make log-probabilities of the kept candidates sum to one."""
    weights[:] = log_probs
    normaliser = largest(log_probs) + math.log(exponentials(weights, powers))
    for k in range(log_probs.shape[0]):
        log_probs[k] -= normaliser


@compiled
def solve_games(
    base: Floats,
    payoffs: Floats,
    temperatures: Floats,
    given: Floats,
    start: int,
    policy: Floats,
    reserves: Floats,
    incentives: Floats,
    gaps: Floats,
    steps: Integers,
) -> None:
    """Solve every game of a batch; the last five arguments are filled in.

    Candidates of no probability and principals who are indifferent between all others are set aside first,
    so that padding changes nothing, to the last bit. Payoffs are measured from the highest of their row,
    in units of the temperature, so that an offset costs no accuracy.

    Args:
        given: [B, J] reserves to start from or to commit to; not read for a COLD start.
        start: COLD, WARM or COMMITTED.
    """
    games, principals, tokens = payoffs.shape
    kept, active = np.empty(tokens, np.int64), np.empty(principals, np.int64)
    per_payoff, per_token, per_principal = np.empty(principals * tokens), np.empty((5, tokens)), np.empty(principals)
    for game in range(games):
        temperature = temperatures[game]
        policy[game] = 0.0
        incentives[game] = 0.0
        steps[game] = 0
        gaps[game] = 0.0
        size = possible_candidates(base[game], kept)
        log_base, chosen, powers = per_token[0, :size], per_token[1, :size], per_token[2, :size]
        log_weights, weights = per_token[3, :size], per_token[4, :size]
        gather(base[game], kept, log_base)
        normalise(log_base, weights, powers)
        count = 0
        for j in range(principals):
            gather(payoffs[game, j], kept, weights)
            origin = largest(weights)
            reserves[game, j] = origin + temperature
            if smallest(weights) < origin or start == COMMITTED:
                for k in range(size):
                    per_payoff[count * size + k] = (weights[k] - origin) / temperature
                per_principal[count] = (given[game, j] - origin) / temperature if start != COLD else 0.0
                active[count] = j
                count += 1
        values, found = per_payoff[: count * size].reshape(count, size), per_principal[:count]
        if count == 0:
            chosen[:] = log_base
            multiply(chosen, 1.0 / exponentials(chosen, powers))
        else:
            steps[game] = solve_one(log_base, values, start, found, chosen, weights, powers)
            gap = certified_gap(log_base, values, found, chosen, log_weights, weights, powers)
            gaps[game] = gap * temperature
        for row in range(count):
            j = active[row]
            reserves[game, j] += (found[row] - 1.0) * temperature
            for k in range(size):
                incentives[game, j, kept[k]] = max(values[row, k] - found[row], 0.0) * temperature
        for k in range(size):
            policy[game, kept[k]] = chosen[k]
