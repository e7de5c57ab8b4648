"""Repeated play of one game: how principals get to an equilibrium, or do not, and what that costs them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from cage_core.best_responses import reserve_of_best_response
from cage_core.equilibrium import solve_equilibrium
from cage_core.errors import InvalidGame
from cage_core.game import Game

GRID_SIZE = 65


@dataclass(frozen=True, eq=False)
class Trajectory:
    """T rounds of play of every game in a batch.

    Attributes:
        reserves: [T, ..., J] played in each round, payoff units.
        utilities: [T, ..., J] earned in each round, payoff units; for Hedge the mean over its mixed play.
        regret: [T, ..., J] cumulative: what the best fixed reserve in hindsight would have earned more.
        regret_against_anything: [T, ..., J] cumulative: what the best response to every single round would
            have earned more; no fixed incentive, of whatever shape, can have earned more than that.
        bound: [T, ..., J] what theory promises: for best responses the paper's bound on
            `regret_against_anything`, for Hedge the bound on `regret`.
    """

    reserves: Tensor
    utilities: Tensor
    regret: Tensor
    regret_against_anything: Tensor
    bound: Tensor

    def converged(self, tolerance: float = 1e-6) -> Tensor:
        """[...] whether the last round changed no reserve by more than `tolerance`, payoff units."""
        return (self.reserves[-1] - self.reserves[-2]).abs().amax(dim=-1) <= tolerance


def jacobi(game: Game, rounds: int, damping: float = 1.0) -> Trajectory:
    """The paper's Algorithm 1 (nonlinear Jacobi) with exact best responses to the round before.

    Args:
        damping: share of the way to the best response that a principal moves; 1 is the paper's.
    """

    def step(log_base: Tensor, payoffs: Tensor, reserves: Tensor) -> Tensor:
        return reserves + damping * (best_reserves(log_base, payoffs, reserves) - reserves)

    return _play(game, rounds, step)


def gauss_seidel(game: Game, rounds: int) -> Trajectory:
    """Exact best responses in turn, each principal answering what the ones before it have just played."""

    def step(log_base: Tensor, payoffs: Tensor, reserves: Tensor) -> Tensor:
        for principal in range(payoffs.shape[1]):
            best = best_reserves(log_base, payoffs, reserves)[:, principal]
            reserves = reserves.index_copy(1, torch.tensor([principal], device=best.device), best.unsqueeze(1))
        return reserves

    return _play(game, rounds, step)


def optimistic_hedge(game: Game, rounds: int, generator: torch.Generator, grid_size: int = GRID_SIZE) -> Trajectory:
    """Every principal runs optimistic Hedge over a grid of reserves and plays a sample from it.

    No-regret against anything, converging or not (Syrgkanis et al. 2015): regret on the grid is at most
    log(K) / rate + rate * sum_t max_k (u_t - u_{t-1})^2, and the rate makes that O(sqrt(T log K)).

    Args:
        generator: draws the reserves that are played.
        grid_size: reserves to choose from, evenly spaced over each principal's payoffs, plus the temperature.
    """
    _check_rounds(rounds)
    log_base, payoffs = _scaled(game)
    grid = _grid(payoffs, grid_size)
    spread = (payoffs.amax(-1) - payoffs.amin(-1) + 1.0).unsqueeze(-1)
    rate = math.sqrt(math.log(grid_size) / rounds) / spread
    total, last = torch.zeros_like(grid), torch.zeros_like(grid)
    change = torch.zeros_like(spread)
    played, utilities, promised = [], [], []
    for _ in range(rounds):
        mixed = torch.softmax(rate * (total + last), dim=-1)
        choice = torch.multinomial(mixed.flatten(0, 1), 1, generator=generator).reshape(*mixed.shape[:2], 1)
        reserves = grid.gather(-1, choice).squeeze(-1)
        earned = _utilities_of(log_base, payoffs, reserves, grid)
        change = change + (earned - last).abs().amax(dim=-1, keepdim=True) ** 2
        total, last = total + earned, earned
        played.append(reserves)
        utilities.append((mixed * earned).sum(dim=-1))
        promised.append((math.log(grid_size) / rate + rate * change).squeeze(-1))
    return _trajectory(game, log_base, payoffs, torch.stack(played), torch.stack(utilities), torch.stack(promised))


def best_reserves(log_base: Tensor, payoffs: Tensor, reserves: Tensor) -> Tensor:
    """[B, J] exact best responses to everybody's present reserves, in units of the temperature."""
    incentives = (payoffs - reserves.unsqueeze(-1)).clamp(min=0)
    others = incentives.sum(dim=1, keepdim=True) - incentives
    return reserve_of_best_response(log_base.unsqueeze(1) + others, payoffs, torch.ones_like(reserves))


