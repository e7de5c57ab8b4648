"""The report: tables, figures and what they say, from results alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.evaluation.tables import (
    alone_table,
    claims_table,
    front_table,
    interval,
    strengths_table,
    title,
    verdict,
    worst_table,
)

_MEASURES = {"hypervolume": "hypervolume", "utility": "utility under the given weights", "worst": "worst objective"}
_JUDGED = ("equilibrium", "committed", "theorem3", "maxmin", "soups", "budgeted")


def write_report(results: Mapping[str, Any], path: Path) -> None:
    """Write the report beside its figures."""
    path.write_text("\n\n".join(_sections(results)) + "\n")


def _sections(results: Mapping[str, Any]) -> Iterator[str]:
    run = results["run"]
    here = run["machine"]
    yield "# Does the equilibrium help?"
    yield (
        f"Written by `{run['command']}` (`make evaluate`): {run['seconds_of_decoding'] / 60:.0f} minutes of one "
        f"core of "
        f"{here['processor']}, {here['system']}, Python {here['python']}, torch {here['torch']}, {here['date']}. "
        f"The same "
        "command gives the same numbers: every prompt, draw and resample is seeded. All figures: `results.json`."
    )
    yield "## In short"
    yield "\n".join(f"- {line}" for line in _conclusions(results))
    yield "## How it was measured"
    yield _HOW
    yield "## The worst of four objectives"
    yield _WORST
    yield worst_table(results["worst"]["rows"])
    yield "The budgeted game against linear blending, prompts and seeds never used to choose its settings:"
    yield claims_table(results["worst"]["claims"])
    yield "![worst objective against KL](worst.png)"
    yield "## Fronts of two objectives"
    yield "↑, ↓: better or worse than linear blending at the same KL (the 95 % interval of the difference excludes 0)."
    for front in results["pairs"]:
        yield f"### {' and '.join(front['principals'])}, {len(front['weights'])} weights"
        yield front_table(front["rows"])
    yield "![fronts at equal KL](fronts.png)"
    yield "![utility against KL](utility.png)"
    yield "## Three and four objectives"
    for front in results["more"]:
        yield f"### {', '.join(front['principals'])}: even weights, and each objective preferred once"
        yield front_table(front["rows"])
    yield "## The equilibrium over temperature and strength"
    yield _HEAT
    yield strengths_table(results["strengths"])
    yield "![worst objective and KL over temperature and strength](strengths.png)"
    yield "## The published solver settings"
    yield _PUBLISHED
    yield front_table(results["published"]["rows"])
    yield "## What a token costs"
    yield _cost_table(results["cost"])
    yield "## Each principal alone, at the largest budget"
    yield alone_table(results["alone"])


def _conclusions(results: Mapping[str, Any]) -> Iterator[str]:
    for method in _JUDGED:
        yield _judged(results, method)
    claims = results["worst"]["claims"]
    ratios = "; ".join(
        f"KL {c['budget_nats']:g}: {interval(c['ratio_at_equal_kl'], 2)} times linear's at equal KL, "
        f"{interval(c['ratio_at_equal_mean'], 2)} times at equal mean score"
        for c in claims
    )
    yield f"**Over the answer a game helps.** Expected worst of four objectives under the budgeted game: {ratios}."
    yield _price(results)
    yield _cost_sentence(results["cost"])
    yield (
        "MOD is not a row of its own: the weighted geometric mean of the principals' models is linear blending at "
        "strength "
        "1 (`tests/cage_core/evaluation/test_methods.py`), so at a given KL the two are one policy."
    )
    yield _default(claims)


def _judged(results: Mapping[str, Any], method: str) -> str:
    """A method against linear blending at equal KL, over all fronts."""
    counts = {name: Counter[str]() for name in _MEASURES}
    for front in (*results["pairs"], *results["more"]):
        for row in front["rows"]:
            if row["method"] == method and row["matched"]:
                for name, count in counts.items():
                    count[verdict(row["better"][name])] += 1
    said = "; ".join(
        f"{label}: better {counts[name]['better']}, equal {counts[name]['equal']}, worse {counts[name]['worse']}"
        for name, label in _MEASURES.items()
    )
    return f"**{title(method)}** against linear blending at equal KL, fronts counted: {said}."


def _price(results: Mapping[str, Any]) -> str:
    """What the budgeted game gives up."""
    rows = [row for row in results["worst"]["rows"] if row["method"] == "budgeted"]
    losses = ", ".join(f"{interval(row['better']['mean'])} at KL {row['budget_nats']:g}" for row in rows)
    return (
        f"Its price is the mean: difference to linear blending's mean score at equal KL {losses}. Whoever wants the "
        f"largest "
        "weighted sum of scores, and does not mind an objective that goes without, is served best by linear blending."
    )


def _default(claims: Sequence[Mapping[str, Any]]) -> str:
    certain = all(c["ratio_at_equal_kl"]["low"] > 1.15 and c["ratio_at_equal_mean"]["low"] > 1.15 for c in claims)
    if certain:
        return (
            "**Default: the budgeted game.** At every budget its worst objective is more than 15 % above linear "
            "blending's "
            "with 95 % confidence, at equal KL and at equal mean score. `linear` for the largest weighted sum, "
            "`equilibrium` to study the paper's game: one word each."
        )
    return (
        "**Default: undecided by these figures**, for the gain of 15 % is not certain at every budget; see the table."
    )


def _cost_sentence(costs: Sequence[Mapping[str, Any]]) -> str:
    named = {cost["method"]: cost for cost in costs}
    said = ", ".join(
        f"{title(name)} {named[name]['microseconds']:.0f} µs"
        for name in ("linear", "budgeted", "equilibrium", "published")
    )
    return (
        f"**What it costs** to decide one token of one answer with four principals, in a batch: {said}; the forward "
        f"pass takes {named['linear']['microseconds'] / named['linear']['share_of_forward']:.0f} µs."
    )


def _cost_table(costs: Sequence[Mapping[str, Any]]) -> str:
    lines = ["| method | deciding a token of one answer, µs | share of the forward pass |", "|---|---|---|"]
    lines += [
        f"| {title(cost['method'])} | {cost['microseconds']:.0f} | {cost['share_of_forward']:.1%} |" for cost in costs
    ]
    return "\n".join(lines)


_WORST = (
    "Equal weights. Token methods set every token's policy from weights that stay; the games over the answer let each "
    "principal's weight follow what the answer has already given it (docs/paper.md, section 7)."
)
_HEAT = (
    "Scaling all payoffs and τ together changes nothing, so temperature and strength are one degree of freedom, and "
    "the map "
    "is constant along its diagonals. Four objectives, equal weights."
)
_PUBLISHED = (
    "Jacobi with numerical gradients, 8 iterations, 5 rounds, τ = 0.1, first payments zero (`bench/published.py`), "
    "beside "
    "linear blending and the exact equilibrium at the KL that these settings come to. Few prompts: the solver is slow."
)
_HOW = """\
Pocket model and its four adapters; held-out prompts; temperature 1; candidates with at least 0.02 of the likeliest
token's probability, at most 50; answers end at 160 tokens at the latest. Scores are the rule-based scorers', with
whose preferences the principals were trained and which no method sees while it decodes. Development prompts and
seeds, which chose the settings of the games over the answer, are in no table.

- *Equal KL.* Every method's strength is searched so that its mean KL per token, on the very answers reported, is the
  budget within 5 %; where no strength does it, the table says so. KL is no score, so the search favours nobody.
- *Equal luck.* All methods answer the same prompts with the same random numbers.
- *Intervals*: 95 %, bootstrap over prompts, 1,000 resamples (10,000 for ratios), the same for all methods.
- *Utility* under the given weights, averaged over the weights, is the paper's mean inner product. *Worst objective*:
  the lowest of the objectives' scores of an answer, averaged over answers. *Hypervolume*: of the mean scores over the
  weights, from the origin. *Perplexity*: of the answers' tokens under the plain model, among its candidates.
- *Best of n* draws n = 1 + principals answers of the plain model and keeps the one that the principals' log-ratios
  prefer; its KL is the bound log n − (n−1)/n, and linear blending stands beside it at that KL.
- *Committed reserves* come from the learner's dynamics on 120 token contexts of other prompts.
- *Missing*: weak-to-strong guidance, for there is no second pocket model."""
