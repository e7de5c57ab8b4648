"""A simulated user with a hidden taste, played through the HTTP API alone."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

import httpx

from cage_core.pocket.questions import topic_question
from cage_core.pocket.scorers import SCORERS
from cage_core.pocket.topics import read_topics

_SHARPNESS = 3.0
_COMPARISON_ANSWERS = 20
_LEARN_TIMEOUT_SECONDS = 10.0
_POLL_SECONDS = 0.01


class DemoFailed(Exception):
    """The service did not do what the demo waits for; the message says what."""


@dataclass(frozen=True)
class Checkpoint:
    """Where the demo stands after some thumbs."""

    thumbs: int
    weights: dict[str, float]
    recent_score: float
    approval: float
    regret: float
    bound: float
    median_delay_seconds: float


@dataclass(frozen=True)
class Outcome:
    """What 40 thumbs changed; scores are of the same questions and seeds before and after."""

    taste: str
    thumbs: int
    weight_before: float
    weight_after: float
    score_before: float
    score_after: float
    regret: float
    regret_bound: float
    median_feedback_to_decoder_ms: float
    seconds: float

    @property
    def learned(self) -> bool:
        """Whether the hidden taste shows in the weights and in the answers."""
        return self.weight_after > self.weight_before and self.score_after > self.score_before


class SimulatedUser:
    """Thumbs up with probability sigmoid(3 (score - running mean) / spread) of one hidden attribute."""

    def __init__(self, client: httpx.Client, model: str, taste: str, seed: int) -> None:
        self._client = client
        self._model = model
        self._taste = taste
        self._name = f"simulated-{seed}"
        self._luck = Random(seed)
        self._topics = read_topics()
        self.scores: list[float] = []
        self.votes: list[int] = []
        self.delays_seconds: list[float] = []

    def weights(self) -> dict[str, Any]:
        """The decoder's view of this user."""
        return self._call("GET", f"/v1/users/{self._name}/weights")

    def mean_score(self, answers: int, seed: int, tick: Callable[[], None]) -> float:
        """Mean true score of fresh answers that are not voted on; the same questions and seeds at every call."""
        luck = Random(seed)
        scores = []
        for index in range(answers):
            _, text = self._ask(topic_question(luck, luck.choice(self._topics), held_out=True), index)
            scores.append(SCORERS[self._taste](text))
            tick()
        return statistics.fmean(scores)

    def play(self) -> None:
        """Ask, read, vote, and wait until the decoder uses what was learned."""
        question = topic_question(self._luck, self._luck.choice(self._topics))
        inference_id, text = self._ask(question, self._luck.getrandbits(31))
        score = SCORERS[self._taste](text)
        vote = "up" if self._luck.random() < self._approval(score) else "down"
        self.scores.append(score)
        self.votes.append(vote == "up")
        sent = time.monotonic()
        self._call("POST", "/v1/feedback", {"inference_id": inference_id, "value": vote})
        self._await(lambda state: state["feedback_count"] >= len(self.votes))
        self.delays_seconds.append(time.monotonic() - sent)

    def _approval(self, score: float) -> float:
        if len(self.scores) < 2:
            return 1.0 if score >= 0.5 else 0.0
        spread = statistics.stdev(self.scores) or 1.0
        return 1 / (1 + math.exp(-_SHARPNESS * (score - statistics.fmean(self.scores)) / spread))

    def _ask(self, question: str, seed: int) -> tuple[str, str]:
        messages = [{"role": "user", "content": question}]
        body = {"model": self._model, "user": self._name, "messages": messages, "seed": seed}
        answer = self._call("POST", "/v1/chat/completions", body)
        return answer["id"], answer["choices"][0]["message"]["content"]

    def measured(self) -> dict[str, Any]:
        """The decoder's view once the regret is measured, which follows the weights: of every vote at first, of a
        growing number at a time later."""
        return self._await(lambda state: state["regret"] and state["regret"]["feedback_count"] >= 0.9 * len(self.votes))

    def _await(self, fulfilled: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        deadline = time.monotonic() + _LEARN_TIMEOUT_SECONDS
        while not fulfilled(state := self.weights()):
            if time.monotonic() > deadline:
                raise DemoFailed(f"a vote was not learned within {_LEARN_TIMEOUT_SECONDS:.0f} s; does a worker run?")
            time.sleep(_POLL_SECONDS)
        return state

    def _call(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        response = self._client.request(method, path, json=body)
        if response.is_error:
            raise DemoFailed(f"{method} {path} answered {response.status_code}: {response.text}")
        answer: dict[str, Any] = response.json()
        return answer


def play(
    client: httpx.Client,
    *,
    taste: str,
    thumbs: int,
    seed: int,
    report: Callable[[Checkpoint], None],
    tick: Callable[[], None],
) -> Outcome:
    """Play a whole demo against a server with a tenant that has learned nothing.

    Args:
        client: carries the server's base URL and the tenant's key.
        report: told how things stand every ten thumbs.
        tick: called after every answer, `thumbs` + 40 times.
    Raises:
        DemoFailed: the service refuses something or does not learn in time.
    """
    started = time.monotonic()
    user = SimulatedUser(client, _model(client), taste, seed)
    weight_before = user.weights()["weights"][taste]
    score_before = user.mean_score(_COMPARISON_ANSWERS, seed, tick)
    for thumb in range(1, thumbs + 1):
        user.play()
        tick()
        if thumb % 10 == 0 or thumb == thumbs:
            report(_checkpoint(user, thumb))
    score_after = user.mean_score(_COMPARISON_ANSWERS, seed, tick)
    last = user.measured()
    return Outcome(
        taste=taste,
        thumbs=thumbs,
        weight_before=weight_before,
        weight_after=last["weights"][taste],
        score_before=score_before,
        score_after=score_after,
        regret=last["regret"]["measured"],
        regret_bound=last["regret"]["bound"],
        median_feedback_to_decoder_ms=1000 * statistics.median(user.delays_seconds),
        seconds=time.monotonic() - started,
    )


def _model(client: httpx.Client) -> str:
    response = client.get("/v1/models")
    if response.is_error:
        raise DemoFailed(f"GET /v1/models answered {response.status_code}: {response.text}")
    model: str = response.json()["data"][0]["id"]
    return model


def _checkpoint(user: SimulatedUser, thumbs: int) -> Checkpoint:
    state = user.measured()
    return Checkpoint(
        thumbs=thumbs,
        weights=state["weights"],
        recent_score=statistics.fmean(user.scores[-10:]),
        approval=statistics.fmean(user.votes[-10:]),
        regret=state["regret"]["measured"],
        bound=state["regret"]["bound"],
        median_delay_seconds=statistics.median(user.delays_seconds[-10:]),
    )
