"""Simulated users: a hidden taste, noisy thumbs, and the learner's mathematics between them.

A user's utility of an answer is the mean of the answer's true scores under the user's taste. It approves of
what is better than what it has become used to: thumb up with probability sigma(3 (utility - mean) / spread) over
its last answers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from cage_core.pocket.scorers import SCORERS
from learner.observations import Observation
from learner.surrogate import probability

SHARPNESS = 3.0
REMEMBERED = 20
LEAST_SPREAD = 0.02

Taste = Mapping[str, float]


def pure_taste(principal: str) -> Taste:
    """A user who likes one thing."""
    return {name: float(name == principal) for name in SCORERS}


def mixed_taste(first: str, second: str, share: float = 0.5) -> Taste:
    """A user who likes two things."""
    return {name: share * (name == first) + (1.0 - share) * (name == second) for name in SCORERS}


def utility(taste: Taste, text: str) -> float:
    """True worth of an answer to a user, in [0, 1]."""
    return sum(share * SCORERS[name](text) for name, share in taste.items() if share)


@dataclass(frozen=True)
class Reply:
    """An answer as a user and its learner see it.

    Attributes:
        features: of each principal, in the order of the request's weights.
    """

    text: str
    features: tuple[float, ...]


Ask = Callable[[Mapping[str, float], int], Reply]
"""Puts the user's question of this number, decoded under these weights."""


@dataclass
class SimulatedUser:
    """Votes by its taste, which may change.

    Attributes:
        tastes: from which thumb on (counted from 0) which taste holds; the first holds from 0 on.
    """

    tastes: Mapping[int, Taste]
    luck: np.random.Generator
    _answers: list[str] = field(default_factory=list)

    @property
    def taste(self) -> Taste:
        """What it likes now."""
        begun = max(start for start in self.tastes if start <= len(self._answers))
        return self.tastes[begun]

    def vote(self, text: str) -> int:
        """Thumb on an answer, +1 or -1."""
        taste = self.taste
        usual = [utility(taste, answer) for answer in self._answers[-REMEMBERED:]]
        own = utility(taste, text)
        level, spread = (np.mean(usual), np.std(usual)) if len(usual) > 1 else (0.5, 0.25)
        self._answers.append(text)
        surprise = (own - float(level)) / max(float(spread), LEAST_SPREAD)
        return 1 if self.luck.random() < probability(SHARPNESS * surprise) else -1


class WeightLearner(Protocol):
    """Turns thumbs into weights; `theta` is one per principal, then the bias."""

    principals: tuple[str, ...]

    def play(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Theta in force for the next answer, and the decoder's weights."""
        ...

    def observe(self, seen: Observation) -> None:
        """Learn from one vote."""
        ...


@dataclass(frozen=True)
class Thumb:
    """One round: what was in force, what came of it.

    Attributes:
        utility: true worth to the user under the taste it had at the time.
    """

    weights: tuple[float, ...]
    observation: Observation
    utility: float


def play(
    user: SimulatedUser,
    learner: WeightLearner,
    ask: Ask,
    thumbs: int,
    after_thumb: Callable[[int, Sequence[Thumb]], None] = lambda number, course: None,
) -> list[Thumb]:
    """One user's course: ask, read, vote, learn, again and again.

    Args:
        after_thumb: told the number of thumbs given, from 1 on, and the course so far.
    """
    course: list[Thumb] = []
    for number in range(thumbs):
        theta, weights = learner.play()
        reply = ask(dict(zip(learner.principals, weights, strict=True)), number)
        worth = utility(user.taste, reply.text)
        observation = Observation(learner.principals, reply.features, theta, user.vote(reply.text))
        learner.observe(observation)
        course.append(Thumb(weights, observation, worth))
        after_thumb(number + 1, course)
    return course
