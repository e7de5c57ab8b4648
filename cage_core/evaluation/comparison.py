"""Methods side by side on anybody's model, principals and prompts, at one KL per token.

There is no outside judge here: an objective's score is its principal's own, the mean over an answer's tokens of
q_j(token) - E_base[q_j] in units of the principal's feature scale. Judged so, linear blending has the best mean by
construction; what it costs the objective served worst is the question.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from cage_core.engine.model import LanguageModel
from cage_core.evaluation.calibration import calibrate
from cage_core.evaluation.decoder import Decoder, Policy, Question, TokenGames
from cage_core.evaluation.measures import Measured, measure, perplexity
from cage_core.evaluation.methods import METHODS, weight_rows
from cage_core.evaluation.statistics import Estimate, estimate, resamples

Floats = NDArray[np.float64]

PLAIN = "base"
COMPARABLE = tuple(name for name in METHODS if name != "committed")
"""What `Comparison.at_kl` takes; committed reserves come from a learner's stored contexts."""
_BATCH_ROWS = 240
_FIRST_STRENGTH = 2.0
_NUM_RESAMPLES = 1000


@dataclass(frozen=True)
class Standing:
    """How one method did.

    Attributes:
        strength: at which it spends the KL; None for the plain model.
        matched: whether `kl_nats` is the KL asked for, within 5 %.
        served: principal -> mean score, standard deviations of its feature.
        mean, worst: over an answer's objectives, averaged over answers.
    """

    method: str
    strength: float | None
    kl_nats: float
    matched: bool
    served: dict[str, float]
    mean: Estimate
    worst: Estimate
    tokens: float
    capped_share: float
    repeating_share: float
    perplexity: float


class Comparison:
    """A model, its principals and some prompts, asked under one method after another."""

    def __init__(
        self,
        model: LanguageModel,
        weights: dict[str, float],
        prompts: Sequence[str],
        max_tokens: int,
        seed: int = 0,
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        """Args: weights: principal -> preference weight. say: receives a line for every pass over the prompts."""
        self._decoder = Decoder(model, list(weights), max_tokens)
        self._scales = np.array(model.feature_scales(weights))
        self._weights = [list(weights.values())] * len(prompts)
        self._questions = [Question(prompt, seed + number) for number, prompt in enumerate(prompts)]
        self._shares = resamples(len(prompts), _NUM_RESAMPLES, seed=1)
        self._say = say

    def plain(self) -> Standing:
        """The model without principals."""
        return self._standing(PLAIN, None, self._answers(PLAIN, _base_policy), matched=False)

    def at_kl(self, method: str, kl_nats: float) -> Standing:
        """A method at the strength that spends so much KL per token on these prompts.

        Args:
            method: one of `COMPARABLE`.
        """
        tried: dict[float, list[Measured]] = {}

        def kl_at(strength: float) -> float:
            policy = METHODS[method].policy(weight_rows(self._weights), strength)
            tried[strength] = self._answers(f"{method}, strength {strength:.2f}", policy)
            return float(np.mean([answer.kl_nats for answer in tried[strength]]))

        found = calibrate(kl_at, kl_nats, _FIRST_STRENGTH)
        return self._standing(method, found.strength, tried[found.strength], found.matched)

    def _answers(self, what: str, policy: Policy) -> list[Measured]:
        self._say(what)
        size = max(1, _BATCH_ROWS // (1 + len(self._scales)))
        measured: list[Measured] = []
        for first in range(0, len(self._questions), size):
            for answer in self._decoder.decode(self._questions[first : first + size], policy):
                scores = np.array(answer.advantages) / len(answer.tokens) / self._scales
                measured.append(measure(answer, scores.tolist()))
        return measured

    def _standing(self, method: str, strength: float | None, answers: list[Measured], matched: bool) -> Standing:
        scores: Floats = np.array([answer.scores for answer in answers])
        return Standing(
            method=method,
            strength=strength,
            kl_nats=float(np.mean([answer.kl_nats for answer in answers])),
            matched=matched,
            served=dict(zip(self._decoder.principals, scores.mean(0).tolist(), strict=True)),
            mean=estimate(_mean_of(scores.mean(1)), self._shares),
            worst=estimate(_mean_of(scores.min(1)), self._shares),
            tokens=float(np.mean([answer.num_tokens for answer in answers])),
            capped_share=float(np.mean([not answer.ended for answer in answers])),
            repeating_share=float(np.mean([answer.repeats for answer in answers])),
            perplexity=perplexity(answers),
        )


def _mean_of(values: Floats) -> Callable[[Floats], float]:
    return lambda shares: float(values @ shares)


def _base_policy(games: TokenGames) -> Tensor:
    return games.base_log_probs.exp()
