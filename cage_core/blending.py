"""Ways to combine the same principals behind one call: the equilibrium and its rivals."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from torch import Tensor

from cage_core.equilibrium import STATUSES, Equilibrium, Status, solve_equilibrium
from cage_core.game import Game

Method = Callable[[Game, Tensor | None], Equilibrium]


def linear(game: Game, reserves: Tensor | None = None) -> Equilibrium:
    """Linear blending: the policy proportional to pi0 * exp(sum of payoffs / temperature)."""
    _, payoffs, _ = game.flattened()
    return truthful(game, payoffs.amin(dim=-1))


def truthful(game: Game, reserves: Tensor) -> Equilibrium:
    base, payoffs, temperatures = game.flattened()
    shape, dtype = game.batch_shape, game.dtype
    incentives = payoffs - reserves.unsqueeze(-1)
    policy = torch.softmax(base + incentives.sum(dim=1) / temperatures.unsqueeze(-1), dim=-1)
    code = STATUSES.index(Status.BY_DESIGN)
    return Equilibrium(
        policy=policy.reshape(*shape, -1).to(dtype),
        reserves=reserves.reshape(*shape, -1).to(dtype),
        incentives=incentives.reshape(*shape, *incentives.shape[1:]).to(dtype),
        gap=torch.zeros(shape, dtype=dtype, device=payoffs.device),
        status_codes=torch.full(shape, code, dtype=torch.int8, device=payoffs.device),
        iterations=torch.zeros(shape, dtype=torch.int32, device=payoffs.device),
    )


METHODS: Mapping[str, Method] = MappingProxyType({"equilibrium": solve_equilibrium, "linear": linear})
