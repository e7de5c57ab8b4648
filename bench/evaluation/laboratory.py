"""Where cells are measured: the pocket model, its principals and scorers."""

from __future__ import annotations

import hashlib
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache
from operator import attrgetter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

from bench.evaluation.cells import Cell, Outcome, Questions, Store
from bench.evaluation.guides import is_small, small_principal
from bench.evaluation.rivals import base_policy, best_of, published_policy, soup_model, stored_reserves
from cage_core.engine.model import LanguageModel
from cage_core.evaluation.calibration import Calibration, calibrate
from cage_core.evaluation.decoder import DecodedAnswer, Decoder, Policy, Question
from cage_core.evaluation.measures import measure
from cage_core.evaluation.methods import METHODS, weight_rows
from cage_core.pocket import POCKET_DIR, SMALL_POCKET_DIR
from cage_core.pocket.corpus import Corpus
from cage_core.pocket.scorers import SCORERS
from cage_core.principals.catalogue import find_principals

MAX_TOKENS = 160
OBJECTIVES = tuple(SCORERS)
RIVALS = ("base", "soups", "best-of-n", "published")
CONTEXT_TOKENS = 224
_ROWS = 600
_PROMPTS_DRAWN, _PROMPT_SEED = 3000, 77
_CONTEXT_QUESTIONS = Questions(first=0, count=12, seed=0)
_NEXT_SAMPLE = 1_000_000
_Item = TypeVar("_Item")
_KL_NATS: Callable[[Outcome], float] = attrgetter("kl_nats")


def weights_digest() -> str:
    """Short, and another one for other weights: answers of other models are other answers."""
    digest = hashlib.sha256()
    for folder in (POCKET_DIR, SMALL_POCKET_DIR):
        for path in sorted(folder.rglob("*.safetensors")):
            digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


@cache
def prompts() -> tuple[str, ...]:
    """Every held-out question once, in an order fixed by a seed."""
    return tuple(dict.fromkeys(Corpus(_PROMPT_SEED).held_out_prompts(_PROMPTS_DRAWN)))


def asked(questions: Questions) -> list[Question]:
    """The questions with their seeds."""
    numbers = range(questions.first, questions.first + questions.count)
    return [Question(prompts()[number], questions.seed + number) for number in numbers]


@cache
def decoder_of(principals: tuple[str, ...]) -> Decoder:
    """The pocket model with these principals only: every adapter costs every row."""
    with TemporaryDirectory() as folder:
        guides = [small_principal(name, Path(folder)) for name in principals if is_small(name)]
        adapters = [p for p in find_principals(POCKET_DIR / "principals") if p.name in principals]
        model = LanguageModel(POCKET_DIR, [*adapters, *guides], longest_tokens=CONTEXT_TOKENS)
    return Decoder(model, principals, MAX_TOKENS)


