"""The solver as batched tensor operations: for devices without a kernel of their own, and without Numba."""

from __future__ import annotations

import torch
from torch import Tensor

from cage_core.best_responses import reserve_of_best_response

MAX_STEPS = 40
MAX_HALVINGS = 5
TOLERANCE = 1e-12
ROUNDING = 1e-7


def gaps_of(base: Tensor, payoffs: Tensor, temperatures: Tensor, incentives: Tensor) -> Tensor:
    """[B] largest gain from a unilateral deviation, payoff units; games flattened, float64."""
    total = incentives.sum(dim=1, keepdim=True)
    log_weights = base.unsqueeze(1) + (total - incentives) / temperatures[:, None, None]
    per_principal = temperatures.unsqueeze(-1).expand(payoffs.shape[:2])
    reserves = reserve_of_best_response(log_weights, payoffs, per_principal)
    policy = torch.softmax(base + total.squeeze(1) / temperatures.unsqueeze(-1), dim=-1)
    # Utility is measured from the best reserve, so that large payoffs cancel before they are averaged.
    shortfall = ((reserves.unsqueeze(-1) - payoffs + incentives) * policy.unsqueeze(1)).sum(dim=-1)
    return (shortfall - temperatures.unsqueeze(-1)).amax(dim=-1).clamp(min=0)


def solve_batch(log_base: Tensor, payoffs: Tensor, start: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Reserves [B, J] in units of the temperature, steps taken [B], and whether each game was solved [B].

    The same safeguarded Newton method as the compiled kernel's, for all games at once.
    """
    if start is None:
        alone = log_base.unsqueeze(1).expand_as(payoffs)
        start = reserve_of_best_response(alone, payoffs, torch.ones_like(payoffs[..., 0]))
        start = _sweep(log_base, payoffs, start)
    reserves = start
    solved = torch.ones(payoffs.shape[0], dtype=torch.bool, device=payoffs.device)
    iterations = torch.zeros(payoffs.shape[0], dtype=torch.int32, device=payoffs.device)
    active = torch.arange(payoffs.shape[0], device=payoffs.device)
    base, value, current = log_base, payoffs, start
    for _ in range(MAX_STEPS):
        residual, jacobian = _residual(base, value, current)
        size = residual.abs().amax(dim=-1)
        unfinished = ~(size <= TOLERANCE)
        if not bool(unfinished.all()):
            reserves = reserves.index_copy(0, active, current)
            active, current = active[unfinished], current[unfinished]
            base, value = base[unfinished], value[unfinished]
            residual, jacobian, size = residual[unfinished], jacobian[unfinished], size[unfinished]
        if active.numel() == 0:
            return reserves, iterations, solved
        iterations = iterations.index_add(0, active, torch.ones_like(active, dtype=torch.int32))
        current = _step(base, value, current, residual, jacobian, size)
    size = _residual(base, value, current)[0].abs().amax(dim=-1)
    solved = solved.index_copy(0, active, size <= ROUNDING)
    return reserves.index_copy(0, active, current), iterations, solved


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
