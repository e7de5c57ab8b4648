"""Derivatives of an equilibrium with respect to the game, by the implicit function theorem."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from cage_core.equilibrium import Equilibrium
from cage_core.game import Game


def with_gradients(game: Game, answer: Equilibrium) -> Equilibrium:
    """The same answer, differentiable with respect to payoffs, base log-probabilities and temperature.

    The reserves solve F(m; game) = 0, so one Newton step m - (dF/dm)^-1 F(m; game) from the solution, with
    the inverse held constant, has the value m and the implicit derivative. One J x J solve per game; right
    wherever no payoff equals its principal's reserve (there the equilibrium has a kink). The gap is zero at
    every equilibrium, so it carries no derivative.
    """
    base, payoffs, temperatures = game.flattened()
    found = answer.reserves.detach().to(torch.float64).reshape(payoffs.shape[:2])
    scale = temperatures.unsqueeze(-1)
    with torch.no_grad():
        jacobian = _jacobian(base, payoffs, found, scale)
    policy = _policy(base, payoffs, found, scale)
    conditions = (policy.unsqueeze(1) * (found.unsqueeze(-1) - payoffs).clamp(min=0)).sum(dim=-1) - scale
    # The residual of rounding is left out of the value: only its derivative matters.
    correction = torch.linalg.solve(jacobian, conditions - conditions.detach())
    reserves = found - correction
    policy = _policy(base, payoffs, reserves, scale)
    incentives = (payoffs - reserves.unsqueeze(-1)).clamp(min=0)
    dtype = game.dtype
    return replace(
        answer,
        policy=policy.reshape(answer.policy.shape).to(dtype),
        reserves=reserves.reshape(answer.reserves.shape).to(dtype),
        incentives=incentives.reshape(answer.incentives.shape).to(dtype),
    )


def _policy(base: Tensor, payoffs: Tensor, reserves: Tensor, scale: Tensor) -> Tensor:
    incentives = (payoffs - reserves.unsqueeze(-1)).clamp(min=0)
    return torch.softmax(base + incentives.sum(dim=1) / scale, dim=-1)


def _jacobian(base: Tensor, payoffs: Tensor, reserves: Tensor, scale: Tensor) -> Tensor:
    """[B, J, J] derivative of E[(m_j - v_j)+] with respect to m_i (docs/paper.md, section 3)."""
    policy = _policy(base, payoffs, reserves, scale).unsqueeze(1)
    paid = (payoffs > reserves.unsqueeze(-1)).to(payoffs.dtype)
    shortfall = policy * (reserves.unsqueeze(-1) - payoffs).clamp(min=0)
    paid_mass = (paid * policy).sum(dim=-1)
    coupling = shortfall @ paid.transpose(-1, -2) - shortfall.sum(dim=-1, keepdim=True) * paid_mass.unsqueeze(1)
    return torch.diag_embed(1.0 - paid_mass) - coupling / scale.unsqueeze(-1)