class Laboratory:
    """Measures cells, and remembers them."""

    def __init__(self, store: Store, report: Callable[[Outcome], None]) -> None:
        """Args: report: told of every outcome that had to be measured."""
        self._store = store
        self._report = report
        self._seconds: dict[str, float] = {}
        self._measured: dict[Cell, list[Outcome]] = defaultdict(list)

    @property
    def seconds(self) -> float:
        """What measuring every cell asked for so far took, in this run or an earlier one."""
        return sum(self._seconds.values())

    def outcome(self, cell: Cell) -> Outcome:
        """A cell's answers, measured unless an earlier run has done so."""
        found = self._store.find(cell)
        if found is None:
            started = time.process_time()
            answers = tuple(
                measure(answer, [score(answer.text) for score in SCORERS.values()]) for answer in _answers(cell)
            )
            found = Outcome(cell, answers, time.process_time() - started)
            self._store.add(found)
            self._report(found)
        if cell.key not in self._seconds:
            self._seconds[cell.key] = found.seconds
            self._measured[replace(cell, strength=0.0)].append(found)
        return found

    def at_kl(self, cell: Cell, target_nats: float, start: float) -> tuple[Outcome, Calibration]:
        """The cell at the strength that spends the target: found on development prompts, corrected on its own."""
        count = max(4, 60 // len(cell.weights))
        development = replace(cell, questions=Questions(first=0, count=count, seed=0))
        known = self.known(development, _KL_NATS)
        rough = calibrate(self._kl_of(development), target_nats, start, tolerance=0.08, tries=5, known=known)
        exact = calibrate(self._kl_of(cell), target_nats, rough.strength, known=self.known(cell, _KL_NATS))
        return self.outcome(replace(cell, strength=exact.strength)), exact

    def known(self, cell: Cell, figure: Callable[[Outcome], float]) -> list[tuple[float, float]]:
        """Strengths of the cell that this run has asked for, with what they came to."""
        return [(outcome.cell.strength, figure(outcome)) for outcome in self._measured[replace(cell, strength=0.0)]]

    def _kl_of(self, cell: Cell) -> Callable[[float], float]:
        return lambda strength: _KL_NATS(self.outcome(replace(cell, strength=strength)))


def _answers(cell: Cell) -> Iterator[DecodedAnswer]:
    """Weights slowest."""
    questions = asked(cell.questions)
    if cell.method == "best-of-n":
        yield from _best_of_n(cell, questions)
    elif cell.method == "soups":
        for weights in cell.weights:
            yield from _soup(cell, weights, questions)
    else:
        decoder = decoder_of(cell.principals)
        pairs = [(weights, question) for weights in cell.weights for question in questions]
        reserves = _reserves(decoder, cell)
        for batch in _batches(pairs, len(cell.principals)):
            policy = _policy(cell, [weights for weights, _ in batch], reserves)
            yield from decoder.decode([question for _, question in batch], policy)


def _policy(
    cell: Cell, weights: Sequence[tuple[float, ...]], reserves: dict[tuple[float, ...], list[float]] | None
) -> Policy:
    rows = weight_rows(weights)
    if cell.method == "base":
        return base_policy
    if cell.method == "published":
        return published_policy(rows, cell.strength)
    given = None if reserves is None else weight_rows([reserves[each] for each in weights])
    return METHODS[cell.method].policy(rows, cell.strength, given)


def _reserves(decoder: Decoder, cell: Cell) -> dict[tuple[float, ...], list[float]] | None:
    if cell.method != "committed":
        return None
    rows = stored_reserves(decoder, asked(_CONTEXT_QUESTIONS), cell.weights, cell.strength)
    return dict(zip(cell.weights, rows, strict=True))


def _soup(cell: Cell, weights: tuple[float, ...], questions: list[Question]) -> Iterator[DecodedAnswer]:
    factors = [cell.strength * weight for weight in weights]
    decoder = Decoder(soup_model(POCKET_DIR, cell.principals, factors, CONTEXT_TOKENS), ["soup"], MAX_TOKENS)
    for batch in _batches(questions, 1):
        yield from decoder.decode(batch, METHODS["linear"].policy(weight_rows([[1.0]] * len(batch)), 1.0))


def _best_of_n(cell: Cell, questions: list[Question]) -> Iterator[DecodedAnswer]:
    """As many samples of the plain model as the blending methods need rows; all weights choose among the same."""
    decoder = decoder_of(cell.principals)
    count = 1 + len(cell.principals)
    repeated = [replace(q, seed=q.seed + _NEXT_SAMPLE * n) for q in questions for n in range(count)]
    samples = [
        answer for batch in _batches(repeated, len(cell.principals)) for answer in decoder.decode(batch, base_policy)
    ]
    for weights in cell.weights:
        for first in range(0, len(samples), count):
            yield best_of(samples[first : first + count], weights)


def _batches(items: Sequence[_Item], num_principals: int) -> Iterator[list[_Item]]:
    size = _ROWS // (1 + num_principals)
    for first in range(0, len(items), size):
        yield list(items[first : first + size])
