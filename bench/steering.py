"""What strength does in each mode, through the real engine: `python -m bench.steering`.

Every principal alone at several strengths: gain of its own score over the plain model, KL to the plain model,
readability. Held-out prompts, the same seeds everywhere. Writes `bench/results/steering.json` and `.md`.
"""

from __future__ import annotations

import argparse
import json
import queue
import statistics
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from rich.progress import track

from bench.machine import machine
from cage_core.engine import (
    Answer,
    DecodeRequest,
    Engine,
    EngineLimits,
    Event,
    Failed,
    Finished,
    LanguageModel,
    Sampling,
    Steering,
)
from cage_core.pocket import POCKET_DIR
from cage_core.pocket.corpus import Corpus
from cage_core.pocket.quality import repeats_itself, valid_sentence_share
from cage_core.pocket.scorers import SCORERS
from cage_core.principals.catalogue import find_principals

_RESULTS = Path(__file__).parent / "results"
_SEED = 1000
_MAX_TOKENS = 120
_STRENGTHS = (0.5, 1.0, 2.0, 3.0, 5.0)


@dataclass(frozen=True)
class Row:
    """One principal alone at one strength; means over prompts, gains with their standard errors."""

    mode: str
    strength: float
    principal: str
    gain: float
    gain_standard_error: float
    kl_nats_per_token: float
    tokens: float
    ended_share: float
    valid_sentence_share: float
    repeating_share: float


def decode_all(engine: Engine, questions: list[str], steering: Steering) -> list[Answer]:
    """One answer a question, all in flight at once; the question's index is its seed."""
    events: list[queue.Queue[Event]] = [queue.Queue() for _ in questions]
    for seed, question in enumerate(questions):
        rows = engine.model.plan_rows([{"role": "user", "content": question}], steering.weights)
        engine.submit(DecodeRequest(rows, steering, Sampling(_MAX_TOKENS, seed)), events[seed].put)
    return [_answer(arrived) for arrived in events]


def _answer(arrived: queue.Queue[Event]) -> Answer:
    while True:
        event = arrived.get()
        if isinstance(event, Failed):
            raise event.error
        if isinstance(event, Finished):
            return event.answer


def measure(engine: Engine, questions: list[str], settings: list[tuple[str, float]]) -> Iterator[Row]:
    """Every principal alone at every (mode, strength)."""
    names = list(engine.model.principals)
    plain = decode_all(engine, questions, Steering(dict.fromkeys(names, 1.0), 0.0, "base"))
    for mode, strength in track(settings, description="modes and strengths"):
        for principal in names:
            weights: Mapping[str, float] = {name: float(name == principal) for name in names}
            answers = decode_all(engine, questions, Steering(weights, strength, mode))
            yield _row(mode, strength, principal, plain, answers)


def _row(mode: str, strength: float, principal: str, plain: list[Answer], answers: list[Answer]) -> Row:
    score = SCORERS[principal]
    gains = [score(a.text) - score(b.text) for a, b in zip(answers, plain, strict=True)]
    return Row(
        mode,
        strength,
        principal,
        gain=statistics.mean(gains),
        gain_standard_error=statistics.stdev(gains) / len(gains) ** 0.5,
        kl_nats_per_token=statistics.mean(a.mean_kl_nats for a in answers),
        tokens=statistics.mean(a.completion_tokens for a in answers),
        ended_share=statistics.mean(a.finish_reason == "stop" for a in answers),
        valid_sentence_share=statistics.mean(valid_sentence_share(a.text) for a in answers),
        repeating_share=statistics.mean(repeats_itself(a.text) for a in answers),
    )


def table(rows: list[Row]) -> str:
    """The figures as Markdown."""
    lines = [
        "| mode | strength | principal | gain ± s.e. | KL nats/token | tokens | ended | valid | repeating |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {r.mode} | {r.strength:g} | {r.principal} | {r.gain:+.2f} ± {r.gain_standard_error:.2f} "
        f"| {r.kl_nats_per_token:.3f} | {r.tokens:.0f} | {r.ended_share:.0%} | {r.valid_sentence_share:.0%} "
        f"| {r.repeating_share:.0%} |"
        for r in rows
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, print and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prompts", type=int, default=100)
    parser.add_argument("--strengths", type=float, nargs="+", default=_STRENGTHS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    started = time.monotonic()
    model = LanguageModel(POCKET_DIR, find_principals(POCKET_DIR / "principals"))
    questions = Corpus(_SEED).held_out_prompts(arguments.prompts)
    engine = Engine(model, EngineLimits(num_rows=80, num_waiting=len(questions)))
    engine.start()
    settings = [(mode, strength) for mode in ("linear", "equilibrium") for strength in arguments.strengths]
    rows = list(measure(engine, questions, settings))
    engine.stop()
    report = {
        "command": f"python -m bench.steering --prompts {arguments.prompts}",
        "machine": machine(),
        "seconds": round(time.monotonic() - started, 1),
        "rows": [asdict(row) for row in rows],
    }
    _RESULTS.mkdir(exist_ok=True)
    (_RESULTS / "steering.json").write_text(json.dumps(report, indent=2) + "\n")
    (_RESULTS / "steering.md").write_text(f"{report['command']}, {report['machine']}\n\n" + table(rows))
    print(table(rows))


if __name__ == "__main__":
    main()
