"""The parts of the experiment: each measures what it needs, or finds it measured, and gives rows for the report."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from types import MappingProxyType
from typing import Any

from bench.evaluation.cells import Cell, Outcome
from bench.evaluation.certificates import certificates
from bench.evaluation.costs import costs
from bench.evaluation.design import (
    BUDGETS_NATS,
    FRONT_METHODS,
    FURTHER_METHODS,
    HEAT_STRENGTHS,
    MIDDLE_NATS,
    THREE,
    Matched,
    Size,
    at_budgets,
    at_mean_score,
    evaluated,
    even,
    few_weights,
    pair_weights,
    without_strength,
)
from bench.evaluation.guides import objective_of, small
from bench.evaluation.laboratory import OBJECTIVES, Laboratory
from bench.evaluation.rows import kl_of, mean_estimate, ratio, row, scores_of
from cage_core.evaluation.measures import perplexity

Result = dict[str, Any]
CLAIMED = ("balanced", "budgeted")
_GUIDED = ("linear", "balanced")


def fronts_of_two(lab: Laboratory, size: Size) -> list[Result]:
    """Step 0.1, every method at every budget."""
    return [
        _front(lab, Cell("base", pair, pair_weights(), evaluated(size.pair_prompts), 0.0), FRONT_METHODS, BUDGETS_NATS)
        for pair in size.pairs
    ]


def fronts_of_more(lab: Laboratory, size: Size) -> list[Result]:
    """Three and four objectives on a coarse grid, at the middle budget."""
    questions = evaluated(size.few_prompts)
    methods = (*FRONT_METHODS, *FURTHER_METHODS)
    return [
        _front(lab, Cell("base", names, few_weights(len(names)), questions, 0.0), methods, (MIDDLE_NATS,))
        for names in (THREE, OBJECTIVES)
    ]


def _front(lab: Laboratory, cell: Cell, methods: tuple[str, ...], budgets: tuple[float, ...]) -> Result:
    """Rows of a front; methods without a strength are compared with linear blending at their own KL."""
    fixed = list(without_strength(lab, cell))
    chosen = list(at_budgets(lab, cell, methods, budgets))
    linear = {m.budget_nats: m.outcome for m in chosen if m.outcome.cell.method == "linear"}
    sampled_kl = kl_of(fixed[1].outcome)
    (beside,) = at_budgets(lab, replace(cell, method="linear"), ("linear",), (sampled_kl,))
    rows = [row(fixed[0], None), row(fixed[1], beside.outcome), row(beside, None)]
    rows += [row(m, None if m.outcome.cell.method == "linear" else linear[m.budget_nats]) for m in chosen]
    return {"principals": cell.principals, "weights": cell.weights, "rows": [asdict(each) for each in rows]}


def worst_of_four(lab: Laboratory, size: Size) -> Result:
    """Expected worst objective at equal weights: games over the answer against token methods."""
    cell = Cell("base", OBJECTIVES, (even(4),), evaluated(size.worst_prompts), 0.0)
    base = lab.outcome(cell)
    tokens = list(at_budgets(lab, cell, ("linear", "equilibrium", *CLAIMED), BUDGETS_NATS))
    others = list(at_budgets(lab, cell, (*FURTHER_METHODS, "maxmin"), (MIDDLE_NATS,)))
    linear = {m.budget_nats: m.outcome for m in tokens if m.outcome.cell.method == "linear"}
    rows = [row(Matched(None, base, None), None)]
    rows += [row(m, None if m.outcome.cell.method == "linear" else linear[m.budget_nats]) for m in (*tokens, *others)]
    return {
        "rows": [asdict(each) for each in rows],
        "claims": {
            name: [_claim(lab, cell, base, linear[m.budget_nats], m) for m in tokens if m.outcome.cell.method == name]
            for name in CLAIMED
        },
    }


def _claim(lab: Laboratory, cell: Cell, base: Outcome, linear: Outcome, game: Matched) -> Result:
    """A game over the answer against linear blending at equal KL, and at equal mean score."""
    base_mean = float(base.grid("scores").mean())
    mean = float(game.outcome.grid("scores").mean())
    alike = at_mean_score(lab, replace(cell, method="linear"), mean, base_mean, linear.cell.strength / 2)
    return {
        "budget_nats": game.budget_nats,
        "kl_nats": {"linear": linear.kl_nats, "game": game.outcome.kl_nats, "at_equal_mean": alike.kl_nats},
        "mean": {
            "linear": float(linear.grid("scores").mean()),
            "game": mean,
            "at_equal_mean": float(alike.grid("scores").mean()),
        },
        "worst": {
            name: float(scores_of(each).min(-1).mean())
            for name, each in (("linear", linear), ("game", game.outcome), ("at_equal_mean", alike))
        },
        "ratio_at_equal_kl": asdict(ratio(game.outcome, linear)),
        "ratio_at_equal_mean": asdict(ratio(game.outcome, alike)),
    }


def principals_alone(lab: Laboratory, size: Size) -> list[Result]:
    """How far each principal alone moves its own scorer at the largest budget."""
    return [_alone(lab, size, name, BUDGETS_NATS[-1]) for name in OBJECTIVES]


def _alone(lab: Laboratory, size: Size, principal: str, budget_nats: float) -> Result:
    cell = Cell("base", (principal,), ((1.0,),), evaluated(size.alone_prompts), 0.0)
    base = lab.outcome(replace(cell, principals=(objective_of(principal),)))
    (steered,) = at_budgets(lab, cell, ("linear",), (budget_nats,))
    gain = (scores_of(steered.outcome) - scores_of(base)).mean((0, -1))
    return {
        "principal": objective_of(principal),
        "strength": steered.outcome.cell.strength,
        "kl_nats": steered.outcome.kl_nats,
        "matched": steered.calibration is not None and steered.calibration.matched,
        "gain": asdict(mean_estimate(gain)),
        "ended_share": float(steered.outcome.grid("ended").mean()),
        "repeating_share": float(steered.outcome.grid("repeats").mean()),
        "perplexity": perplexity(steered.outcome.answers),
    }


def weak_to_strong(lab: Laboratory, size: Size) -> Result:
    """The small model's principals beside the adapters at the middle budget: each alone, and all four together."""
    guides = {"adapter": OBJECTIVES, "small model": tuple(map(small, OBJECTIVES))}
    return {
        "alone": [
            _alone(lab, size, name, MIDDLE_NATS) | {"guide": guide} for guide, names in guides.items() for name in names
        ],
        "together": [
            asdict(row(matched, None)) | {"guide": guide}
            for guide, names in guides.items()
            for matched in at_budgets(
                lab, Cell("base", names, (even(4),), evaluated(size.worst_prompts), 0.0), _GUIDED, (MIDDLE_NATS,)
            )
        ],
    }


