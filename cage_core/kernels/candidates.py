"""Which tokens of a vocabulary are in the game, and what they are worth to every principal."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cage_core.kernels.compiling import Floats, Integers, compiled, vectorised
from cage_core.kernels.loops import largest

Rows = NDArray[Any]

# Tokens that the model rules out altogether are never candidates.
_LOWEST = -3.0e38


@vectorised
def count_from(values: Rows, floor: float) -> int:
    """How many values are not below the floor."""
    count = 0
    for k in range(values.shape[0]):
        count += values[k] >= floor
    return count


@compiled
def count_plausible(log_probs: Rows, rows: Integers, log_min_p: Floats, counts: Integers, likeliest: Integers) -> None:
    """For each of some rows, how many tokens come within `log_min_p` of the likeliest one, and which that is.

    Args:
        log_probs: [rows of the batch, vocabulary] nats.
        rows, log_min_p: [games] which rows, and at most this much less likely, nats, below 0.
        counts, likeliest: [games] out; a count of 0 where the numbers are none.
    """
    for game in range(rows.shape[0]):
        row = log_probs[rows[game]]
        counts[game] = likeliest[game] = 0
        # One logit that is no number makes all log-probabilities so.
        if math.isnan(row[0]):
            continue
        top = largest(row)
        counts[game] = count_from(row, max(top + log_min_p[game], _LOWEST))
        place = 0
        while row[place] < top:
            place += 1
        likeliest[game] = place


@compiled
def candidates_of(row: Rows, log_min_p: float, count: int, tokens: Integers, log_probs: Floats) -> None:
    """Write a row's likeliest plausible tokens and their normalised log-probabilities, likeliest first.

    Args:
        count: plausible tokens of the row.
        tokens, log_probs: [candidates] out; as many as fit, of equally likely ones those of lower number.
    """
    floor = max(largest(row) + log_min_p, _LOWEST)
    found, values = np.empty(count, np.int64), np.empty(count, np.float64)
    at = 0
    for token in range(row.shape[0]):
        if row[token] >= floor:
            found[at] = token
            values[at] = row[token]
            at += 1
    order = np.argsort(-values, kind="mergesort")
    total = 0.0
    for k in range(tokens.shape[0]):
        tokens[k] = found[order[k]]
        log_probs[k] = values[order[k]]
        total += math.exp(log_probs[k] - log_probs[0])
    normaliser = log_probs[0] + math.log(total)
    for k in range(tokens.shape[0]):
        log_probs[k] -= normaliser


@compiled
def gather(
    log_probs: Rows,
    rows: Integers,
    plus: Integers,
    minus: Integers,
    log_min_p: Floats,
    counts: Integers,
    widths: Integers,
    tokens: Integers,
    base: Floats,
    rewards: Floats,
) -> None:
    """Put the games of one token together.

    Args:
        log_probs: [rows of the batch, vocabulary] nats.
        rows: [games] the base's row of each.
        plus, minus: [games, principals] rows whose difference is the principal's reward.
        counts, widths: [games] plausible tokens, and how many of them are candidates.
        tokens: [games, candidates] out; 0 behind a game's own candidates.
        base: [games, candidates] out, normalised nats; -inf behind them.
        rewards: [games, principals, candidates] out, nats; 0 behind them.
    """
    tokens[:] = 0
    base[:] = -math.inf
    rewards[:] = 0.0
    for game in range(rows.shape[0]):
        width = widths[game]
        kept = tokens[game, :width]
        candidates_of(log_probs[rows[game]], log_min_p[game], counts[game], kept, base[game, :width])
        for principal in range(plus.shape[1]):
            liked, plain = log_probs[plus[game, principal]], log_probs[minus[game, principal]]
            for k in range(width):
                rewards[game, principal, k] = np.float64(liked[kept[k]]) - np.float64(plain[kept[k]])
