"""One running answer: its rows, its tokens, and what is gathered along the way."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from collections.abc import Sequence as ListOf
from dataclasses import dataclass
from functools import cache
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from cage_core.engine.request import (
    Answer,
    DecodeRequest,
    Event,
    EventSink,
    Failed,
    Finished,
    FinishReason,
    TextDelta,
    TokenContext,
    TokenLogprob,
    TokenTrace,
)
from cage_core.engine.text import TextStream
from cage_core.errors import CageError
from cage_core.sequential import Floats, answer_game

log = logging.getLogger(__name__)

_NUM_CONTEXTS = 4
_TINY = np.finfo(np.float64).tiny
_ZERO, _CERTAIN = np.zeros(1), np.ones(1)


@cache
def _nothing(num_principals: int) -> NDArray[np.float64]:
    """[principals, 1] zeros, made once."""
    return np.zeros((num_principals, 1))


@dataclass(frozen=True)
class Payments:
    """Who paid what for a token; arrays of one sequence, payoff units.

    Attributes:
        incentives: [principals or more, candidates].
        reserves, externalities: [principals or more].
    """

    incentives: NDArray[Any]
    reserves: NDArray[Any]
    externalities: NDArray[Any]


@dataclass(frozen=True)
class TokenGame:
    """The game of one token, solved; arrays of one sequence.

    Attributes:
        tokens: [candidates] vocabulary ids.
        base_log_probs: [candidates] nats, normalised over the candidates; -inf for implausible ones.
        rewards: [principals, candidates] nats; 0 where one candidate leaves nothing to reward.
        policy: [candidates] final probabilities.
        gap: payoff units.
        payments: None where no trace was asked for.
    """

    tokens: NDArray[Any]
    base_log_probs: NDArray[Any]
    rewards: NDArray[Any]
    policy: NDArray[Any]
    gap: float
    payments: Payments | None = None

    @property
    def is_sound(self) -> bool:
        """Whether there are numbers to draw from, and to learn from."""
        return len(self.tokens) == 1 or (float(self.policy.sum()) > 0 and not bool(np.isnan(self.rewards).any()))

    @classmethod
    def decided(cls, token: int, num_principals: int) -> Self:
        """The game with one candidate: it is certain, and worth the same to play as not to."""
        return cls(np.array([token]), _ZERO, _nothing(num_principals), _CERTAIN, 0.0)


class Sequence:
    """State of one request between its submission and its last token."""

    def __init__(
        self,
        request: DecodeRequest,
        feature_scales: tuple[float, ...],
        decode: Callable[[ListOf[int]], str],
        emit: EventSink,
    ) -> None:
        self.request = request
        self.principals = tuple(request.steering.weights)
        self.tokens: list[int] = []
        self.running = True
        self.solver_seconds = 0.0
        self._submitted_seconds = time.monotonic()
        self._finish_reason: FinishReason = "length"
        self._emit = emit
        self._decode = decode
        self._text = TextStream(decode, request.sampling.stop)
        # One generator a request: what else is in the batch cannot move its draws.
        self._randomness = np.random.Generator(np.random.Philox(key=request.sampling.seed % 2**64))
        self._weights = np.array(list(request.steering.weights.values()))
        self._moments = _Moments.zero(len(self.principals))
        self._game = answer_game(request.steering.mode, self._weights, request.steering.balance)
        self._feature_scales = np.array(feature_scales)
        self._contexts: list[TokenContext] = []
        self._num_contested = 0
        self._traces: list[TokenTrace] = []
        self._logprobs: list[TokenLogprob] = []
        self._num_shown_logprobs = 0

    @property
    def num_rows(self) -> int:
        return len(self.request.rows.rows)

    def uniform(self) -> float:
        """The next random number of this answer."""
        return float(self._randomness.random())

    def payoff_factors(self) -> Floats:
        """[principals] what each one's reward is multiplied with at the next token."""
        return self.request.steering.strength * self._adapted_weights()

    def _adapted_weights(self) -> Floats:
        """[principals] preference weights, adapted to what the answer has given each principal so far."""
        return self._weights if self._game is None else self._game.bids

    def given_reserves(self) -> list[float]:
        """The reserves that came with the request, in the order of its principals."""
        reserves = self.request.steering.reserves or {}
        return [reserves[name] for name in self.principals]

    def accept(self, game: TokenGame, chosen: int, end_tokens: frozenset[int]) -> None:
        """Take the chosen candidate as the next token and emit what text it completes."""
        # A token without a rival moves no moment: its advantages, divergence and gap are 0.
        if len(game.tokens) > 1 or self.request.traced:
            self._observe(game, chosen)
        token = int(game.tokens[chosen])
        self.tokens.append(token)
        if token in end_tokens:
            self._finish("stop")
            return
        if self.request.sampling.num_logprobs is not None:
            self._logprobs.append(self._logprob(game, chosen, self.request.sampling.num_logprobs))
        self._show(self._text.push(token))
        if self._text.stopped:
            self._finish("stop")
        elif len(self.tokens) >= self.request.sampling.max_tokens:
            self._finish("length")

    def cancel(self) -> None:
        """Give the answer up, from any thread: no event follows the token under way."""
        self.running = False

    def fail(self, error: CageError) -> None:
        """End the answer by an error, unless it has ended already."""
        if self.running:
            self.running = False
            self._deliver(Failed(error))

    def _answer(self) -> Answer:
        moments, game, num_tokens = self._moments, self._game, max(len(self.tokens), 1)
        features = moments.advantages / num_tokens / self._feature_scales
        return Answer(
            text=self._text.text,
            finish_reason=self._finish_reason,
            prompt_tokens=len(self.request.rows.base_prompt),
            completion_tokens=len(self.tokens),
            principals=self.principals,
            features=tuple(features.tolist()),
            largest_gap=moments.largest_gap,
            mean_gap=moments.gaps / num_tokens,
            mean_kl_nats=moments.kl_nats / num_tokens,
            sequential_regret_nats=None if game is None else game.regret_nats / num_tokens,
            sequential_bound_nats=None if game is None else game.bound_nats / num_tokens,
            seconds=time.monotonic() - self._submitted_seconds,
            solver_seconds=self.solver_seconds,
            contexts=tuple(self._contexts),
            traces=tuple(self._traces),
            logprobs=tuple(self._logprobs),
        )

    def _finish(self, reason: FinishReason) -> None:
        self._finish_reason = reason
        self._show(self._text.finish())
        self._trim_logprobs()
        if self.running:
            self.running = False
            self._deliver(Finished(self._answer()))

    def _trim_logprobs(self) -> None:
        """Drop the entries of tokens that only wrote what a stop text hides."""
        num_hidden = sum(len(entry.text) for entry in self._logprobs) - len(self._text.text)
        while self._logprobs and 0 < len(self._logprobs[-1].text) <= num_hidden:
            num_hidden -= len(self._logprobs.pop().text)

    def _show(self, text: str) -> None:
        if text and self.running:
            if self._text.stopped:
                self._trim_logprobs()
            self._deliver(TextDelta(text, tuple(self._logprobs[self._num_shown_logprobs :])))
            self._num_shown_logprobs = len(self._logprobs)

    def _deliver(self, event: Event) -> None:
        """Hand an event over; a receiver that is gone must not end the other requests."""
        try:
            self._emit(event)
        except Exception:
            log.exception("a request's receiver failed; the request is given up")
            self.running = False

    def _observe(self, game: TokenGame, chosen: int) -> None:
        plausible = np.isfinite(game.base_log_probs)
        base_log_probs, rewards = game.base_log_probs[plausible], game.rewards[:, plausible]
        policy = game.policy[plausible]
        advantages = game.rewards[:, chosen] - rewards @ np.exp(base_log_probs)
        moved = policy > 0
        kl_nats = float(policy[moved] @ (np.log(policy[moved]) - base_log_probs[moved]))
        if self.request.traced and game.payments is not None:
            self._traces.append(self._trace(game, game.payments, chosen))
        self._moments = self._moments.plus(advantages, game.gap, kl_nats)
        if self._game is not None:
            self._game = self._game.after(advantages)
        if len(policy) > 1:
            context = TokenContext(tuple(base_log_probs.tolist()), tuple(map(tuple, rewards.tolist())))
            self._sample_context(context)

    def _logprob(self, game: TokenGame, chosen: int, num_alternatives: int) -> TokenLogprob:
        def entry(index: int) -> tuple[str, float]:
            return self._decode([int(game.tokens[index])]), float(np.log(max(game.policy[index], _TINY)))

        likeliest = np.argsort(-game.policy, kind="stable")[:num_alternatives]
        possible = [int(index) for index in likeliest if game.policy[index] > 0]
        return TokenLogprob(*entry(chosen), tuple(TokenLogprob(*entry(index)) for index in possible))

    def _trace(self, game: TokenGame, payments: Payments, chosen: int) -> TokenTrace:
        principals = len(self.principals)
        token = int(game.tokens[chosen])
        return TokenTrace(
            token=token,
            text=self._decode([token]),
            base_probability=float(np.exp(game.base_log_probs[chosen])),
            probability=float(game.policy[chosen]),
            weights=tuple(self._adapted_weights().tolist()),
            incentives=tuple(payments.incentives[:principals, chosen].tolist()),
            reserves=tuple(payments.reserves[:principals].tolist()),
            externalities=tuple(payments.externalities[:principals].tolist()),
            gap=game.gap,
        )

    def _sample_context(self, context: TokenContext) -> None:
        """Reservoir sampling (Vitter 1985, algorithm R): every contested token is kept with equal probability."""
        self._num_contested += 1
        if len(self._contexts) < _NUM_CONTEXTS:
            self._contexts.append(context)
            return
        slot = int(self._randomness.integers(self._num_contested))
        if slot < _NUM_CONTEXTS:
            self._contexts[slot] = context


@dataclass(frozen=True)
class _Moments:
    """Sums over the tokens of an answer."""

    advantages: NDArray[np.float64]  # [principals], nats
    gaps: float
    largest_gap: float
    kl_nats: float

    @classmethod
    def zero(cls, num_principals: int) -> Self:
        return cls(np.zeros(num_principals), 0.0, 0.0, 0.0)

    def plus(self, advantages: NDArray[np.float64], gap: float, kl_nats: float) -> _Moments:
        return _Moments(
            self.advantages + advantages,
            self.gaps + gap,
            max(self.largest_gap, gap),
            self.kl_nats + kl_nats,
        )
