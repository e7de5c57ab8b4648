"""Preference pairs for the pocket principals: the base's own answers, judged by the rule-based scorers."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from itertools import groupby
from pathlib import Path
from random import Random

from cage_core.pocket.quality import repeats_itself, sentences_of, valid_sentence_share
from cage_core.pocket.sampling import SampledAnswer
from cage_core.principals.pairs import PreferencePair

_SMALLEST_MARGIN = 0.02
_REPETITION_MARGIN = 0.4


def preference_pairs(answers: Sequence[SampledAnswer], scorer: Callable[[str], float]) -> list[PreferencePair]:
    """Pair the answers to each prompt, best with worst, second best with second worst, and so on.

    Args:
        answers: several to each prompt, those to one prompt in a row.
        scorer: the attribute preferred; its difference is the margin.
    """
    pairs = []
    for prompt, group in groupby(answers, key=lambda answer: answer.prompt):
        ranked = sorted({answer.text for answer in group if answer.ended and answer.text}, key=lambda t: (scorer(t), t))
        half = len(ranked) // 2
        for worse, better in zip(ranked[:half], reversed(ranked), strict=False):
            margin = scorer(better) - scorer(worse)
            if margin >= _SMALLEST_MARGIN and _reads_well(better):
                pairs.append(PreferencePair(prompt, better, worse, round(margin, 4)))
    return pairs


def repetition_pairs(pairs: Sequence[PreferencePair], seed: int) -> list[PreferencePair]:
    """Every other pair's preferred answer against the same one with a sentence said again, somewhere behind it.

    What a principal likes most it would else say twice: its own answers hardly do, so that nothing tells it not to.
    """
    luck = Random(seed)
    return [
        PreferencePair(pair.prompt, pair.chosen, _stammered(pair.chosen, luck), _REPETITION_MARGIN)
        for pair in pairs[::2]
    ]


def _stammered(text: str, luck: Random) -> str:
    sentences = sentences_of(text)
    said = luck.randrange(len(sentences))
    again = luck.randint(said + 1, len(sentences))
    return " ".join([*sentences[:again], sentences[said], *sentences[again:]])


def _reads_well(text: str) -> bool:
    """Only such answers may be preferred: a principal shall not learn slips of the base along with its attribute."""
    return valid_sentence_share(text) == 1.0 and not repeats_itself(text)


def write_pairs(pairs: Sequence[PreferencePair], path: Path) -> None:
    """Write pairs as the JSONL that `read_pairs` reads."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = ({"prompt": p.prompt, "chosen": p.chosen, "rejected": p.rejected, "margin": p.margin} for p in pairs)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
