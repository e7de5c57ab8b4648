"""The game at one token: a frozen base policy, and principals who pay for what it says."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from cage_core.errors import InvalidGame

# Reserves are rounded to 16 digits of the payoffs, and payments act in units of the temperature.
LARGEST_PAYOFF = 1e10


@dataclass(frozen=True, eq=False)
class Game:
    """One common-agency game per leading index: an agent and J principals over N candidate tokens.

    The agent answers aggregate incentives Y with the policy pi(Y) proportional to pi0 * exp(Y / temperature)
    (CAGE, arXiv 2605.13875, eq. 3); principal j's utility is the mean of its payoff less what it pays.
    Payoffs may have any sign and origin: adding a constant to one principal's row changes nothing.

    Attributes:
        base_log_probs: [..., N] log-probabilities of the base policy, nats. Normalised over the candidates
            by whoever uses them; -inf marks a candidate that cannot be chosen.
        payoffs: [..., J, N] weighted rewards v_j = w_j q_j, in payoff units (nats times weight).
        temperature: the agent's temperature, payoff units; a number, or a tensor that broadcasts to [...].

    Raises:
        InvalidGame: an argument cannot be right; the message says which, and why.
    """

    base_log_probs: Tensor
    payoffs: Tensor
    temperature: float | Tensor

    def __post_init__(self) -> None:
        _check_shapes(self)
        _check_values(self)

    @classmethod
    def unchecked(cls, base_log_probs: Tensor, payoffs: Tensor, temperature: float | Tensor) -> Game:
        """A game whose arguments the caller vouches for: no validation, no synchronisation with a device."""
        game = object.__new__(cls)
        object.__setattr__(game, "base_log_probs", base_log_probs)
        object.__setattr__(game, "payoffs", payoffs)
        object.__setattr__(game, "temperature", temperature)
        return game

    @property
    def num_candidates(self) -> int:
        return self.payoffs.shape[-1]

    @property
    def num_principals(self) -> int:
        return self.payoffs.shape[-2]

    @property
    def batch_shape(self) -> torch.Size:
        """Leading dimensions shared by the three arguments."""
        shapes = [self.base_log_probs.shape[:-1], self.payoffs.shape[:-2]]
        if isinstance(self.temperature, Tensor):
            shapes.append(self.temperature.shape)
        if all(shape == shapes[0] for shape in shapes):
            return shapes[0]
        return torch.Size(torch.broadcast_shapes(*shapes))

    @property
    def dtype(self) -> torch.dtype:
        """Floating type of every answer about this game."""
        return torch.promote_types(self.base_log_probs.dtype, self.payoffs.dtype)

    @property
    def requires_grad(self) -> bool:
        """Whether an answer about this game can be differentiated."""
        temperature = isinstance(self.temperature, Tensor) and self.temperature.requires_grad
        return temperature or self.base_log_probs.requires_grad or self.payoffs.requires_grad

    def temperatures(self) -> Tensor:
        """Temperature of every game, [...] in float64 on the payoffs' device."""
        if isinstance(self.temperature, Tensor):
            values = self.temperature.to(device=self.payoffs.device, dtype=torch.float64)
            return values.expand(self.batch_shape)
        return torch.full(self.batch_shape, self.temperature, dtype=torch.float64, device=self.payoffs.device)

    def flattened(self) -> tuple[Tensor, Tensor, Tensor]:
        """The games as one batch: base log-probabilities [B, N], payoffs [B, J, N], temperatures [B]; float64."""
        batch = self.batch_shape
        tokens, principals = self.num_candidates, self.num_principals
        base = self.base_log_probs.to(torch.float64).expand(*batch, tokens).reshape(-1, tokens)
        payoffs = self.payoffs.to(torch.float64).expand(*batch, principals, tokens)
        return base, payoffs.reshape(-1, principals, tokens), self.temperatures().reshape(-1)

    def base_policy(self) -> Tensor:
        """Base policy over the candidates, [..., N], in the game's dtype."""
        base = torch.softmax(self.base_log_probs.to(torch.float64), dim=-1)
        return base.expand(*self.batch_shape, self.num_candidates).to(self.dtype)


def _check_shapes(game: Game) -> None:
    for name in ("base_log_probs", "payoffs"):
        value = getattr(game, name)
        if not isinstance(value, Tensor) or not value.is_floating_point():
            raise InvalidGame(f"{name} must be a floating-point tensor, got {_describe(value)}")
    base, payoffs = game.base_log_probs, game.payoffs
    if base.ndim < 1 or payoffs.ndim < 2:
        raise InvalidGame(
            "base_log_probs must be [..., N] and payoffs [..., J, N], "
            f"got {tuple(base.shape)} and {tuple(payoffs.shape)}"
        )
    if base.shape[-1] != payoffs.shape[-1]:
        raise InvalidGame(
            f"base_log_probs has {base.shape[-1]} candidates but payoffs has {payoffs.shape[-1]}: "
            "their last dimensions must agree"
        )
    if payoffs.shape[-1] == 0:
        raise InvalidGame("the candidate set is empty: base_log_probs and payoffs need at least one candidate")
    if payoffs.shape[-2] == 0:
        raise InvalidGame("payoffs has no principal (J = 0): decode with the base policy instead")
    if base.device != payoffs.device:
        raise InvalidGame(f"base_log_probs is on {base.device} but payoffs is on {payoffs.device}")
    try:
        _ = game.batch_shape
    except RuntimeError as mismatch:
        raise InvalidGame(f"leading dimensions do not broadcast: {mismatch}") from mismatch


def _check_values(game: Game) -> None:
    _check_temperature(game.temperature)
    if 0 in game.batch_shape:
        return
    coldest = game.temperature if not isinstance(game.temperature, Tensor) else float(game.temperature.detach().min())
    highest = float(game.payoffs.detach().abs().max())
    if not highest < math.inf:
        raise InvalidGame("payoffs must be finite: found NaN or infinity")
    if highest > LARGEST_PAYOFF * coldest:
        raise InvalidGame(
            f"payoffs reach {highest:.3g}, more than {LARGEST_PAYOFF:.0e} temperatures ({coldest:.3g}): "
            "double precision cannot tell such payments apart; rescale the payoffs or raise the temperature"
        )
    # One pass for the common case: the best candidate of every game is finite and nothing is NaN or +inf.
    best = game.base_log_probs.amax(dim=-1)
    if bool(torch.isfinite(best).all()):
        return
    if bool(torch.isnan(best).any()):
        raise InvalidGame("base_log_probs must not contain NaN")
    if bool((best == math.inf).any()):
        raise InvalidGame("base_log_probs must not contain +inf")
    raise InvalidGame("base_log_probs is -inf for every candidate of a game: nothing can be chosen")


def _check_temperature(temperature: float | Tensor) -> None:
    if isinstance(temperature, Tensor):
        valid = bool(torch.isfinite(temperature).all()) and bool((temperature > 0).all())
    else:
        valid = isinstance(temperature, (int, float)) and math.isfinite(temperature) and temperature > 0
    if not valid:
        raise InvalidGame(f"temperature must be finite and above 0, got {_describe(temperature)}")


def _describe(value: object) -> str:
    if isinstance(value, Tensor):
        return f"a tensor {tuple(value.shape)} of {value.dtype}"
    return repr(value)
