"""How much each principal keeps: no-regret dynamics over a scope's stored token contexts (docs/paper.md, section 4).

Each principal plays one reserve for all contexts; the stage game is the mean over them. Two dynamics:

- best responses: the paper's Algorithm 1 with exact best responses on a grid of reserves. Where it settles, the
  reserves are an equilibrium of the stored contexts. With x_t the play of round t, principal j's regret, even
  against the best answer to every single round, is at most 2 L_j sum_t sum over i != j of |x_it - x_i(t-1)|: the
  paper's bound with the steps themselves in place of distances to an equilibrium, which may not be reached.
  L_j is half the mean spread of j's payoffs over the temperature. It is worth little where nothing settles.
- optimistic Hedge (Syrgkanis et al. 2015; step sizes as in Mohri and Yang 2016): a slice of the contexts a round,
  regret at most log(K) / rate_T + sum_t rate_t max_k (u_t - u_(t-1))^2 against anything, settling or not.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from learner.bidding import Floats, TokenGames, reserve_grid, token_games
from learner.store.generations import StoredContext

# The agent's temperature in the modes that play the game (cage_core.engine.games.MODES, which needs torch).
AGENT_TEMPERATURE = 0.5
GRID_SIZE = 33
BEST_RESPONSE_ROUNDS = 20
HEDGE_ROUNDS = 128

SETTLED = "best responses settled after {rounds} rounds: the reserves are an equilibrium of the stored contexts"
UNSETTLED = (
    "best responses did not settle within {rounds} rounds, so the paper's bound says little here; the guarantee that "
    "holds is Hedge's, and the reserves are the mean of its play"
)


@dataclass(frozen=True)
class Allocation:
    """What the principals' bidding came to; payoff units, regrets and bounds per context, means over the rounds.

    Attributes:
        reserves: of each principal, in the order of the weights.
        converged: whether best responses settled.
        note: the same as a sentence.
    """

    principals: tuple[str, ...]
    reserves: tuple[float, ...]
    context_count: int
    converged: bool
    note: str
    best_response_regret: tuple[float, ...]
    best_response_bound: tuple[float, ...]
    hedge_regret: tuple[float, ...]
    hedge_bound: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class _Play:
    """Outcome of one dynamic, [principals] each, in units of the temperature."""

    reserves: Floats
    regret: Floats
    bound: Floats
    rounds: int
    settled: bool


def allocate(
    contexts: Sequence[StoredContext], weights: Mapping[str, float], strength: float, seed: int = 0
) -> Allocation | None:
    """Work out the incentives at fixed weights; None when no context has all these principals.

    Args:
        strength: the tenant's factor on all payoffs.
        seed: of Hedge's draws and the order of its rounds.
    """
    names = tuple(weights)
    base, payoffs = [], []
    for context in contexts:
        if len(context.base_log_probs) > 1 and set(names) <= set(context.principals):
            rows = [context.principals.index(name) for name in names]
            factors = np.array([weights[name] * strength / AGENT_TEMPERATURE for name in names])
            base.append(np.asarray(context.base_log_probs, np.float64))
            payoffs.append(factors[:, None] * np.asarray(context.rewards, np.float64)[rows])
    if not base:
        return None
    games = token_games(base, payoffs, reserve_grid(base, payoffs, GRID_SIZE))
    spread = np.mean([worth.max(axis=1) - worth.min(axis=1) for worth in payoffs], axis=0)
    settling = _best_responses(games, spread)
    hedging = _optimistic_hedge(games, np.random.default_rng(seed))
    sentence = SETTLED if settling.settled else UNSETTLED
    return Allocation(
        principals=names,
        reserves=_payoff_units((settling if settling.settled else hedging).reserves),
        context_count=len(base),
        converged=settling.settled,
        note=sentence.format(rounds=settling.rounds),
        best_response_regret=_payoff_units(settling.regret),
        best_response_bound=_payoff_units(settling.bound),
        hedge_regret=_payoff_units(hedging.regret),
        hedge_bound=_payoff_units(hedging.bound),
    )


def _best_responses(games: Sequence[TokenGames], spread: Floats) -> _Play:
    """Everybody answers everybody's last play, from nobody paying on, until a play repeats."""
    grid = games[0].grid
    everyone = np.arange(len(grid))
    chosen = np.full(len(grid), grid.shape[1] - 1)
    moved, earned, of_grid = np.zeros(len(grid)), np.zeros(len(grid)), np.zeros_like(grid)
    seen = {tuple(chosen.tolist())}
    utilities = _mean_utilities(games, grid[everyone, chosen])
    rounds, settled = 0, False
    while rounds < BEST_RESPONSE_ROUNDS and not settled:
        before, chosen = chosen, utilities.argmax(axis=1)
        step = np.abs(grid[everyone, chosen] - grid[everyone, before])
        moved += step.sum() - step
        settled = bool((chosen == before).all())
        if not settled:
            utilities = _mean_utilities(games, grid[everyone, chosen])
        of_grid += utilities
        earned += utilities[everyone, chosen]
        rounds += 1
        if not settled and tuple(chosen.tolist()) in seen:
            break
        seen.add(tuple(chosen.tolist()))
    return _Play(
        reserves=grid[everyone, chosen],
        regret=(of_grid.max(axis=1) - earned) / rounds,
        bound=spread * moved / rounds,
        rounds=rounds,
        settled=settled,
    )


