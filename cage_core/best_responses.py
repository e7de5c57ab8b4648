"""A principal's exact best response to the others: a sort and the Wright omega function, no iteration."""

from __future__ import annotations

import torch
from torch import Tensor

from cage_core.game import Game


def wright_omega(x: Tensor) -> Tensor:
    """Real Wright omega function: the root of omega + log(omega) = x.

    A start accurate to a few per cent and three steps of Fritsch, Shafer and Crowley (1973), each of fourth
    order: relative error of a few units in the last place in float64.

    Args:
        x: any shape, float64; -inf gives 0.
    """
    large = x.clamp(min=1.0)
    exponential = torch.exp(x.clamp(max=1.0))
    omega = torch.where(
        x > 1.0, large - torch.log(large) * (1.0 - 1.0 / (1.0 + large)), exponential / (1 + exponential)
    )
    omega = omega.clamp(min=torch.finfo(x.dtype).tiny)
    for _ in range(3):
        residual = x - omega - torch.log(omega)
        plus = 1.0 + omega
        inner = plus * (plus + residual * (2.0 / 3.0))
        omega = omega * (1.0 + residual / plus * (inner - 0.5 * residual) / (inner - residual))
    return torch.where(x > -700.0, omega, torch.exp(x))


def reserve_of_best_response(log_weights: Tensor, payoffs: Tensor, temperatures: Tensor) -> Tensor:
    """Reserve of the best response to fixed incentives of the others (docs/paper.md, eq. 2).

    Computed in the log domain from sums of positive terms, so a token of negligible weight and enormous
    payoff costs no accuracy.

    Args:
        log_weights: [..., N] log of pi0 * exp(others / temperature), up to a constant; float64.
        payoffs: [..., N] of the principal who responds, payoff units; float64.
        temperatures: [...] float64.

    Returns:
        [...] reserves, payoff units.
    """
    temperature = temperatures.unsqueeze(-1)
    value, order = torch.sort(payoffs / temperature, dim=-1)
    weight = log_weights.gather(-1, order)
    log_low = torch.logcumsumexp(weight, dim=-1)
    high_terms = (weight + value).flip(-1)
    log_high = torch.logcumsumexp(high_terms, dim=-1).flip(-1)[..., 1:]
    log_high = torch.nn.functional.pad(log_high, (0, 1), value=-torch.inf)
    steps = torch.log(value.diff(dim=-1)) + log_low[..., :-1]
    log_shortfall = torch.nn.functional.pad(torch.logcumsumexp(steps, dim=-1), (1, 0), value=-torch.inf)
    # Token n is below the reserve while the shortfall expected at a reserve equal to its payoff is under tau.
    below = log_shortfall < torch.logaddexp(log_low, log_high - value)
    last = below.sum(dim=-1, keepdim=True).clamp(min=1) - 1
    top = value.gather(-1, last)
    low, high = log_low.gather(-1, last), log_high.gather(-1, last)
    mean_shortfall = torch.exp(log_shortfall.gather(-1, last) - low)
    # Relative to the highest payoff below the reserve: b = 1 - mean shortfall, reserve = b + omega(log_odds - b).
    log_odds = high - low - top
    offset = 1.0 - mean_shortfall
    omega = wright_omega(log_odds - offset)
    # For large omega, b + omega cancels; log_odds - log(omega) is the same number and does not.
    above = torch.where(omega > 1.0, log_odds - torch.log(omega.clamp(min=1.0)), offset + omega)
    return ((top + above) * temperature).squeeze(-1)


def best_response(game: Game, others: Tensor, principal: int) -> Tensor:
    """Reserve that maximises one principal's utility, the others' incentives held fixed.

    Its incentives are (payoffs - reserve)+ and its utility is reserve - temperature. Closed form: sort and
    Wright omega (docs/paper.md, eq. 2). Exact; no iteration.

    Args:
        others: [..., N] aggregate incentive of all other principals, payoff units.
        principal: index of the principal who responds.

    Returns:
        [...] reserves, payoff units, in the game's dtype.
    """
    temperatures = game.temperatures()
    weights = game.base_log_probs.to(torch.float64) + others.to(torch.float64) / temperatures.unsqueeze(-1)
    payoffs = game.payoffs[..., principal, :].to(torch.float64).expand_as(weights)
    return reserve_of_best_response(weights, payoffs, temperatures).to(game.dtype)
