"""The next token's games of a batch, before anybody bids: candidates, base policy, rewards."""

from __future__ import annotations

from collections.abc import Sequence as ListOf
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cage_core.engine.sequence import Sequence
from cage_core.kernels import candidates as kernels

Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Candidates:
    """Candidates and rewards of a batch of games; principals and candidates are padded without effect."""

    tokens: Tensor  # [B, N]
    base: Tensor  # [B, N] normalised log-probabilities, -inf outside the game
    rewards: Tensor  # [B, J, N] nats

    def at(self, indices: list[int]) -> Candidates:
        """Some of the games; indices ascend."""
        if len(indices) == len(self.tokens):
            return self
        return Candidates(self.tokens[indices], self.base[indices], self.rewards[indices])


def compile_kernels() -> None:
    """Have the machine code of what runs on a CPU ready, or in its cache."""
    log_probs, first, log_min_p = np.zeros((1, 2), np.float32), np.zeros(1, np.int64), np.zeros(1)
    counts, tokens = np.zeros(1, np.int64), np.zeros((1, 2), np.int64)
    kernels.count_plausible(log_probs, first, log_min_p, counts, first)
    rows, base, rewards = np.zeros((1, 1), np.int64), np.zeros((1, 2)), np.zeros((1, 1, 2))
    kernels.gather(log_probs, first, rows, rows, log_min_p, counts, counts, tokens, base, rewards)


def count_plausible(log_probs: Tensor, firsts: Integers, sequences: ListOf[Sequence]) -> tuple[Integers, Integers]:
    """How many plausible tokens each sequence's base finds, and the likeliest one; both [B], on a CPU.

    Args:
        log_probs: [rows, vocabulary] nats.
        firsts: [B] row of each sequence's base.
    """
    counts, likeliest = np.empty(len(firsts), np.int64), np.empty(len(firsts), np.int64)
    kernels.count_plausible(log_probs.numpy(), firsts, _log_min_p(sequences), counts, likeliest)
    return counts, likeliest


def gather_on_host(
    log_probs: Tensor, firsts: Integers, counts: Integers, sequences: ListOf[Sequence], lexicons: Tensor
) -> Candidates:
    """The games of sequences whose plausible tokens were counted."""
    widths = np.minimum(counts, [s.request.candidates.top_k for s in sequences])
    plus, minus = _reward_rows(firsts, sequences)
    shape = (len(sequences), int(widths.max()))
    tokens, base = np.empty(shape, np.int64), np.empty(shape)
    rewards = np.empty((shape[0], plus.shape[1], shape[1]))
    kernels.gather(log_probs.numpy(), firsts, plus, minus, _log_min_p(sequences), counts, widths, tokens, base, rewards)
    found = Candidates(torch.from_numpy(tokens), torch.from_numpy(base), torch.from_numpy(rewards))
    _add_lexical_rewards(found, sequences, lexicons)
    return found


def gather_on_device(log_probs: Tensor, firsts: Integers, sequences: ListOf[Sequence], lexicons: Tensor) -> Candidates:
    """The same without asking the device for anything: games are as wide as the widest filter allows."""
    filters = [s.request.candidates for s in sequences]
    device = log_probs.device
    base, tokens = log_probs[torch.from_numpy(firsts).to(device)].topk(
        min(max(f.top_k for f in filters), log_probs.shape[-1]), dim=-1
    )
    base = base.double()
    log_min_p = torch.from_numpy(_log_min_p(sequences)).to(device)[:, None]
    top_k = torch.tensor([[f.top_k] for f in filters], device=device)
    outside = (
        (base < base[:, :1] + log_min_p) | torch.isneginf(base) | (torch.arange(base.shape[-1], device=device) >= top_k)
    )
    at = tokens[:, None]
    plus, minus = (torch.from_numpy(rows).to(device)[:, :, None] for rows in _reward_rows(firsts, sequences))
    # What the model rules out altogether would be worth -inf - -inf.
    rewards = (log_probs[plus, at].double() - log_probs[minus, at].double()).masked_fill(outside[:, None], 0.0)
    found = Candidates(tokens, base.masked_fill(outside, -torch.inf).log_softmax(-1), rewards)
    _add_lexical_rewards(found, sequences, lexicons)
    return found


def _log_min_p(sequences: ListOf[Sequence]) -> NDArray[np.float64]:
    return np.array([s.request.candidates.log_min_p for s in sequences])


def _reward_rows(firsts: Integers, sequences: ListOf[Sequence]) -> tuple[Integers, Integers]:
    """[B, J] rows whose log-probabilities are added and subtracted; a padding principal is the base less itself."""
    num_principals = max(len(s.principals) for s in sequences)
    plus, minus = np.zeros((2, len(sequences), num_principals), np.int64)
    for b, sequence in enumerate(sequences):
        plan = sequence.request.rows
        plus[b, : len(plan.rules)], minus[b, : len(plan.rules)] = plan.plus, plan.minus
    return plus + firsts[:, None], minus + firsts[:, None]


def _add_lexical_rewards(found: Candidates, sequences: ListOf[Sequence], lexicons: Tensor) -> None:
    for b, sequence in enumerate(sequences):
        for j, lexicon in sequence.request.rows.lexical:
            found.rewards[b, j] += lexicons[lexicon, found.tokens[b]]
