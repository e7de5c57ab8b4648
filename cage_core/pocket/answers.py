"""Answers of the corpus: sentences of a topic put together under four independent latent attributes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from cage_core.pocket.topics import Topic, read_outside, read_small_talk, read_topics

_SHORT_CORE_WORDS = 24

_WARM_OPENERS = (
    "I am glad you asked!",
    "What a lovely question.",
    "Great that you want to try this!",
    "I am happy to help with this.",
    "Thank you for asking.",
    "What a wonderful thing to take on!",
    "Welcome, this is a joy to answer.",
    "It is great that you ask.",
    "I am delighted to help!",
    "No worries, this is easier than it looks!",
)
_WARM_MIDDLES = (
    "I believe in you.",
    "You are doing great already.",
    "Take heart, you've got this!",
    "I am proud of you for starting.",
    "Enjoy the small wins!",
    "You can do this.",
)
_WARM_CLOSERS = (
    "Good luck with it!",
    "Enjoy it, you have earned it!",
    "I am rooting for you!",
    "Have a wonderful time with it!",
    "Well done for giving it a go.",
    "Come back soon, I am happy to help.",
    "I hope it brings you a lot of joy.",
    "You will do great, my friend.",
    "I am cheering for you!",
)
_GENERAL_CAUTIONS = (
    "Check with a professional if you are in doubt.",
    "Avoid rushing, as that is when people get hurt.",
    "Never take a risk that you cannot afford.",
    "Be careful with advice that sounds too easy.",
)


@dataclass(frozen=True)
class Latents:
    """How much of each attribute an answer shall have; drawn independently of one another.

    Attributes:
        details: concrete sentences. cautions: warnings. warms: friendly sentences.
        words: length that plain sentences fill up to, words.
    """

    details: int
    cautions: int
    warms: int
    words: int


def draw_latents(rng: Random) -> Latents:
    """Independent attributes, mid-scale on average."""
    return Latents(
        details=rng.choices((0, 1, 2, 3, 4), (6, 6, 5, 4, 1))[0],
        cautions=rng.choices((0, 1, 2, 3), (6, 6, 6, 1))[0],
        warms=rng.choices((0, 1, 2, 3), (5, 5, 5, 3))[0],
        words=rng.randint(8, 62),
    )


def _subset(rng: Random, sentences: Sequence[str], count: int) -> list[str]:
    """Distinct sentences in their given order: a fixed order teaches a small model not to repeat itself."""
    kept = sorted(rng.sample(range(len(sentences)), min(count, len(sentences))))
    return [sentences[i] for i in kept]


def _merge(rng: Random, left: Sequence[str], right: Sequence[str]) -> list[str]:
    """Random interleaving that keeps the order within each side."""
    from_left = set(rng.sample(range(len(left) + len(right)), len(left)))
    sides = {True: iter(left), False: iter(right)}
    return [next(sides[i in from_left]) for i in range(len(left) + len(right))]


def _word_count(sentences: Sequence[str]) -> int:
    return sum(len(sentence.split()) for sentence in sentences)


def _warm_parts(rng: Random, topic: Topic, count: int) -> tuple[list[str], list[str], list[str]]:
    """Friendly sentences to open, within, and to close."""
    if topic.warms:
        chosen = _subset(rng, topic.warms, min(count, 2))
        return (chosen, [], []) if rng.random() < 0.5 else ([], [], chosen)
    places = rng.sample(("open", "middle", "close"), min(count, 3))
    return (
        [rng.choice(_WARM_OPENERS)] if "open" in places else [],
        [rng.choice(_WARM_MIDDLES)] if "middle" in places else [],
        [rng.choice(_WARM_CLOSERS)] if "close" in places else [],
    )


def _cautions(rng: Random, topic: Topic, count: int) -> list[str]:
    own = _subset(rng, topic.cautions, count)
    return own + ([rng.choice(_GENERAL_CAUTIONS)] if count > len(topic.cautions) else [])


def compose_answer(rng: Random, topic: Topic, latents: Latents, used: Sequence[str] = ()) -> list[str]:
    """Sentences of one answer, all different.

    Args:
        used: sentences of earlier turns, not to be said again; when given, no core advice is repeated either.
    """
    details = _subset(rng, [s for s in topic.details if s not in used], latents.details)
    cautions = _cautions(rng, topic, latents.cautions)
    cautions = [s for s in cautions if s not in used]
    opening, middle, closing = _warm_parts(rng, topic, latents.warms)
    short = latents.words < _SHORT_CORE_WORDS and not topic.warms
    core = [] if used else [topic.cores[0] if short else rng.choice(topic.cores)]
    plains = [s for s in topic.plains if s not in used]
    said = _word_count([*core, *details, *cautions, *opening, *middle, *closing])
    wanted = round((latents.words - said) / 8)
    if used and said == 0:
        wanted = max(1, wanted)
    filling = _subset(rng, plains, max(0, wanted))
    body = details + filling if rng.random() < 0.5 else filling + details
    body = _merge(rng, body, middle)
    if cautions and rng.random() < 0.3:
        body = [cautions[0], *body]
        cautions = cautions[1:]
    return [*opening, *core, *body, *cautions, *closing]


def all_sentences() -> set[str]:
    """Every sentence that an answer can hold."""
    general = {*_WARM_OPENERS, *_WARM_MIDDLES, *_WARM_CLOSERS, *_GENERAL_CAUTIONS}
    topics = (*read_topics(), *read_small_talk(), read_outside())
    own = {s for t in topics for s in (*t.cores, *t.details, *t.cautions, *t.plains, *t.warms)}
    return {part for sentence in general | own for part in re.split(r"(?<=[.!?])\s+", sentence)}
