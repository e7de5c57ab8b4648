"""From next-token log-probabilities to solved games, one call per mode for the whole batch."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence as ListOf
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cage_core.blending import METHODS, externalities, linear_policy, strength_for_kl
from cage_core.engine.candidates import (
    Candidates,
    compile_kernels,
    count_plausible,
    gather_on_device,
    gather_on_host,
)
from cage_core.engine.llama import compile_loops
from cage_core.engine.sequence import Payments, Sequence, TokenGame
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


def compile_solver() -> None:
    """Have machine code ready, the solver's and the networks': half a minute the first time, then from its cache."""
    solve_equilibrium(Game(torch.zeros(1, 2), torch.zeros(1, 1, 2), 1.0))
    compile_kernels()
    compile_loops()


def solve_games(log_probs: Tensor, sequences: ListOf[Sequence], lexicons: Tensor) -> list[TokenGame | None]:
    """Solve the next token's game of every sequence; None where the base's numbers are seen to be none.

    Args:
        log_probs: [rows, vocabulary]; the rows of the sequences in order, each its base first.
        lexicons: [lexical principals, vocabulary] fixed scores, nats.
    """
    firsts = np.cumsum([0, *(s.num_rows for s in sequences)])[:-1]
    if log_probs.device.type != "cpu":
        # All games are played: to ask which are decided would be to wait for the device.
        return [*solve_all(gather_on_device(log_probs, firsts, sequences, lexicons), sequences)]
    counts, likeliest = count_plausible(log_probs, firsts, sequences)
    results: list[TokenGame | None] = [None] * len(sequences)
    contested = []
    for place, (count, token, sequence) in enumerate(zip(counts.tolist(), likeliest.tolist(), sequences, strict=True)):
        request = sequence.request
        # One plausible candidate: nobody can move the token, but a trace shows the game all the same.
        if count and (count == 1 or request.candidates.top_k == 1) and not request.traced:
            results[place] = TokenGame.decided(token, len(sequence.principals))
        elif count:
            contested.append(place)
    if contested:
        players = [sequences[place] for place in contested]
        found = gather_on_host(log_probs, firsts[contested], counts[contested], players, lexicons)
        for place, game in zip(contested, solve_all(found, players), strict=True):
            results[place] = game
    return results


def solve_all(found: Candidates, sequences: ListOf[Sequence]) -> list[TokenGame]:
    """One call for all games that are played alike."""
    alike: dict[tuple[str, float | None], list[int]] = defaultdict(list)
    for place, sequence in enumerate(sequences):
        alike[sequence.request.steering.mode, sequence.request.steering.kl_budget_nats].append(place)
    results = {
        place: game
        for (mode, kl_budget_nats), places in alike.items()
        for place, game in zip(
            places, _solve(mode, kl_budget_nats, found.at(places), [sequences[p] for p in places]), strict=True
        )
    }
    return [results[place] for place in range(len(sequences))]


def _solve(mode: str, kl_budget_nats: float | None, found: Candidates, sequences: ListOf[Sequence]) -> list[TokenGame]:
    method = _TOKEN_METHODS.get(mode, mode)
    game = Game.unchecked(found.base, _factors(found, sequences) * found.rewards, MODES[mode])
    if kl_budget_nats is not None:
        game = _with_kl(game, kl_budget_nats, method)
    traced = any(sequence.request.traced for sequence in sequences)
    policies, gaps, payments = _decide(game, method, _reserves(mode, found, sequences), traced)
    tokens, base, rewards = (_array(t) for t in (found.tokens, game.base_log_probs, found.rewards))
    return [
        TokenGame(
            tokens=tokens[k],
            base_log_probs=base[k],
            rewards=rewards[k, : len(sequence.principals)],
            policy=policies[k],
            gap=float(gaps[k]),
            payments=payments[k] if payments else None,
        )
        for k, sequence in enumerate(sequences)
    ]


def _decide(
    game: Game, method: str, reserves: Tensor | None, traced: bool
) -> tuple[NDArray[Any], NDArray[Any], list[Payments]]:
    """Policies [B, N], gaps [B], and who paid what, which only a trace asks for."""
    if method == "linear" and not traced:
        # Its prices take four times as long as its policy, and its gap is 0 whatever they are.
        return _array(linear_policy(game)), np.zeros(len(game.payoffs)), []
    solved = METHODS[method](game, reserves)
    payments = []
    if traced:
        prices = externalities(game, solved.policy)
        parts = (_array(t) for t in (solved.incentives, solved.reserves, prices))
        payments = [Payments(*one) for one in zip(*parts, strict=True)]
    return _array(solved.policy), _array(solved.gap), payments


def _factors(found: Candidates, sequences: ListOf[Sequence]) -> Tensor:
    """[B, J, 1] what rewards are multiplied with; 0 for padding principals."""
    factors = np.zeros((*found.rewards.shape[:2], 1))
    for b, sequence in enumerate(sequences):
        factors[b, : len(sequence.principals), 0] = sequence.payoff_factors()
    return torch.from_numpy(factors).to(found.rewards.device)


def _with_kl(game: Game, kl_budget_nats: float, method: str) -> Game:
    """The game at the strength that spends the budget; where none spends it all, at the strongest."""
    strength = strength_for_kl(game, kl_budget_nats, method).clamp(max=_STRONGEST)
    return Game.unchecked(game.base_log_probs, game.payoffs * strength[:, None, None], game.temperature)


def _reserves(mode: str, found: Candidates, sequences: ListOf[Sequence]) -> Tensor | None:
    """[B, J] given reserves; a padding principal has no payoff, and reserve tau is then its equilibrium."""
    if mode != "committed":
        return None
    reserves = np.full(found.rewards.shape[:2], MODES[mode])
    for b, sequence in enumerate(sequences):
        reserves[b, : len(sequence.principals)] = sequence.given_reserves()
    return torch.from_numpy(reserves).to(found.rewards.device)


def _array(tensor: Tensor) -> NDArray[Any]:
    return tensor.cpu().numpy()