def _play(game: Game, rounds: int, step: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Trajectory:
    _check_rounds(rounds)
    log_base, payoffs = _scaled(game)
    reserves = best_reserves(log_base, payoffs, payoffs.amax(dim=-1))
    played = [reserves]
    for _ in range(rounds - 1):
        reserves = step(log_base, payoffs, reserves)
        played.append(reserves)
    history = torch.stack(played)
    utilities = torch.stack([_utilities(log_base, payoffs, reserves) for reserves in played])
    bound = _paper_bound(game, payoffs, history)
    return _trajectory(game, log_base, payoffs, history, utilities, bound)


def _paper_bound(game: Game, payoffs: Tensor, history: Tensor) -> Tensor:
    """[T, B, J] the paper's 2 L_f (J - 1) sum_t (a_t + a_{t-1}), a_t the distance of play from equilibrium.

    Distances in the largest payment, so L_f bounds the 1-norm of a utility's gradient in the others'
    payments: half the spread of the payoffs over the temperature. Before the first round nobody pays.
    """
    temperatures = game.temperatures().reshape(-1, 1)
    settled = solve_equilibrium(Game.unchecked(*(part.detach() for part in game.flattened()))).reserves
    target = (payoffs - (settled / temperatures).unsqueeze(-1)).clamp(min=0)
    spread = payoffs.amax(-1) - payoffs.amin(-1)
    paid = (payoffs - history.unsqueeze(-1)).clamp(min=0)
    nobody = torch.zeros_like(paid[:1])
    distance = (torch.cat([nobody, paid]) - target).abs().amax(dim=(-1, -2))
    lipschitz = 0.5 * spread
    return 2 * lipschitz * (payoffs.shape[1] - 1) * (distance[1:] + distance[:-1]).cumsum(dim=0).unsqueeze(-1)


def _trajectory(
    game: Game, log_base: Tensor, payoffs: Tensor, history: Tensor, utilities: Tensor, bound: Tensor
) -> Trajectory:
    """Attach regrets, and return to payoff units and leading dimensions."""
    grid = _grid(payoffs, GRID_SIZE)
    of_grid = torch.stack([_utilities_of(log_base, payoffs, reserves, grid) for reserves in history])
    best = torch.stack([best_reserves(log_base, payoffs, reserves) - 1.0 for reserves in history])
    hindsight = of_grid.cumsum(dim=0).amax(dim=-1)
    earned = utilities.cumsum(dim=0)
    scale = game.temperatures().reshape(-1, 1)
    shape = (history.shape[0], *game.batch_shape, game.num_principals)

    def finished(values: Tensor) -> Tensor:
        return (values * scale).reshape(shape).to(game.dtype)

    return Trajectory(
        reserves=finished(history),
        utilities=finished(utilities),
        regret=finished(hindsight - earned),
        regret_against_anything=finished(best.cumsum(dim=0) - earned),
        bound=finished(bound),
    )


def _utilities(log_base: Tensor, payoffs: Tensor, reserves: Tensor) -> Tensor:
    """[B, J] utilities when everybody plays these reserves."""
    incentives = (payoffs - reserves.unsqueeze(-1)).clamp(min=0)
    policy = torch.softmax(log_base + incentives.sum(dim=1), dim=-1)
    return (policy.unsqueeze(1) * (payoffs - incentives)).sum(dim=-1)


def _utilities_of(log_base: Tensor, payoffs: Tensor, reserves: Tensor, grid: Tensor) -> Tensor:
    """[B, J, K] exact utility of every reserve of each principal's grid [B, J, K], the others as played."""
    incentives = (payoffs - reserves.unsqueeze(-1)).clamp(min=0)
    others = incentives.sum(dim=1, keepdim=True) - incentives
    offers = (payoffs.unsqueeze(2) - grid.unsqueeze(-1)).clamp(min=0)
    policy = torch.softmax((log_base.unsqueeze(1) + others).unsqueeze(2) + offers, dim=-1)
    return (policy * (payoffs.unsqueeze(2) - offers)).sum(dim=-1)


def _grid(payoffs: Tensor, size: int) -> Tensor:
    """[B, J, K] reserves from each principal's lowest payoff to its highest plus the temperature."""
    low, high = payoffs.amin(-1, keepdim=True), payoffs.amax(-1, keepdim=True) + 1.0
    return low + (high - low) * torch.linspace(0, 1, size, dtype=payoffs.dtype, device=payoffs.device)


def _scaled(game: Game) -> tuple[Tensor, Tensor]:
    base, payoffs, temperatures = game.flattened()
    return torch.log_softmax(base, dim=-1), payoffs / temperatures[:, None, None]


def _check_rounds(rounds: int) -> None:
    if rounds < 2:
        raise InvalidGame(f"rounds must be at least 2, got {rounds}")
