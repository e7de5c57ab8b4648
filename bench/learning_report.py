"""Table, plot and JSON of `bench.learning`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

AIMS = {10: 0.30, 30: 0.60, 100: 0.85}


def write_report(result: dict[str, Any], directory: Path) -> str:
    """Write learning.json, learning.md and learning.png; returns the table."""
    (directory / "learning.json").write_text(json.dumps(result, indent=2, default=float) + "\n")
    table = _table(result)
    (directory / "learning.md").write_text(table)
    _plot(result, directory / "learning.png")
    return table


def _table(result: dict[str, Any]) -> str:
    machine, settings, utility = result["machine"], result["settings"], result["utility"]
    aims = ", ".join(f"{share:.0%} after {thumbs}" for thumbs, share in AIMS.items())
    lines = [
        "# Learning from thumbs",
        "",
        f"Simulated users on the pocket model, {settings['thumbs']} thumbs each, mode {settings['mode']}, strength "
        f"{settings['strength']}. Mean true utility {utility['prior']:.3f} under equal weights, "
        f"{utility['oracle']:.3f} under the hidden taste. Share of that gap closed ± bootstrap standard error; aims: "
        f"{aims}. Regret and bound in nats, means over users.",
        f"{machine['processor']}, one thread, Python {machine['python']}, torch {machine['torch']}, {machine['date']}.",
        "",
        "| learner | users | closed after 10 | 30 | 100 | cosine 10 | 30 | 100 | regret | bound | regret / thumb |",
        "|---" * 11 + "|",
    ]
    for name, each in result["learners"].items():
        closed = [
            f"{each['gap_closed'][number]:.0%} ± {each['gap_closed_standard_error'][number]:.0%}"
            if each["gap_closed"]
            else "0 %"
            for number in AIMS
        ]
        cosines = [f"{each['cosine'][number]:.2f}" for number in AIMS]
        lines.append(
            f"| {name} | {each['users']} | {' | '.join(closed)} | {' | '.join(cosines)} | {each['regret']:.1f} | "
            f"{each['bound']:.1f} | {each['regret_per_thumb']:.3f} |"
        )
    drift = result["drift"]
    before, after = settings["drift_thumbs_before_and_after"]
    lines += ["", f"After a change of taste at thumb {before} ({drift['users']} users, {after} more thumbs):", ""]
    for name, each in drift.items():
        if isinstance(each, dict):
            reached = each["thumbs_until_regained"]
            said = f"60 % regained after {reached} thumbs" if reached else f"60 % not regained within {after} thumbs"
            lines.append(f"- {name}: {said}; {each['regained_at_the_end']:.0%} at the end")
    return "\n".join(lines) + "\n"


def _plot(result: dict[str, Any], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, (worth, regret, drift) = plt.subplots(1, 3, figsize=(15, 4.2))
    for name, each in result["learners"].items():
        smoothed = [sum(each["curve_utility"][max(0, t - 9) : t + 1]) / min(t + 1, 10) for t in range(100)]
        worth.plot(range(1, 101), smoothed, label=name)
        regret.plot(each["curve_horizons"], each["curve_regret_per_thumb"], marker="o", label=name)
    own = result["learners"]["this learner"]
    regret.plot(own["curve_horizons"], own["curve_bound_per_thumb"], "k--", label="bound, this learner")
    for level in result["utility"].values():
        worth.axhline(level, color="grey", linewidth=0.7)
    worth.set(xlabel="thumbs", ylabel="true utility (mean of 10)", title="Answers get better")
    regret.set(xlabel="thumbs", ylabel="regret per thumb, nats", title="Regret vanishes", ylim=(-0.3, 1.5))
    for name, each in result["drift"].items():
        if isinstance(each, dict):
            drift.plot(range(10, 10 + len(each["curve_regained"])), each["curve_regained"], label=name)
    drift.axhline(0.6, color="grey", linewidth=0.7)
    drift.set(xlabel="thumbs after the change", ylabel="share of the gap regained", title="A taste changes")
    for axes in (worth, regret, drift):
        axes.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
