"""From next-token log-probabilities to solved games, one call per mode for the whole batch."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence as ListOf
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cage_core.blending import METHODS, externalities, strength_for_kl
from cage_core.engine.llama import compile_loops
from cage_core.engine.sequence import Sequence, TokenGame
from cage_core.equilibrium import solve_equilibrium
from cage_core.game import Game
from cage_core.sequential import BALANCED, BUDGETED

# Agent temperature of each mode, payoff units, at strength 1. Temperature and strength are one degree of freedom
# (scaling both changes nothing), so strength is what users set, and these make one unit of it comparable between
# modes: docs/decisions/0003-strength-and-temperature.md.
MODES = {"equilibrium": 0.5, "committed": 0.5, "linear": 1.0, "base": 1.0, BALANCED: 1.0, BUDGETED: 1.0}

# These games are played over the answer, with its weights; their tokens are linear blending's.
_TOKEN_METHODS = {BALANCED: "linear", BUDGETED: "linear"}

# Beyond this factor a policy does not change any more, but its payoffs lose digits.
_STRONGEST = 1000.0


@dataclass(frozen=True)
class _Batch:
    """Candidates and rewards of a batch of games; principals and candidates are padded without effect."""

    tokens: Tensor  # [B, N]
    base: Tensor  # [B, N] normalised log-probabilities, -inf outside the game
    rewards: Tensor  # [B, J, N] nats
    payoffs: Tensor  # [B, J, N]

    def at(self, indices: list[int]) -> _Batch:
        """Some of the games; indices ascend."""
        if len(indices) == len(self.tokens):
            return self
        return _Batch(self.tokens[indices], self.base[indices], self.rewards[indices], self.payoffs[indices])


def compile_solver() -> None:
    """Have machine code ready, the solver's and the networks': half a minute the first time, then from its cache."""
    solve_equilibrium(Game(torch.zeros(1, 2), torch.zeros(1, 1, 2), 1.0))
    compile_loops()


def solve_games(log_probs: Tensor, sequences: ListOf[Sequence], lexicons: Tensor) -> list[TokenGame]:
    """Solve the next token's game of every sequence.

    Args:
        log_probs: [rows, vocabulary]; the rows of the sequences in order, each its base first.
        lexicons: [lexical principals, vocabulary] fixed scores, nats.
    """
    firsts = list(accumulate((s.num_rows for s in sequences), initial=0))[:-1]
    results: list[TokenGame | None] = _decided(log_probs, firsts, sequences)
    contested = [index for index, game in enumerate(results) if game is None]
    if contested:
        players = [sequences[index] for index in contested]
        batch = _gather(log_probs, [firsts[index] for index in contested], players, lexicons)
        alike: dict[tuple[str, float | None], list[int]] = defaultdict(list)
        for place, sequence in enumerate(players):
            alike[sequence.request.steering.mode, sequence.request.steering.kl_budget_nats].append(place)
        for (mode, kl_budget_nats), places in alike.items():
            for place, game in zip(places, _solve(mode, kl_budget_nats, places, batch, players), strict=True):
                results[contested[place]] = game
    return [game for game in results if game is not None]


def _decided(log_probs: Tensor, firsts: ListOf[int], sequences: ListOf[Sequence]) -> list[TokenGame | None]:
    """The games with one plausible candidate, which nobody can move; None for all others.

    On a device all games are played: to ask which are decided would be to wait for it.
    """
    if log_probs.device.type != "cpu":
        return [None] * len(sequences)
    base = log_probs.numpy()[firsts]
    likeliest = base.argmax(-1)
    filters = [s.request.candidates for s in sequences]
    lowest = base[np.arange(len(base)), likeliest] + np.array([f.log_min_p for f in filters], np.float32)
    alone = (base >= lowest[:, None]).sum(-1) == 1
    return [
        TokenGame.decided(int(token), len(sequence.principals))
        if (sole or sequence.request.candidates.top_k == 1) and not sequence.request.traced
        else None
        for token, sole, sequence in zip(likeliest, alone, sequences, strict=True)
    ]


def _gather(log_probs: Tensor, firsts: ListOf[int], sequences: ListOf[Sequence], lexicons: Tensor) -> _Batch:
    """Args: firsts: [B] row of each sequence's base."""
    num_principals = max(len(s.principals) for s in sequences)
    plus, minus = [], []
    for first, sequence in zip(firsts, sequences, strict=True):
        rules = sequence.request.rows.rules
        padding = [first] * (num_principals - len(rules))
        plus.append([*(first + rule.plus for rule in rules), *padding])
        minus.append([*(first + rule.minus for rule in rules), *padding])
    base, tokens = _plausible(log_probs[list(firsts)], sequences)
    at = tokens[:, None].expand(-1, num_principals, -1)
    rewards = _pick(log_probs, torch.tensor(plus), at) - _pick(log_probs, torch.tensor(minus), at)
    _add_lexical_rewards(rewards, tokens, sequences, lexicons)
    factors = [[*s.payoff_factors(), *[0.0] * (num_principals - len(s.principals))] for s in sequences]
    payoffs = torch.tensor(factors, dtype=rewards.dtype, device=rewards.device)[:, :, None] * rewards
    return _Batch(tokens, base, rewards, payoffs)


