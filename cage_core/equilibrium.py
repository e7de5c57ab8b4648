"""The Nash equilibrium of a common-agency game, found as J reserves and certified by exact best responses."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import torch
from torch import Tensor

from cage_core.best_response import reserve_of_best_response
from cage_core.game import Game

MAX_NEWTON_STEPS = 60
MAX_HALVINGS = 7
RESIDUAL_TOLERANCE = 1e-13
GAP_TOLERANCE = 1e-9


class Status(StrEnum):
    """How one game's answer was reached, as a sentence."""

    EQUILIBRIUM = "equilibrium: no principal gains by deviating alone"
    NOT_CONVERGED = "not an equilibrium: a principal gains the reported gap by deviating alone"
    BY_DESIGN = "not an equilibrium by design: the method sets the policy; the gap is what a principal would gain"


STATUSES = tuple(Status)


@dataclass(frozen=True, eq=False)
class Equilibrium:
    """Answer to a batch of games.

    Attributes:
        policy: [..., N] the agent's policy.
        reserves: [..., J] what every principal keeps, payoff units.
        incentives: [..., J, N] what every principal pays for each token, payoff units.
        gap: [...] the most any principal could gain by deviating alone, payoff units; computed from the
            incentives by exact best responses, independently of how they were found.
        status_codes: [...] int8 indices into STATUSES.
        iterations: [...] int32 steps taken: Newton steps and best-response sweeps.
    """

    policy: Tensor
    reserves: Tensor
    incentives: Tensor
    gap: Tensor
    status_codes: Tensor
    iterations: Tensor

    @property
    def converged(self) -> Tensor:
        """[...] whether the gap certifies an equilibrium."""
        return self.status_codes == 0

    @property
    def statuses(self) -> tuple[Status, ...]:
        """One status per game, leading dimensions flattened."""
        return tuple(STATUSES[code] for code in self.status_codes.reshape(-1).tolist())

    @property
    def status(self) -> Status:
        """The worst status in the batch."""
        return max(self.statuses, key=STATUSES.index, default=Status.EQUILIBRIUM)


def solve_equilibrium(game: Game, initial_reserves: Tensor | None = None) -> Equilibrium:
    """Nash equilibrium in incentives among the principals of every game in the batch.

    A safeguarded semismooth Newton method on the J reserves (docs/paper.md, section 3), in float64 whatever
    the game's dtype. Never silent: `status_codes` follow from the certified gap.

    Args:
        initial_reserves: [..., J] warm start, payoff units; for example those of the previous token.
    """
    base, payoffs, temperatures = game.flattened()
    batch, principals = payoffs.shape[0], payoffs.shape[1]
    scaled = payoffs / temperatures[:, None, None]
    log_base = torch.log_softmax(base, dim=-1)
    start = None
    if initial_reserves is not None:
        start = initial_reserves.to(torch.float64).expand(*game.batch_shape, principals)
        start = start.reshape(batch, principals) / temperatures[:, None]
    reserves, iterations = _solve(log_base, scaled, start)
    return equilibrium_from_reserves(game, reserves * temperatures[:, None], iterations)


def equilibrium_from_reserves(game: Game, reserves: Tensor, iterations: Tensor) -> Equilibrium:
    """Policy, incentives, gap and status that follow from the principals' reserves.

    Args:
        reserves: [B, J] float64, leading dimensions flattened.
        iterations: [B] steps that were taken to find them.
    """
    base, payoffs, temperatures = game.flattened()
    shape, dtype = game.batch_shape, game.dtype
    incentives = (payoffs - reserves.unsqueeze(-1)).clamp(min=0)
    policy = torch.softmax(base + incentives.sum(dim=1) / temperatures.unsqueeze(-1), dim=-1)
    gap = _gap(base, payoffs, temperatures, incentives)
    codes = (~(gap <= _tolerances(payoffs, temperatures))).to(torch.int8)
    return Equilibrium(
        policy=policy.reshape(*shape, -1).to(dtype),
        reserves=reserves.reshape(*shape, -1).to(dtype),
        incentives=incentives.reshape(*shape, *incentives.shape[1:]).to(dtype),
        gap=gap.reshape(shape).to(dtype),
        status_codes=codes.reshape(shape),
        iterations=iterations.reshape(shape),
    )


def equilibrium_gap(game: Game, incentives: Tensor) -> Tensor:
    """Largest utility any principal could gain by deviating alone from the given incentives; 0 at equilibrium.

    Exact: every principal's best response is in closed form (docs/paper.md, eq. 2).

    Args:
        incentives: [..., J, N] non-negative payments, payoff units.

    Returns:
        [...] gap, payoff units, in the game's dtype.
    """
    base, payoffs, temperatures = game.flattened()
    offered = incentives.to(torch.float64).expand(*game.batch_shape, *payoffs.shape[1:]).reshape(payoffs.shape)
    return _gap(base, payoffs, temperatures, offered).reshape(game.batch_shape).to(game.dtype)


def _tolerances(payoffs: Tensor, temperatures: Tensor) -> Tensor:
    """[B] largest gap that rounding alone explains."""
    return GAP_TOLERANCE * temperatures + 1e-15 * payoffs.abs().amax(dim=(-1, -2))


