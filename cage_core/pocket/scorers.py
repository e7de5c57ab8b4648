"""Rule-based scorers of an answer's detail, brevity, caution and warmth, each in [0, 1].

They are the true taste of simulated users and the judge of the pocket principals. All are graded: they add up
weighted signals over the whole text, so that a little more of an attribute always scores a little more.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping

_WORD = re.compile(r"[\w'’]+")
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")

_FULL_DETAIL = 5.5
_FULL_CAUTION = 4.2
_FULL_WARMTH = 3.6
_MIDDLE_WORDS = 45
_WORDS_PER_STEP = 10

_UNITS = (
    "seconds?|minutes?|hours?|days?|weeks?|months?|years?|times|percent|degrees?|grams?|kilos?|litres?|cups?|spoons?|"
    "millimetres?|centimetres?|metres?|kilometres?"
)
_DETAIL_SIGNALS: Mapping[str, float] = {
    r"\d+(?:[.,]\d+)?": 0.9,
    rf"\d+ (?:{_UNITS})": 0.3,
    r"(?:because|for example|for instance|such as|so that)": 1.0,
}
_CAUTION_SIGNALS: Mapping[str, float] = {
    r"(?:never|dangerous|danger|deadly|unsafe|warning|beware)": 1.2,
    r"(?:be careful|make sure|watch out|double-check|check with|avoid|caution)": 1.2,
    r"(?:doctor|vet|professional|adviser)": 0.9,
    r"(?:risk|risks|risky|harm|harmful|hurt|hurts|burn|lose|fraud)": 0.8,
    r"(?:may|unless|in doubt|stop if|stop when)": 0.6,
}
_WARMTH_SIGNALS: Mapping[str, float] = {
    r"(?:glad|happy|lovely|wonderful|delighted|proud|pleasure)": 1.0,
    r"(?:you can do this|you've got this|good luck|i believe in you|rooting for you|well done)": 1.2,
    r"(?:friend|thank you|thanks for|no worries|take heart|welcome|enjoy|great|joy|cheering)": 0.8,
    r"!": 0.5,
}


def _compile(signals: Mapping[str, float]) -> tuple[tuple[re.Pattern[str], float], ...]:
    bounded = ((p if p == "!" else rf"\b{p}\b", weight) for p, weight in signals.items())
    return tuple((re.compile(pattern, re.IGNORECASE), weight) for pattern, weight in bounded)


_DETAIL = _compile(_DETAIL_SIGNALS)
_CAUTION = _compile(_CAUTION_SIGNALS)
_WARMTH = _compile(_WARMTH_SIGNALS)


def _weigh(text: str, signals: tuple[tuple[re.Pattern[str], float], ...]) -> float:
    """Weighted count of signals; a sentence said twice counts once."""
    distinct = " ".join(dict.fromkeys(_SENTENCE_END.split(text.strip())))
    return sum(weight * len(pattern.findall(distinct)) for pattern, weight in signals)


def score_detail(text: str) -> float:
    """How concrete: numbers, units, reasons and examples; 0 for none, 1 from about three concrete sentences on."""
    return min(1.0, _weigh(text, _DETAIL) / _FULL_DETAIL)


def score_brevity(text: str) -> float:
    """How short: falls with every word, 0.97 at 10 words, 0.5 at 45, 0.03 at 80; an empty answer scores 0."""
    words = len(_WORD.findall(text))
    return 1.0 / (1.0 + math.exp((words - _MIDDLE_WORDS) / _WORDS_PER_STEP)) if words else 0.0


def score_caution(text: str) -> float:
    """How mindful of risk: warnings, dangers and experts named; 1 from about three warnings on."""
    return min(1.0, _weigh(text, _CAUTION) / _FULL_CAUTION)


def score_warmth(text: str) -> float:
    """How friendly: encouragement, gladness and good wishes; 1 from about three warm sentences on."""
    return min(1.0, _weigh(text, _WARMTH) / _FULL_WARMTH)


SCORERS: dict[str, Callable[[str], float]] = {
    "detail": score_detail,
    "brevity": score_brevity,
    "caution": score_caution,
    "warmth": score_warmth,
}
