"""The report's pictures, from its results."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib import pyplot

from bench.evaluation.design import BUDGETS_NATS, HEAT_STRENGTHS

matplotlib.use("Agg")

_TEMPERATURES = (0.0625, 0.125, 0.25, 0.5, 1.0)
_SHOWN = {
    "linear": ("linear blending", "#1b6ca8"),
    "equilibrium": ("equilibrium, token by token", "#d1495b"),
    "balanced": ("balanced game over the answer", "#2a9d54"),
    "budgeted": ("budgeted game over the answer", "#7ab55c"),
    "maxmin": ("max–min mixture", "#8d6cab"),
    "soups": ("rewarded soups", "#e09f3e"),
}


def write_figures(results: Mapping[str, Any], out: Path) -> None:
    """Write fronts.png, utility.png, worst.png and strengths.png."""
    _fronts(results["pairs"], out / "fronts.png")
    _against_kl([(_names(f), f["rows"], "utility") for f in results["pairs"]], out / "utility.png")
    _against_kl([("four objectives", results["worst"]["rows"], "worst")], out / "worst.png")
    _heat(results["strengths"], out / "strengths.png")


def _names(front: Mapping[str, Any]) -> str:
    return "–".join(front["principals"])


def _rows(rows: Iterable[Mapping[str, Any]], method: str) -> list[Mapping[str, Any]]:
    return [row for row in rows if row["method"] == method and row["budget_nats"] in BUDGETS_NATS]


def _fronts(pairs: Sequence[Mapping[str, Any]], path: Path) -> None:
    """One panel a pair and budget: mean scores over the weights, every method at the same KL."""
    shape = (len(pairs), len(BUDGETS_NATS))
    figure, panels = pyplot.subplots(*shape, figsize=(4 * shape[1], 3.6 * shape[0]), squeeze=False)
    for front, line in zip(pairs, panels, strict=True):
        for budget, panel in zip(BUDGETS_NATS, line, strict=True):
            for method, (label, colour) in _SHOWN.items():
                for row in _rows(front["rows"], method):
                    if row["budget_nats"] == budget:
                        points = np.array(row["front"])
                        panel.plot(points[:, 0], points[:, 1], "o-", color=colour, label=label, markersize=3, lw=1)
            panel.set(title=f"KL {budget} nats a token", xlabel=front["principals"][0], ylabel=front["principals"][1])
    panels[0][0].legend(fontsize=7)
    _save(figure, path)


def _against_kl(panels_of: Sequence[tuple[str, Sequence[Mapping[str, Any]], str]], path: Path) -> None:
    """A measure with its intervals against KL."""
    figure, panels = pyplot.subplots(1, len(panels_of), figsize=(4.6 * len(panels_of), 3.6), squeeze=False)
    for (title, rows, measure), panel in zip(panels_of, panels[0], strict=True):
        for method, (label, colour) in _SHOWN.items():
            found = _rows(rows, method)
            values = np.array([[row[measure][end] for end in ("value", "low", "high")] for row in found])
            if len(found):
                reach = [values[:, 0] - values[:, 1], values[:, 2] - values[:, 0]]
                kl = [row["kl_nats"] for row in found]
                panel.errorbar(kl, values[:, 0], reach, fmt="o-", color=colour, label=label, capsize=2, lw=1, ms=3)
        panel.set(title=title, xlabel="KL to the plain model, nats a token", ylabel=measure, xscale="log")
    panels[0][0].legend(fontsize=7)
    _save(figure, path)


def _heat(strengths: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Worst objective and KL of the equilibrium over temperature and strength: constant along the diagonals."""
    measured = {row["strength"] / 0.5: row for row in strengths}
    figure, panels = pyplot.subplots(1, 2, figsize=(10, 3.6))
    for measure, title, panel in zip(
        ("worst", "kl_nats"), ("worst objective", "KL, nats a token"), panels, strict=True
    ):
        cells = [
            [measured.get(strength / temperature, {}).get(measure, np.nan) for strength in HEAT_STRENGTHS]
            for temperature in _TEMPERATURES
        ]
        image = panel.imshow(np.array(cells), aspect="auto", origin="lower", cmap="viridis")
        panel.set_xticks(range(len(HEAT_STRENGTHS)), [f"{s:g}" for s in HEAT_STRENGTHS])
        panel.set_yticks(range(len(_TEMPERATURES)), [f"{t:g}" for t in _TEMPERATURES])
        panel.set(title=title, xlabel="strength", ylabel="temperature τ")
        figure.colorbar(image, ax=panel)
    _save(figure, path)


def _save(figure: Any, path: Path) -> None:
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