def _gap(base: Tensor, payoffs: Tensor, temperatures: Tensor, incentives: Tensor) -> Tensor:
    total = incentives.sum(dim=1, keepdim=True)
    log_weights = base.unsqueeze(1) + (total - incentives) / temperatures[:, None, None]
    per_principal = temperatures.unsqueeze(-1).expand(payoffs.shape[:2])
    reserves = reserve_of_best_response(log_weights, payoffs, per_principal)
    policy = torch.softmax(base + total.squeeze(1) / temperatures.unsqueeze(-1), dim=-1)
    # Utility is measured from the best reserve, so that large payoffs cancel before they are averaged.
    shortfall = ((reserves.unsqueeze(-1) - payoffs + incentives) * policy.unsqueeze(1)).sum(dim=-1)
    return (shortfall - temperatures.unsqueeze(-1)).amax(dim=-1).clamp(min=0)


def _solve(log_base: Tensor, payoffs: Tensor, start: Tensor | None) -> tuple[Tensor, Tensor]:
    """Reserves [B, J] in units of the temperature, and steps taken [B]."""
    if start is None:
        alone = log_base.unsqueeze(1).expand_as(payoffs)
        start = reserve_of_best_response(alone, payoffs, torch.ones_like(payoffs[..., 0]))
        start = _sweep(log_base, payoffs, start)
    reserves = start
    iterations = torch.zeros(payoffs.shape[0], dtype=torch.int32, device=payoffs.device)
    active = torch.arange(payoffs.shape[0], device=payoffs.device)
    base, value, current = log_base, payoffs, start
    for _ in range(MAX_NEWTON_STEPS):
        residual, jacobian = _residual(base, value, current)
        size = residual.abs().amax(dim=-1)
        unfinished = ~(size <= RESIDUAL_TOLERANCE)
        if not bool(unfinished.all()):
            reserves = reserves.index_copy(0, active, current)
            active, current = active[unfinished], current[unfinished]
            base, value = base[unfinished], value[unfinished]
            residual, jacobian, size = residual[unfinished], jacobian[unfinished], size[unfinished]
        if active.numel() == 0:
            return reserves, iterations
        iterations = iterations.index_add(0, active, torch.ones_like(active, dtype=torch.int32))
        current = _step(base, value, current, residual, jacobian, size)
    return reserves.index_copy(0, active, current), iterations


def _residual(log_base: Tensor, payoffs: Tensor, reserves: Tensor) -> tuple[Tensor, Tensor]:
    """Residuals of the J equilibrium conditions [B, J] and their Jacobian [B, J, J].

    Condition j is F_j = E[(m_j - v_j)+] - 1 = 0; log(1 + F_j) replaces F_j where it is positive, because far
    from the solution F_j grows exponentially.
    """
    excess = payoffs - reserves.unsqueeze(-1)
    policy = torch.softmax(log_base + excess.clamp(min=0).sum(dim=1), dim=-1).unsqueeze(1)
    paid = (excess > 0).to(payoffs.dtype)
    shortfall = (-excess).clamp(min=0) * policy
    mean = shortfall.sum(dim=-1)
    paid_mass = (paid * policy).sum(dim=-1)
    jacobian = mean.unsqueeze(-1) * paid_mass.unsqueeze(-2) - shortfall @ paid.transpose(-1, -2)
    jacobian = jacobian + torch.diag_embed(1.0 - paid_mass)
    scale = mean.clamp(min=1.0)
    residual = torch.where(mean > 1.0, torch.log(scale), mean - 1.0)
    return residual, jacobian / scale.unsqueeze(-1)


def _step(
    log_base: Tensor, payoffs: Tensor, reserves: Tensor, residual: Tensor, jacobian: Tensor, size: Tensor
) -> Tensor:
    """A Newton step shortened until the residual falls; one exact sweep for the games where it does not."""
    direction, failed = torch.linalg.solve_ex(jacobian, residual)
    direction = torch.where((failed != 0).unsqueeze(-1), torch.zeros_like(direction), direction)
    result = reserves
    pending = torch.ones_like(size, dtype=torch.bool)
    for halving in range(MAX_HALVINGS):
        trial = reserves - direction * 0.5**halving
        trial_size = _residual(log_base, payoffs, trial)[0].abs().amax(dim=-1)
        accepted = pending & (trial_size < (1.0 - 1e-4 * 0.5**halving) * size)
        result = torch.where(accepted.unsqueeze(-1), trial, result)
        pending = pending & ~accepted
        if not bool(pending.any()):
            return result
    return torch.where(pending.unsqueeze(-1), _sweep(log_base, payoffs, reserves), result)


def _sweep(log_base: Tensor, payoffs: Tensor, reserves: Tensor) -> Tensor:
    """One Gauss-Seidel sweep: every principal in turn answers the others exactly."""
    ones = torch.ones_like(reserves[:, 0])
    columns = list(reserves.unbind(dim=1))
    for principal in range(payoffs.shape[1]):
        incentives = (payoffs - torch.stack(columns, dim=1).unsqueeze(-1)).clamp(min=0)
        others = incentives.sum(dim=1) - incentives[:, principal]
        columns[principal] = reserve_of_best_response(log_base + others, payoffs[:, principal], ones)
    return torch.stack(columns, dim=1)
