"""Does the equilibrium help? ``python -m bench.evaluation`` measures, and writes ``docs/evaluation/``.

Half an hour on one CPU core; ``--full`` asks more prompts of all pairs of objectives and takes a day. Answers are kept
under ``--cells`` as they come, by the weights that made them, so that a run which was interrupted goes on, and the
report can be made again.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch
from rich.console import Console

from bench.evaluation.cells import Outcome, Store
from bench.evaluation.design import DEFAULT, FULL
from bench.evaluation.figures import write_figures
from bench.evaluation.laboratory import Laboratory, weights_digest
from bench.evaluation.parts import PARTS
from bench.evaluation.report import write_report
from bench.machine import machine

_DOCS = Path(__file__).parents[2] / "docs" / "evaluation"


def main() -> None:
    """Measure every part, then write results, figures and the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true", help="more prompts, all pairs of objectives")
    parser.add_argument("--only", choices=PARTS, help="measure one part and write nothing else")
    parser.add_argument("--cells", type=Path, default=Path(".cage/evaluation"), help="where answers are kept")
    parser.add_argument("--out", type=Path, default=_DOCS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    console = Console()
    started = time.perf_counter()

    def report(outcome: Outcome) -> None:
        cell = outcome.cell
        console.print(
            f"{time.perf_counter() - started:6.0f} s  {cell.method:<12} {'+'.join(cell.principals):<30} "
            f"strength {cell.strength:6.2f}  KL {abs(outcome.kl_nats):.4f}  {len(outcome.answers)} answers",
            highlight=False,
            soft_wrap=True,
        )

    lab = Laboratory(Store(arguments.cells / weights_digest(), arguments.only or "all"), report)
    names = [arguments.only] if arguments.only else list(PARTS)
    results = {name: PARTS[name](lab, FULL if arguments.full else DEFAULT) for name in names}
    if arguments.only:
        return
    results["run"] = {
        "command": "python -m bench.evaluation" + (" --full" if arguments.full else ""),
        "machine": machine(),
        "seconds_of_decoding": round(lab.seconds),
    }
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    write_figures(results, arguments.out)
    write_report(results, arguments.out / "report.md")


if __name__ == "__main__":
    main()