def _optimistic_hedge(games: Sequence[TokenGames], random: np.random.Generator) -> _Play:
    grid = games[0].grid
    everyone = np.arange(len(grid))
    slices = _slices(games, random)
    total, last = np.zeros_like(grid), np.zeros_like(grid)
    change = np.ones(len(grid))
    final_rate = rate = np.sqrt(math.log(grid.shape[1]) / change)
    earned, promised, mean = np.zeros(len(grid)), np.zeros(len(grid)), np.zeros(len(grid))
    for part in slices:
        mixed = _softmax(rate[:, None] * (total + last))
        drawn = (mixed.cumsum(axis=1) < random.random((len(grid), 1))).sum(axis=1).clip(max=grid.shape[1] - 1)
        utilities = _mean_utilities(part, grid[everyone, drawn])
        surprise = np.abs(utilities - last).max(axis=1) ** 2
        earned += (mixed * utilities).sum(axis=1)
        promised += rate * surprise
        mean += (mixed * grid).sum(axis=1)
        total, last, change = total + utilities, utilities, change + surprise
        final_rate, rate = rate, np.sqrt(math.log(grid.shape[1]) / change)
    rounds = len(slices)
    return _Play(
        reserves=mean / rounds,
        regret=(total.max(axis=1) - earned) / rounds,
        bound=(math.log(grid.shape[1]) / final_rate + promised) / rounds,
        rounds=rounds,
        settled=False,
    )


def _slices(games: Sequence[TokenGames], random: np.random.Generator) -> list[list[TokenGames]]:
    """The games in random order, dealt out to the rounds; each round's come from one batch."""
    count = sum(len(each.base) for each in games)
    size = max(1, math.ceil(count / HEDGE_ROUNDS))
    parts: list[list[TokenGames]] = []
    for each in games:
        order = random.permutation(len(each.base))
        parts += [[each.of(order[start : start + size])] for start in range(0, len(order), size)]
    return [parts[place] for place in random.permutation(len(parts))]


def _mean_utilities(games: Sequence[TokenGames], reserves: Floats) -> Floats:
    """[principals, grid] mean utility of every reserve, the others' held fixed."""
    count = sum(len(each.base) for each in games)
    total = np.zeros_like(games[0].grid)
    for each in games:
        total += each.utilities(reserves).sum(axis=0)
    return total / count


def _softmax(logits: Floats) -> Floats:
    powers: Floats = np.exp(logits - logits.max(axis=1, keepdims=True))
    mixed: Floats = powers / powers.sum(axis=1, keepdims=True)
    return mixed


def _payoff_units(values: Floats) -> tuple[float, ...]:
    return tuple((values * AGENT_TEMPERATURE).tolist())
