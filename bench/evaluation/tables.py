"""Results as Markdown tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cage_core.evaluation.methods import METHODS

_TITLES = {
    "base": "plain model",
    "soups": "rewarded soups (averaged adapters)",
    "best-of-n": "best of n = 1 + principals, equal compute",
    "published": "published solver settings (τ = 0.1)",
}


def title(method: str) -> str:
    """What tables call a method."""
    return _TITLES.get(method) or METHODS[method].title


def interval(estimate: Mapping[str, float] | None, digits: int = 3) -> str:
    """Value and interval."""
    if estimate is None:
        return "(reference)"
    return f"{estimate['value']:.{digits}f} [{estimate['low']:.{digits}f}, {estimate['high']:.{digits}f}]"


def verdict(difference: Mapping[str, float]) -> str:
    """Better, equal or worse than linear blending: does the interval of the difference leave out 0?"""
    if difference["low"] > 0:
        return "better"
    return "worse" if difference["high"] < 0 else "equal"


def front_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Every measure of a front; an arrow says that a figure differs from linear blending's beyond chance."""
    head = (
        "method | budget | KL | hypervolume | utility | worst objective | wins against linear | tokens | at the cap "
        "| repeats | distinct-2 | perplexity"
    )
    lines = [f"| {head} |", "|---" * (head.count("|") + 1) + "|"]
    for row in rows:
        cells = [
            title(row["method"]),
            budget(row),
            f"{abs(row['kl_nats']):.4f}",
            *(f"{interval(row[name])}{_arrow(row, name)}" for name in ("hypervolume", "utility", "worst")),
            interval(row["win_rate"], 2)
            if row["win_rate"]
            else ("50 % by definition" if row["method"] == "linear" else "not compared"),
            f"{row['tokens']:.0f}",
            f"{row['capped_share']:.1%}",
            f"{row['repeating_share']:.0%}",
            f"{row['distinct']:.3f}",
            f"{row['perplexity']:.3f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def budget(row: Mapping[str, Any]) -> str:
    """The KL aimed at, and whether it was met."""
    if row["strength"] is None:
        return "its own"
    aimed = f"{row['budget_nats']:.3g}"
    return aimed if row["matched"] else f"{aimed}, out of reach"


def _arrow(row: Mapping[str, Any], name: str) -> str:
    difference = row["better"].get(name)
    return "" if difference is None else {"better": " ↑", "worse": " ↓", "equal": ""}[verdict(difference)]


def claims_table(claims: Sequence[Mapping[str, Any]]) -> str:
    """A game over the answer against linear blending at equal KL and at equal mean score."""
    lines = [
        "| KL budget | KL: linear, game | mean score: linear, game | worst: linear | worst: game "
        "| ratio at equal KL | linear at the same mean: mean, worst | ratio at equal mean |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for claim in claims:
        kl, mean, worst = claim["kl_nats"], claim["mean"], claim["worst"]
        lines.append(
            f"| {claim['budget_nats']:g} | {kl['linear']:.4f}, {kl['game']:.4f} "
            f"| {mean['linear']:.3f}, {mean['game']:.3f} | {worst['linear']:.3f} | {worst['game']:.3f} "
            f"| {interval(claim['ratio_at_equal_kl'], 2)} | {mean['at_equal_mean']:.3f}, {worst['at_equal_mean']:.3f} "
            f"| {interval(claim['ratio_at_equal_mean'], 2)} |"
        )
    return "\n".join(lines)


def worst_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Four objectives at equal weights."""
    lines = [
        "| method | budget | KL | worst objective | mean score | its deviation between answers | scores | tokens "
        "| at the cap | repeats |",
        "|---" * 10 + "|",
    ]
    for row in rows:
        scores = ", ".join(f"{score:.2f}" for score in row["front"][0])
        lines.append(
            f"| {title(row['method'])} | {budget(row)} | {abs(row['kl_nats']):.4f} "
            f"| {interval(row['worst'])}{_arrow(row, 'worst')} | {interval(row['mean'])}{_arrow(row, 'mean')} "
            f"| {row['mean_deviation']:.3f} | {scores} | {row['tokens']:.0f} | {row['capped_share']:.1%} "
            f"| {row['repeating_share']:.0%} |"
        )
    return "\n".join(lines)


def alone_table(results: Sequence[Mapping[str, Any]]) -> str:
    """Each principal alone at the largest budget."""
    lines = ["| principal | strength | KL | gain of its own score | end by themselves | repeats |", "|---" * 6 + "|"]
    lines += [
        f"| {r['principal']} | {r['strength']:.2f} | {r['kl_nats']:.4f} | {interval(r['gain'], 2)} "
        f"| {r['ended_share']:.1%} | {r['repeating_share']:.0%} |"
        for r in results
    ]
    return "\n".join(lines)


def guides_table(results: Sequence[Mapping[str, Any]]) -> str:
    """Each objective's principal alone, as an adapter of the model and as a pair of smaller models."""
    head = "| objective | guide | KL | gain of its own score | end by themselves | repeats | perplexity |"
    lines = [head, "|---" * 7 + "|"]
    lines += [
        f"| {r['principal']} | {r['guide']} | {r['kl_nats']:.4f}{'' if r['matched'] else ', out of reach'} "
        f"| {interval(r['gain'], 2)} | {r['ended_share']:.1%} | {r['repeating_share']:.0%} | {r['perplexity']:.3f} |"
        for r in sorted(results, key=lambda r: r["principal"])
    ]
    return "\n".join(lines)


def guided_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """All four objectives together, by who speaks for them."""
    lines = ["| guides | method | KL | worst objective | mean score | scores | tokens | repeats |", "|---" * 8 + "|"]
    lines += [
        f"| {r['guide']} | {title(r['method'])} | {r['kl_nats']:.4f} | {interval(r['worst'])} | {interval(r['mean'])} "
        f"| {', '.join(f'{score:.2f}' for score in r['front'][0])} | {r['tokens']:.0f} | {r['repeating_share']:.0%} |"
        for r in rows
    ]
    return "\n".join(lines)


def certificates_table(results: Sequence[Mapping[str, Any]]) -> str:
    """Regret within the answer and its bound."""
    lines = ["| method | answers | mean regret | largest | mean bound | beyond their bound |", "|---" * 6 + "|"]
    lines += [
        f"| {title(r['method'])} | {r['answers']} | {r['mean_regret_nats']:.3f} | {r['largest_regret_nats']:.3f} "
        f"| {r['mean_bound_nats']:.3f} | {r['beyond_bound']} |"
        for r in results
    ]
    return "\n".join(lines)


def strengths_table(results: Sequence[Mapping[str, Any]]) -> str:
    """The equilibrium over its one degree of freedom."""
    lines = ["| strength / τ | KL | mean score | worst objective | end by themselves |", "|---" * 5 + "|"]
    lines += [
        f"| {r['strength'] / 0.5:g} | {r['kl_nats']:.4f} | {r['mean']:.3f} | {r['worst']:.3f} "
        f"| {r['ended_share']:.1%} |"
        for r in results
    ]
    return "\n".join(lines)