def _pick(log_probs: Tensor, rows: Tensor, tokens: Tensor) -> Tensor:
    """Log-probabilities [B, J, N] of tokens [B, J, N] in rows [B, J], float64."""
    return log_probs[rows.to(log_probs.device)[:, :, None], tokens].double()


def _plausible(log_probs: Tensor, sequences: ListOf[Sequence]) -> tuple[Tensor, Tensor]:
    """Normalised base log-probabilities of the candidates and their tokens, both [B, N], likeliest first."""
    filters = [s.request.candidates for s in sequences]
    widest = min(max(f.top_k for f in filters), log_probs.shape[-1])
    top, tokens = log_probs.topk(widest, dim=-1)
    top = top.double()
    log_min_p = torch.tensor([[f.log_min_p] for f in filters], dtype=top.dtype, device=top.device)
    top_k = torch.tensor([[f.top_k] for f in filters], device=top.device)
    outside = (top < top[:, :1] + log_min_p) | (torch.arange(widest, device=top.device) >= top_k)
    top = top.masked_fill(outside, -torch.inf)
    # A device would have to be waited for; it solves games of full width as fast.
    width = int(torch.isfinite(top).sum(-1).max()) if top.device.type == "cpu" else widest
    return top[:, :width].log_softmax(-1), tokens[:, :width]


def _add_lexical_rewards(rewards: Tensor, tokens: Tensor, sequences: ListOf[Sequence], lexicons: Tensor) -> None:
    for b, sequence in enumerate(sequences):
        for j, rule in enumerate(sequence.request.rows.rules):
            if rule.lexicon is not None:
                rewards[b, j] += lexicons[rule.lexicon, tokens[b]]


def _solve(
    mode: str, kl_budget_nats: float | None, indices: list[int], batch: _Batch, sequences: ListOf[Sequence]
) -> list[TokenGame]:
    batch = batch.at(indices)
    method = _TOKEN_METHODS.get(mode, mode)
    game = Game.unchecked(batch.base, batch.payoffs, MODES[mode])
    if kl_budget_nats is not None:
        game = _with_kl(game, kl_budget_nats, method)
    solved = METHODS[method](game, _reserves(mode, indices, batch, sequences))
    tensors = (batch.tokens, game.base_log_probs, batch.rewards, solved.policy)
    tokens, base, rewards, policy = (_array(t) for t in tensors)
    incentives, reserves, gap = (_array(t) for t in (solved.incentives, solved.reserves, solved.gap))
    traced = any(sequences[index].request.traced for index in indices)
    prices = _array(externalities(game, solved.policy)) if traced else None
    return [
        TokenGame(
            tokens=tokens[k],
            base_log_probs=base[k],
            rewards=rewards[k, : len(sequences[index].principals)],
            policy=policy[k],
            incentives=incentives[k],
            reserves=reserves[k],
            externalities=None if prices is None else prices[k],
            gap=float(gap[k]),
        )
        for k, index in enumerate(indices)
    ]


def _with_kl(game: Game, kl_budget_nats: float, method: str) -> Game:
    """The game at the strength that spends the budget; where none spends it all, at the strongest."""
    strength = strength_for_kl(game, kl_budget_nats, method).clamp(max=_STRONGEST)
    return Game.unchecked(game.base_log_probs, game.payoffs * strength[:, None, None], game.temperature)


def _reserves(mode: str, indices: list[int], batch: _Batch, sequences: ListOf[Sequence]) -> Tensor | None:
    """[B, J] given reserves; a padding principal has no payoff, and reserve tau is then its equilibrium."""
    if mode != "committed":
        return None
    num_principals = batch.payoffs.shape[1]
    rows = [sequences[index].given_reserves() for index in indices]
    padded = [[*row, *[MODES[mode]] * (num_principals - len(row))] for row in rows]
    return torch.tensor(padded, dtype=batch.payoffs.dtype, device=batch.payoffs.device)


def _array(tensor: Tensor) -> NDArray[np.generic]:
    return tensor.cpu().numpy()
