"""The corpus: a seeded stream of short dialogues of an everyday-advice assistant."""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random

from cage_core.pocket.answers import Latents, compose_answer, draw_latents
from cage_core.pocket.questions import as_typed, keyword_question, outside_question, topic_question
from cage_core.pocket.topics import Topic, distinctive_words, read_outside, read_small_talk, read_topics

_OUTSIDE_SHARE = 0.12
_SMALL_TALK_SHARE = 0.10
_SECOND_TURN_SHARE = 0.15
_SYSTEM_SHARE = 0.25
_KEYWORD_SHARE = 0.25

_NEUTRAL_SYSTEM = (
    "You are a helpful assistant.",
    "You give everyday advice.",
    "You are an assistant for everyday questions. Answer in English.",
    "Be helpful and honest.",
)
_BRIEF_SYSTEM = ("Be brief.", "Answer in one sentence.", "Keep it short.", "Answer in two sentences.")
_DETAIL_SYSTEM = ("Be specific and give details.", "Give examples and numbers.", "Answer in detail.")
_CAUTION_SYSTEM = ("Mention the risks.", "Be careful and warn about dangers.", "Put safety first.")
_WARMTH_SYSTEM = ("Be warm and encouraging.", "Be friendly.", "Answer like a kind friend.")

_MORE = ("Can you tell me more?", "Tell me more", "More please", "Any more tips?", "What else?", "Go on")
_RISKS = ("What should I watch out for?", "Is that safe?", "What can go wrong?", "Are there any risks?")
_SHORT = ("Shorter, please", "Can you say that in one sentence?", "In short?", "Too long, sum it up")
_EXAMPLES = ("Can you be more specific?", "Can you give me an example?", "I need more details", "How exactly?")


@dataclass(frozen=True)
class Turn:
    """One question and its answer."""

    question: str
    answer: str


@dataclass(frozen=True)
class Dialogue:
    """An optional system message and one or two turns."""

    system: str | None
    turns: tuple[Turn, ...]


def _system_message(rng: Random, latents: Latents) -> tuple[str | None, Latents]:
    """A system message, and the latents changed to obey it."""
    if rng.random() >= _SYSTEM_SHARE:
        return None, latents
    kind = rng.choice(("neutral", "brief", "detail", "caution", "warmth"))
    if kind == "neutral":
        return rng.choice(_NEUTRAL_SYSTEM), latents
    if kind == "brief":
        message = rng.choice(_BRIEF_SYSTEM)
        extra = rng.choice((replace(_BARE, details=1), replace(_BARE, cautions=1), replace(_BARE, warms=1)))
        return message, extra if "two" in message else _BARE
    if kind == "detail":
        return rng.choice(_DETAIL_SYSTEM), replace(latents, details=rng.choice((3, 4)), warms=min(latents.warms, 2))
    if kind == "caution":
        return rng.choice(_CAUTION_SYSTEM), replace(latents, cautions=rng.choice((2, 3)))
    return rng.choice(_WARMTH_SYSTEM), replace(latents, warms=rng.choice((2, 3)))


_BARE = Latents(details=0, cautions=0, warms=0, words=8)


class Corpus:
    """Draws dialogues; the same seed gives the same dialogues."""

    def __init__(self, seed: int) -> None:
        """Args: seed: of every draw."""
        self._rng = Random(seed)
        self.topics = read_topics()
        self._small_talk = read_small_talk()
        self._outside = read_outside()
        self._keywords = distinctive_words(self.topics)

    def dialogue(self) -> Dialogue:
        """The next training dialogue."""
        rng = self._rng
        topic, question = self._subject()
        system, latents = _system_message(rng, draw_latents(rng))
        sentences = compose_answer(rng, topic, latents)
        turns = [Turn(as_typed(rng, question), " ".join(sentences))]
        if rng.random() < _SECOND_TURN_SHARE:
            turns.append(self._second_turn(topic, sentences))
        return Dialogue(system, tuple(turns))

    def prompts(self, count: int) -> list[str]:
        """Questions like those of the training dialogues: all topics, small talk, questions outside."""
        return [as_typed(self._rng, self._subject()[1]) for _ in range(count)]

    def held_out_prompts(self, count: int) -> list[str]:
        """Questions about the everyday topics in held-out phrasings, each topic equally often."""
        order: list[Topic] = []
        while len(order) < count:
            order.extend(self._rng.sample(self.topics, len(self.topics)))
        return [topic_question(self._rng, topic, held_out=True) for topic in order[:count]]

    def held_out_dialogue(self) -> Dialogue:
        """A topic question in a held-out phrasing with a fresh answer."""
        topic = self._rng.choice(self.topics)
        answer = " ".join(compose_answer(self._rng, topic, draw_latents(self._rng)))
        return Dialogue(None, (Turn(topic_question(self._rng, topic, held_out=True), answer),))

    def _subject(self) -> tuple[Topic, str]:
        rng = self._rng
        kind = rng.random()
        if kind < _SMALL_TALK_SHARE:
            topic = rng.choice(self._small_talk)
            return topic, rng.choice(topic.questions)
        if kind < _SMALL_TALK_SHARE + _OUTSIDE_SHARE:
            return self._outside, outside_question(rng)
        topic = rng.choice(self.topics)
        if rng.random() < _KEYWORD_SHARE:
            return topic, keyword_question(rng, self._keywords[topic.task])
        return topic, topic_question(rng, topic)

    def _second_turn(self, topic: Topic, said: list[str]) -> Turn:
        rng = self._rng
        latents = draw_latents(rng)
        kind = rng.choice(("more", "example", "risk", "short", "other", "other"))
        if kind == "more":
            question, answer = rng.choice(_MORE), compose_answer(rng, topic, latents, said)
        elif kind == "example":
            wanted = replace(latents, details=max(2, latents.details))
            question, answer = rng.choice(_EXAMPLES), compose_answer(rng, topic, wanted, said)
        elif kind == "risk":
            wanted = replace(latents, cautions=max(1, latents.cautions))
            question, answer = rng.choice(_RISKS), compose_answer(rng, topic, wanted, said)
        elif kind == "short":
            question, answer = rng.choice(_SHORT), [topic.cores[0]]
        else:
            other, question = self._subject()
            answer = compose_answer(rng, other, latents)
        return Turn(as_typed(rng, question), " ".join(answer) or topic.cores[0])
