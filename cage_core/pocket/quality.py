"""Quality of pocket answers: are the sentences proper ones, all different, and on the question's topic?"""

from __future__ import annotations

import re
from collections import Counter
from functools import cache

from cage_core.pocket.answers import all_sentences
from cage_core.pocket.topics import read_topics

_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")


def sentences_of(text: str) -> list[str]:
    """The sentences of an answer, in order."""
    return [sentence for sentence in _SENTENCE_END.split(text.strip()) if sentence]


@cache
def _known_sentences() -> frozenset[str]:
    return frozenset(all_sentences())


def valid_sentence_share(text: str) -> float:
    """Share of sentences that are word for word sentences of the corpus: a strict test of readability."""
    sentences = sentences_of(text)
    return sum(sentence in _known_sentences() for sentence in sentences) / max(1, len(sentences))


def repeats_itself(text: str) -> bool:
    """Whether a sentence occurs twice."""
    sentences = sentences_of(text)
    return len(set(sentences)) < len(sentences)


def is_on_topic(question: str, text: str) -> bool:
    """Whether most of the answer's topical sentences belong to a topic that the question asks about."""
    asked = {
        topic.task
        for topic in read_topics()
        if question in topic.questions + topic.held_out_questions or topic.task in question or topic.gerund in question
    }
    owners = Counter(_owners()[s] for s in sentences_of(text) if s in _owners())
    return bool(owners) and owners.most_common(1)[0][0] in asked


@cache
def _owners() -> dict[str, str]:
    """Sentence -> task of the one topic it belongs to."""
    return {s: topic.task for topic in read_topics() for s in (*topic.cores, *topic.details, *topic.cautions)}
