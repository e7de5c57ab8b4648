"""Ways of combining principals, as policies of the decoder: a token's method, and how weights adapt in the answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor

from cage_core.blending import METHODS as TOKEN_METHODS
from cage_core.engine.games import MODES
from cage_core.evaluation.decoder import Policy, TokenGames
from cage_core.game import Game
from cage_core.sequential import Floats, balanced_weights, budgeted_weights, nash_weights

Adaptation = Callable[[Floats, Floats], Floats]
"""Preference weights [B, J] and running advantages [B, J] -> weights of the next token [B, J]."""


@dataclass(frozen=True)
class Method:
    """One way of combining principals.

    Attributes:
        title: for tables.
        token_method: a key of `cage_core.blending.METHODS`.
        temperature: the agent's, payoff units.
        adapt: how weights change within an answer; None leaves them as they are.
    """

    title: str
    token_method: str
    temperature: float
    adapt: Adaptation | None = None

    def policy(self, weights: Tensor, strength: float, reserves: Tensor | None = None) -> Policy:
        """The method at a strength.

        Args:
            weights: [answers, J] preference weights of every answer of the batch.
            reserves: [answers, J] payoff units, for "committed".
        """

        def decide(games: TokenGames) -> Tensor:
            adapted = weights[games.answers]
            if self.adapt is not None:
                adapted = torch.from_numpy(self.adapt(adapted.numpy(), games.advantages.numpy()))
            payoffs = strength * adapted[:, :, None] * games.rewards
            game = Game.unchecked(games.base_log_probs, payoffs, self.temperature)
            given = None if reserves is None else reserves[games.answers]
            return TOKEN_METHODS[self.token_method](game, given).policy

        return decide


def _method(title: str, token_method: str, adapt: Adaptation | None = None) -> Method:
    return Method(title, token_method, MODES.get(token_method, 1.0), adapt)


METHODS: Mapping[str, Method] = MappingProxyType(
    {
        "linear": _method("linear blending (GenARM)", "linear"),
        "equilibrium": _method("equilibrium, token by token", "equilibrium"),
        "committed": _method("committed reserves", "committed"),
        "theorem3": _method("Theorem-3 objective", "theorem3"),
        "maxmin": _method("max–min mixture (RMOD)", "maxmin"),
        "budgeted": _method("budgeted game over the answer", "linear", budgeted_weights),
        "nash": _method("Nash bargaining over the answer", "linear", nash_weights),
        "balanced": _method("balanced game over the answer (multiplicative weights)", "linear", balanced_weights),
        "budgeted-equilibrium": _method("budgeted, on equilibrium tokens", "equilibrium", budgeted_weights),
    }
)


def weight_rows(weights: Sequence[Sequence[float]]) -> Tensor:
    """[answers, J] float64."""
    return torch.tensor(weights, dtype=torch.float64)
