"""Cells of the experiment, one method at one strength on a grid of weights and prompts, and where they are kept."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, astuple, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cage_core.evaluation.measures import Measured

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Questions:
    """Held-out prompts number first.. of the experiment's list, prompt number i answered with seed `seed` + i."""

    first: int
    count: int
    seed: int


@dataclass(frozen=True)
class Cell:
    """What fixes the answers: equal cells have equal answers.

    Attributes:
        method: a key of `cage_core.evaluation.methods.METHODS`, or a rival's name.
        weights: every one is used with every prompt.
        strength: factor on the payoffs; for rivals whatever steers them.
    """

    method: str
    principals: tuple[str, ...]
    weights: tuple[tuple[float, ...], ...]
    questions: Questions
    strength: float

    @property
    def key(self) -> str:
        """Short and unique."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:24]


@dataclass(frozen=True)
class Outcome:
    """Answers of a cell.

    Attributes:
        answers: weights by prompts, weights slowest.
        seconds: processor time that decoding took: what a quiet core would need.
    """

    cell: Cell
    answers: tuple[Measured, ...]
    seconds: float

    def grid(self, attribute: str) -> Floats:
        """[weights, prompts] or [weights, prompts, values] of one measure."""
        values = np.array([getattr(answer, attribute) for answer in self.answers], dtype=np.float64)
        return values.reshape(len(self.cell.weights), self.cell.questions.count, *values.shape[1:])

    @property
    def kl_nats(self) -> float:
        """Mean over answers of the mean KL per token."""
        return float(self.grid("kl_nats").mean())


class Store:
    """Outcomes in files of JSON lines, so that a run that was interrupted goes on where it was."""

    def __init__(self, folder: Path, name: str) -> None:
        """Reads every file of the folder, and adds to the one with this name."""
        self._folder = folder
        self._path = folder / f"{name}.jsonl"
        self._found: dict[str, tuple[tuple[Measured, ...], float]] = {}
        for line in self._lines():
            self._found[line["key"]] = (tuple(_measured(row) for row in line["answers"]), line["seconds"])

    def _lines(self) -> Iterator[dict[str, Any]]:
        for path in sorted(self._folder.glob("*.jsonl")):
            for line in path.read_text().split("\n"):
                try:
                    yield json.loads(line)
                except ValueError:  # an empty line, or one cut off when the run was ended
                    continue

    def find(self, cell: Cell) -> Outcome | None:
        """What an earlier run measured."""
        if cell.key not in self._found:
            return None
        return Outcome(cell, *self._found[cell.key])

    def add(self, outcome: Outcome) -> None:
        """Keep an outcome."""
        self._folder.mkdir(parents=True, exist_ok=True)
        line = {
            "key": outcome.cell.key,
            "cell": asdict(outcome.cell),
            "seconds": round(outcome.seconds, 2),
            "answers": [astuple(answer) for answer in outcome.answers],
        }
        with self._path.open("a") as file:
            file.write("\n" + json.dumps(line))
        self._found[outcome.cell.key] = (outcome.answers, outcome.seconds)


def _measured(row: list[Any]) -> Measured:
    scores, advantages, *others = row
    return Measured(tuple(scores), tuple(advantages), *others)
