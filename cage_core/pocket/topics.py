"""Topics of the corpus: what people ask, and sentences to answer with, read from text files beside this module.

Line format::

    @ category              . sentence     shared plain sentences of the category follow
    # task | gerund         a topic begins: "cook rice | cooking rice"
    ? question              ?? question held out for evaluation
    = core advice           first a short one, then longer ones
    + detail                ! caution      . plain sentence      * warm sentence of this topic only
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_HERE = Path(__file__).parent
_WORD = re.compile(r"[a-z]{3,}")
_MOST_SHARED = 2


@dataclass(frozen=True)
class Topic:
    """One topic and its sentences, in the order in which an answer uses them."""

    task: str
    gerund: str
    questions: tuple[str, ...]
    held_out_questions: tuple[str, ...]
    cores: tuple[str, ...]
    details: tuple[str, ...]
    cautions: tuple[str, ...]
    plains: tuple[str, ...]
    warms: tuple[str, ...]


def _parse_block(block: str, shared_plains: tuple[str, ...]) -> Topic:
    header, *lines = block.strip().splitlines()
    task, gerund = (part.strip() for part in header.removeprefix("# ").split("|"))
    found: dict[str, list[str]] = {mark: [] for mark in ("?", "??", "=", "+", "!", ".", "*")}
    for line in filter(None, lines):
        mark, _, sentence = line.partition(" ")
        found[mark].append(sentence.strip())
    return Topic(
        task=task,
        gerund=gerund,
        questions=tuple(found["?"]),
        held_out_questions=tuple(found["??"]),
        cores=tuple(found["="]),
        details=tuple(found["+"]),
        cautions=tuple(found["!"]),
        plains=tuple(found["."]) + shared_plains,
        warms=tuple(found["*"]),
    )


def _parse_file(path: Path) -> list[Topic]:
    head, *blocks = ("\n" + path.read_text(encoding="utf-8")).split("\n# ")
    shared = tuple(line.removeprefix(". ") for line in head.splitlines() if line.startswith(". "))
    return [_parse_block(block, shared) for block in blocks]


def read_topics() -> tuple[Topic, ...]:
    """Everyday topics, ordered by file name and position."""
    files = sorted((_HERE / "topics").glob("*.txt"))
    return tuple(topic for file in files for topic in _parse_file(file))


def read_small_talk() -> tuple[Topic, ...]:
    """Greetings, thanks, questions about the assistant itself, and the like."""
    return tuple(_parse_file(_HERE / "talk" / "smalltalk.txt"))


def read_outside() -> Topic:
    """The polite answer to whatever is outside all topics; its questions come from `questions`."""
    (topic,) = _parse_file(_HERE / "talk" / "outside.txt")
    return topic


def distinctive_words(topics: Sequence[Topic]) -> dict[str, tuple[str, ...]]:
    """Task -> words of its task and questions that at most one other topic's use; held-out questions do not count."""
    words_of = {topic.task: set(_WORD.findall(" ".join((topic.task, *topic.questions)).lower())) for topic in topics}
    uses = Counter(word for words in words_of.values() for word in words)
    return {
        task: tuple(sorted(word for word in words if uses[word] <= _MOST_SHARED)) for task, words in words_of.items()
    }