def strengths(lab: Laboratory, size: Size) -> list[Result]:
    """The equilibrium over strengths at its own temperature, four objectives."""
    cell = Cell("equilibrium", OBJECTIVES, (even(4),), evaluated(size.strength_prompts), 0.0)
    results = []
    for strength in HEAT_STRENGTHS:
        outcome = lab.outcome(replace(cell, strength=strength))
        scores = scores_of(outcome)
        results.append(
            {
                "strength": strength,
                "kl_nats": outcome.kl_nats,
                "mean": float(scores.mean()),
                "worst": float(scores.min(-1).mean()),
                "ended_share": float(outcome.grid("ended").mean()),
            }
        )
    return results


def published(lab: Laboratory, size: Size) -> Result:
    """The published solver settings as they are, and other methods at the KL that they come to."""
    weights = tuple(pair for pair in pair_weights() if pair[0] in (0.2, 0.5, 0.8))
    cell = Cell("published", ("detail", "brevity"), weights, evaluated(size.published_prompts), 1.0)
    settings = lab.outcome(cell)
    linear, equilibrium = at_budgets(lab, cell, ("linear", "equilibrium"), (settings.kl_nats,))
    matched = Matched(None, settings, None)
    rows = [row(matched, linear.outcome), row(linear, None), row(equilibrium, linear.outcome)]
    return {"principals": cell.principals, "weights": weights, "rows": [asdict(each) for each in rows]}


PARTS: Mapping[str, Callable[[Laboratory, Size], Any]] = MappingProxyType(
    {
        "alone": principals_alone,
        "worst": worst_of_four,
        "pairs": fronts_of_two,
        "more": fronts_of_more,
        "weak": weak_to_strong,
        "strengths": strengths,
        "published": published,
        "cost": costs,
        "certificates": certificates,
    }
)
