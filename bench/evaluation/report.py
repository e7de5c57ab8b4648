"""The report: tables, figures and what they say, from results alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.evaluation.tables import (
    alone_table,
    certificates_table,
    claims_table,
    front_table,
    guided_table,
    guides_table,
    interval,
    strengths_table,
    title,
    verdict,
    worst_table,
)

_MEASURES = {"hypervolume": "hypervolume", "utility": "utility under the given weights", "worst": "worst objective"}
_LEAST_GAIN = 1.15
_JUDGED = ("equilibrium", "committed", "theorem3", "maxmin", "soups", "balanced", "budgeted")


def write_report(results: Mapping[str, Any], path: Path) -> None:
    """Write the report beside its figures."""
    path.write_text("\n\n".join(_sections(results)) + "\n")


def _sections(results: Mapping[str, Any]) -> Iterator[str]:
    run = results["run"]
    here = run["machine"]
    yield "# Does the equilibrium help?"
    yield (
        f"Written by `{run['command']}` (`make evaluate`): {run['seconds_of_decoding'] / 60:.0f} minutes of one core, "
        f"{here['processor']}, {here['system']}, Python {here['python']}, torch {here['torch']}, {here['date']}. Every "
        "prompt, draw and resample is seeded: the same command gives the same numbers, up to a rounding that tips a "
        "token on another machine. All figures: `results.json`."
    )
    yield "## In short"
    yield "\n".join(f"- {line}" for line in _conclusions(results))
    yield "Fronts on which a method is better / equal / worse than linear blending at equal KL, beyond chance:"
    yield _verdict_table(results)
    yield "## How it was measured"
    yield _HOW
    yield "## The worst of four objectives"
    yield _WORST
    yield worst_table(results["worst"]["rows"])
    for method, claims in results["worst"]["claims"].items():
        yield f"{title(method).capitalize()} against linear blending:"
        yield claims_table(claims)
    yield "![worst objective against KL](worst.png)"
    yield "### The certificate: regret within the answer"
    yield _CERTIFICATES
    yield certificates_table(results["certificates"])
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
    yield "## A smaller model as guide (weak to strong)"
    yield _WEAK
    yield guides_table(results["weak"]["alone"])
    yield "All four objectives at equal weights, the adapters' rows as above:"
    yield guided_table(results["weak"]["together"])
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
    yield _token_by_token(results)
    yield _over_the_answer(results["worst"]["claims"])
    yield _price(results)
    yield _weak_sentence(results["weak"]["alone"])
    yield _cost_sentence(results["cost"])
    yield (
        "**MOD** has no rows: the weighted geometric mean of the principals' models is linear blending at strength 1 "
        "(`tests/cage_core/evaluation/test_methods.py`), so at a given KL the two are one policy."
    )
    yield _default(results)


def _token_by_token(results: Mapping[str, Any]) -> str:
    count = _verdicts(results, "equilibrium")
    won = sum(count[name]["better"] for name in _MEASURES)
    lost = sum(count[name]["worse"] for name in _MEASURES)
    total = sum(count["utility"].values())
    verdict = "does not help" if won == 0 else "helps on some measures"
    return (
        f"**Token by token the equilibrium {verdict}.** On {total} fronts and three measures it is better than linear "
        f"blending at equal KL {won} times and worse {lost} times; the rest is chance. Linear tilting maximises the "
        "weighted sum of rewards at a given KL at every token: no other method of one token could be expected to win."
    )


def _over_the_answer(claims: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    said = []
    for method, found in claims.items():
        ratios = "; ".join(
            f"KL {c['budget_nats']:g}: {interval(c['ratio_at_equal_kl'], 2)} at equal KL, "
            f"{interval(c['ratio_at_equal_mean'], 2)} at equal mean score"
            for c in found
        )
        said.append(f"{title(method)}: {ratios}")
    intervals = [
        c[kind] for found in claims.values() for c in found for kind in ("ratio_at_equal_kl", "ratio_at_equal_mean")
    ]
    better = sum(ratio["low"] > 1 for ratio in intervals)
    verdict = "helps" if better == len(intervals) else f"helps in {better} of {len(intervals)} comparisons"
    return (
        f"**Over the answer a game {verdict}.** Expected worst of four objectives, as a multiple of linear blending's. "
        + ". ".join(said)
        + "."
    )


def _verdicts(results: Mapping[str, Any], method: str) -> dict[str, Counter[str]]:
    """Measure -> how often the method is better, equal or worse than linear blending, over all fronts."""
    counts = {name: Counter[str]() for name in _MEASURES}
    for front in (*results["pairs"], *results["more"]):
        for row in front["rows"]:
            if row["method"] == method and row["matched"]:
                for name, count in counts.items():
                    count[verdict(row["better"][name])] += 1
    return counts


def _verdict_table(results: Mapping[str, Any]) -> str:
    lines = [f"| method | {' | '.join(_MEASURES.values())} |", "|---" * (len(_MEASURES) + 1) + "|"]
    for method in _JUDGED:
        counts = _verdicts(results, method)
        cells = (f"{c['better']} / {c['equal']} / {c['worse']}" for c in counts.values())
        lines.append(f"| {title(method)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _price(results: Mapping[str, Any]) -> str:
    """What the games over the answer give up where all four objectives pull apart."""
    losses = ", ".join(
        f"{interval(row['better']['mean'])} ({row['method']}, KL {row['budget_nats']:g})"
        for row in results["worst"]["rows"]
        if row["method"] in results["worst"]["claims"]
    )
    return (
        f"**Its price is the mean score** where four objectives pull apart: difference to linear blending's at equal "
        f"KL {losses}. Whoever wants the largest weighted sum there, and does not mind an objective that goes without, "
        "is served best by linear blending."
    )


def _default(results: Mapping[str, Any]) -> str:
    claims = results["worst"]["claims"]
    best = max(claims, key=lambda method: _won(results, method))
    certain = [
        f"{c['budget_nats']:g}"
        for c in claims[best]
        if min(c["ratio_at_equal_kl"]["low"], c["ratio_at_equal_mean"]["low"]) > _LEAST_GAIN
    ]
    if not certain:
        return "**When every objective must be heard**: not settled by these figures; no gain of 15 % is certain."
    weaker = "; at the others that is not certain" if len(certain) < len(claims[best]) else ""
    return (
        f"**When every objective must be heard: `{best}`** (decision 0006). At KL {' and '.join(certain)} its worst of "
        "four objectives is more than 15 % above linear blending's with 95 % confidence, at equal KL and at equal "
        f"mean score{weaker}. The table below has its record on all fronts. The others are one word away."
    )


def _won(results: Mapping[str, Any], method: str) -> int:
    """Fronts and measures won less those lost."""
    return sum(count["better"] - count["worse"] for count in _verdicts(results, method).values())


def _weak_sentence(alone: Sequence[Mapping[str, Any]]) -> str:
    gains: dict[str, dict[str, Mapping[str, float]]] = {}
    for found in alone:
        gains.setdefault(found["principal"], {})[found["guide"]] = found["gain"]
    moved = sum(each["small model"]["low"] > 0 for each in gains.values())
    said = ", ".join(
        f"{name} {each['small model']['value']:+.2f} (adapter {each['adapter']['value']:+.2f})"
        for name, each in gains.items()
    )
    return (
        f"**A smaller model can guide** {moved} of {len(gains)} objectives upwards beyond chance: gain of each "
        f"principal's own score at the middle budget, {said}."
    )


def _cost_sentence(costs: Sequence[Mapping[str, Any]]) -> str:
    named = {cost["method"]: cost for cost in costs}
    said = ", ".join(
        f"{title(name)} {named[name]['microseconds']:.0f} µs"
        for name in ("linear", "balanced", "equilibrium", "published")
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
_CERTIFICATES = (
    "From the engine, which returns it with every answer; four objectives at equal weights, about 0.05 nats a "
    "token. Regret and bound in nats per token (docs/paper.md, eq. 4 and 5)."
)
_WEAK = (
    "Principals from `cage_core/pocket/small`, a third of the size, tuned on preferences between its own answers: a "
    "token's reward is the log-ratio of the tuned small model to the small model. Beside them the adapters of the "
    "large model; both alone under linear blending at the middle budget. Perplexity: of the answers under the large "
    "model, among its candidates."
)
_HEAT = (
    "Scaling all payoffs and τ together changes nothing, so temperature and strength are one degree of freedom, and "
    "the map "
    "is constant along its diagonals. Four objectives, equal weights; white was not measured."
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
- *Blind.* Every setting, and the choice between `balanced` and `budgeted`, was made on other prompts and seeds before
  the prompts of this report were first asked (decision 0006)."""
