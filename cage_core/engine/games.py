"""From next-token log-probabilities to solved games, one call per mode for the whole batch."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence as ListOf
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cage_core.blending import METHODS
from cage_core.engine.sequence import Sequence, TokenGame
from cage_core.game import Game

# Agent temperature of each mode, payoff units, at strength 1. Temperature and strength are one degree of freedom
# (scaling both changes nothing), so strength is what users set, and these make one unit of it comparable between
# modes: docs/decisions/0003-strength-and-temperature.md.
MODE_TEMPERATURES = {"equilibrium": 0.1, "linear": 1.0, "base": 1.0}


@dataclass(frozen=True)
class CandidateFilter:
    """Which tokens are in the game.

    Attributes:
        top_k: likeliest tokens of the base, at most.
        min_p: least base probability relative to the likeliest token; log-ratios of implausible tokens are noise.
    """

    top_k: int = 50
    min_p: float = 0.02


def solve_games(log_probs: Tensor, sequences: ListOf[Sequence], candidates: CandidateFilter) -> list[TokenGame]:
    """Solve the next token's game of every sequence.

    Args:
        log_probs: [rows, vocabulary]; the rows of the sequences in order, each its base first.
    """
    num_principals = max(len(s.weights) for s in sequences)
    base_rows, principal_rows, weights = _layout(sequences, num_principals)
    base, tokens = _plausible(log_probs[base_rows], candidates)
    chosen = tokens[:, None].expand(-1, num_principals, -1)
    rewards = log_probs[principal_rows].gather(2, chosen).double() - log_probs[base_rows].gather(1, tokens)[:, None]
    policy, gap = _solve_by_mode(base, weights[:, :, None] * rewards, sequences)
    return _unpack(sequences, tokens, base, rewards, policy, gap)


def _layout(sequences: ListOf[Sequence], num_principals: int) -> tuple[Tensor, Tensor, Tensor]:
    """Base row [B], principal rows [B, J] and payoff factors [B, J].

    A sequence with fewer principals is filled up with its base row: a principal that gains nothing changes nothing.
    """
    base_rows, principal_rows, weights, first = [], [], [], 0
    for sequence in sequences:
        padding = num_principals - len(sequence.weights)
        base_rows.append(first)
        principal_rows.append([*range(first + 1, first + sequence.num_rows), *[first] * padding])
        strength = sequence.request.steering.strength
        weights.append([strength * w for w in sequence.weights] + [0.0] * padding)
        first += sequence.num_rows
    return (
        torch.tensor(base_rows),
        torch.tensor(principal_rows),
        torch.tensor(weights, dtype=torch.float64),
    )


def _plausible(log_probs: Tensor, candidates: CandidateFilter) -> tuple[Tensor, Tensor]:
    """Normalised base log-probabilities of the candidates and their tokens, both [B, N], likeliest first."""
    top, tokens = log_probs.topk(min(candidates.top_k, log_probs.shape[-1]), dim=-1)
    top = top.double()
    top = top.masked_fill(top < top[:, :1] + np.log(candidates.min_p), -torch.inf)
    width = int(torch.isfinite(top).sum(-1).max())
    return top[:, :width].log_softmax(-1), tokens[:, :width]


def _solve_by_mode(base: Tensor, payoffs: Tensor, sequences: ListOf[Sequence]) -> tuple[Tensor, Tensor]:
    policy = torch.empty_like(base)
    gap = torch.zeros(len(sequences), dtype=base.dtype)
    indices_of_mode: dict[str, list[int]] = defaultdict(list)
    for index, sequence in enumerate(sequences):
        indices_of_mode[sequence.request.steering.mode].append(index)
    for mode, indices in indices_of_mode.items():
        game = Game.unchecked(base[indices], payoffs[indices], MODE_TEMPERATURES[mode])
        solved = METHODS[mode](game, None)
        policy[indices] = solved.policy
        gap[indices] = solved.gap
    return policy, gap


def _unpack(
    sequences: ListOf[Sequence], tokens: Tensor, base: Tensor, rewards: Tensor, policy: Tensor, gap: Tensor
) -> list[TokenGame]:
    arrays: list[NDArray[np.float64]] = [t.numpy() for t in (base, rewards, policy, gap)]
    ids = tokens.numpy()
    return [
        TokenGame(
            tokens=ids[b],
            base_log_probs=arrays[0][b],
            rewards=arrays[1][b, : len(sequence.weights)],
            policy=arrays[2][b],
            gap=float(arrays[3][b]),
        )
        for b, sequence in enumerate(sequences)
    ]
