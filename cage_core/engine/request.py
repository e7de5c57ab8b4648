"""What the engine is asked, and what it answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from cage_core.errors import CageError

FinishReason = Literal["stop", "length"]


@dataclass(frozen=True)
class Steering:
    """How the principals bid for the tokens of one answer.

    Attributes:
        weights: principal name -> preference weight, >= 0.
        strength: factor on all payoffs; at 1 a principal alone steers about as far as its own model would.
        mode: how the principals combine, a key of `cage_core.blending.METHODS`.
    """

    weights: Mapping[str, float]
    strength: float = 1.0
    mode: str = "equilibrium"


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn from the final policy.

    Attributes:
        temperature: exponent 1/temperature on the final policy; 0 takes the likeliest token.
        top_p: smallest set of likeliest tokens that holds this much probability.
        seed: same request and seed, same tokens.
        stop: texts that end the answer; none of them is part of it.
    """

    max_tokens: int
    seed: int
    temperature: float = 1.0
    top_p: float = 1.0
    stop: tuple[str, ...] = ()


@dataclass(frozen=True)
class DecodeRequest:
    """One answer to decode after `prompt_tokens`."""

    prompt_tokens: tuple[int, ...]
    steering: Steering
    sampling: Sampling


@dataclass(frozen=True)
class TokenContext:
    """One token's game, kept for the learner: the plausible candidates only.

    Attributes:
        base_log_probs: [candidates], nats, normalised over the candidates.
        rewards: [principals][candidates] log-ratios of the principals to the base, nats.
    """

    base_log_probs: tuple[float, ...]
    rewards: tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class Answer:
    """A finished answer, and what the learner needs of it.

    Attributes:
        features: [principals]; mean over the tokens of q_j(chosen) - E_base[q_j], in units of the principal's
            feature scale. Order of `principals`.
        largest_gap, mean_gap: certified equilibrium gap over the tokens, payoff units.
        mean_kl_nats: mean KL of the final policy to the base, per token.
        contexts: a uniform sample of the answer's token games.
    """

    text: str
    finish_reason: FinishReason
    prompt_tokens: int
    completion_tokens: int
    principals: tuple[str, ...]
    features: tuple[float, ...]
    largest_gap: float
    mean_gap: float
    mean_kl_nats: float
    contexts: tuple[TokenContext, ...]


@dataclass(frozen=True)
class TextDelta:
    """A further piece of the answer's text."""

    text: str


@dataclass(frozen=True)
class Finished:
    """The answer is complete; nothing follows."""

    answer: Answer


@dataclass(frozen=True)
class Failed:
    """The request failed; nothing follows."""

    error: CageError


Event = TextDelta | Finished | Failed
EventSink = Callable[[Event], None]
