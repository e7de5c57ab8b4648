"""The product's learner and its rivals, each as one user's learner in memory."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import numpy as np

from learner.evidence import Evidence, accumulate
from learner.exploration import draw
from learner.observations import Observation, design
from learner.parameters import Parameters
from learner.posterior import posterior_of
from learner.preferences import decoder_weights, solve_theta
from learner.store.parameters import NEVER
from learner.surrogate import LearningConstants, probability

Play = tuple[tuple[float, ...], tuple[float, ...]]


@dataclass
class Leader:
    """The product's own: follow the regularised leader on all votes, or on the newest `window`.

    With `explorer` it plays draws from the posterior (Thompson sampling).
    """

    principals: tuple[str, ...]
    constants: LearningConstants
    window: int | None = None
    explorer: np.random.Generator | None = None
    _evidence: Evidence = field(default_factory=Evidence.none)
    _newest: deque[Evidence] = field(default_factory=deque)

    def play(self) -> Play:
        """What the scope's next version would be."""
        uniform = (1.0 / len(self.principals),) * len(self.principals)
        prior = dict(zip(self.principals, uniform, strict=True))
        theta, bias = solve_theta(self._evidence, prior, 0.0, self.constants)
        coefficients = tuple(theta[name] for name in self.principals)
        parameters = Parameters(
            tenant_id="simulated",
            user_id=None,
            version=self._evidence.feedback_count,
            principals=self.principals,
            theta=(*coefficients, bias),
            weights=decoder_weights(coefficients, uniform),
            feedback_count=self._evidence.feedback_count,
            learned_at=NEVER,
            oldest_feedback_at=None,
            posterior=posterior_of(self._evidence, self.principals, (*uniform, 0.0), uniform, self.constants),
        )
        if self.explorer is not None and self._evidence.feedback_count:
            parameters = draw(parameters, self.explorer)
        return parameters.theta, parameters.weights

    def observe(self, seen: Observation) -> None:
        """Add the vote; take the oldest away once the window is full."""
        contribution = accumulate([seen], self.constants)
        self._evidence = self._evidence + contribution
        self._newest.append(contribution)
        if self.window is not None and len(self._newest) > self.window:
            self._evidence = self._evidence - self._newest.popleft()


@dataclass
class ExponentiatedGradient:
    """Coefficients on the simplex by multiplicative updates (Kivinen and Warmuth 1997), bias by gradient steps."""

    principals: tuple[str, ...]
    constants: LearningConstants
    rate: float = 0.3
    _logits: dict[str, float] = field(default_factory=dict)
    _bias: float = 0.0

    def play(self) -> Play:
        """Normalised coefficients are the weights."""
        logits = np.array([self._logits.get(name, 0.0) for name in self.principals])
        powers = np.exp(logits - logits.max())
        weights = tuple((powers / powers.sum()).tolist())
        return (*weights, self._bias), weights

    def observe(self, seen: Observation) -> None:
        """One gradient step at the theta that was in force."""
        vote = design([seen], self.constants)
        slope = -seen.value * probability(-seen.value * float(vote.logits()[0]))
        for name, feature in zip(vote.principals, vote.features[0], strict=False):
            self._logits[name] = self._logits.get(name, 0.0) - self.rate * slope * float(feature)
        limit = self.constants.bias_limit
        self._bias = float(np.clip(self._bias - self.rate * slope, -limit, limit))


@dataclass
class NoLearning:
    """Always the prior."""

    principals: tuple[str, ...]

    def play(self) -> Play:
        """Equal weights."""
        uniform = (1.0 / len(self.principals),) * len(self.principals)
        return (*uniform, 0.0), uniform

    def observe(self, seen: Observation) -> None:
        """Nothing comes of it."""
