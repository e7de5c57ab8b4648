"""What the engine is asked, and what it answers."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Literal

from cage_core.engine.rows import RowPlan
from cage_core.errors import CageError

FinishReason = Literal["stop", "length"]


@dataclass(frozen=True)
class Steering:
    """How the principals bid for the tokens of one answer.

    Attributes:
        weights: principal name -> preference weight, >= 0.
        strength: factor on all payoffs; at 1 a principal alone steers about as far as its own model would.
        mode: how the principals combine, a key of `cage_core.engine.games.MODES`.
        balance: how much weights adapt within the answer towards principals that it has served least, per nat of
            running advantage; 0 leaves that to the mode. "balanced" has a rate of its own; "budgeted" reads none.
        kl_budget_nats: KL of every token's policy to the plain model, instead of a fixed strength; tokens on which
            the principals cannot spend it get the most they can.
        reserves: principal name -> reserve, payoff units; the bids of mode "committed", unread in others.
    """

    weights: Mapping[str, float]
    strength: float = 1.0
    mode: str = "equilibrium"
    balance: float = 0.0
    kl_budget_nats: float | None = None
    reserves: Mapping[str, float] | None = None


@dataclass(frozen=True)
class CandidateFilter:
    """Which tokens are in the game.

    Attributes:
        top_k: likeliest tokens of the base, at most.
        min_p: least base probability relative to the likeliest token; log-ratios of implausible tokens are noise.
    """

    top_k: int = 50
    min_p: float = 0.02

    @property
    def log_min_p(self) -> float:
        """Least log-probability relative to the likeliest token, nats."""
        return math.log(self.min_p) if self.min_p > 0 else -math.inf


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn from the final policy.

    Attributes:
        temperature: exponent 1/temperature on the final policy; 0 takes the likeliest token.
        top_p: smallest set of likeliest tokens that holds this much probability.
        seed: same request and seed, same tokens.
        stop: texts that end the answer; none of them is part of it.
        num_logprobs: how many alternatives are reported with each token; None reports nothing.
    """

    max_tokens: int
    seed: int
    temperature: float = 1.0
    top_p: float = 1.0
    stop: tuple[str, ...] = ()
    num_logprobs: int | None = None


@dataclass(frozen=True)
class DecodeRequest:
    """One answer to decode.

    Attributes:
        rows: what `LanguageModel.plan_rows` gives for the conversation and the principals of `steering`.
        traced: whether the answer carries a trace of every token.
        deadline_seconds: on the monotonic clock; an answer that is not complete by then fails.
        conversation_scope: whose conversation it is; a later request with an equal scope may begin where this one
            ends. None keeps nothing and finds nothing.
    """

    rows: RowPlan
    steering: Steering
    sampling: Sampling
    candidates: CandidateFilter = CandidateFilter()
    traced: bool = False
    deadline_seconds: float | None = None
    conversation_scope: Hashable = None


@dataclass(frozen=True)
class TokenLogprob:
    """A token and its log-probability under the final policy, before temperature and top-p; nats.

    Attributes:
        alternatives: the likeliest tokens, the chosen one among them where it is one.
    """

    text: str
    logprob: float
    alternatives: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True)
class TokenTrace:
    """Who moved one token.

    Attributes:
        base_probability, probability: of the chosen token, among the candidates.
        weights: [principals] preference weights that they bid with, adapted to the answer so far.
        incentives: [principals] what each paid for the chosen token, payoff units.
        reserves: [principals] what each kept, payoff units.
        externalities: [principals] what the presence of each cost the others at this token, payoff units.
        gap: certified equilibrium gap, payoff units.
    """

    token: int
    text: str
    base_probability: float
    probability: float
    weights: tuple[float, ...]
    incentives: tuple[float, ...]
    reserves: tuple[float, ...]
    externalities: tuple[float, ...]
    gap: float


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
        sequential_regret_nats, sequential_bound_nats: regret within the answer, per token, and what theory promises for
            it (docs/paper.md, eq. 4 and 5); None where weights do not adapt.
        seconds: from submission to the last token, waiting for rows included.
        solver_seconds: this answer's share of the time in which games were put together and solved.
        contexts: a uniform sample of the answer's token games.
        traces, logprobs: one for each token if the request asked for them.
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
    sequential_regret_nats: float | None
    sequential_bound_nats: float | None
    seconds: float
    solver_seconds: float
    contexts: tuple[TokenContext, ...]
    traces: tuple[TokenTrace, ...]
    logprobs: tuple[TokenLogprob, ...]


@dataclass(frozen=True)
class TextDelta:
    """A further piece of the answer's text.

    Attributes:
        logprobs: of the tokens that this piece completes, if the request asked for them.
    """

    text: str
    logprobs: tuple[TokenLogprob, ...] = ()


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
