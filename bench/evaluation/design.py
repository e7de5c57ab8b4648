"""What is measured: fronts of two, three and four objectives, worst objectives, strengths, and each principal alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from bench.evaluation.cells import Cell, Outcome, Questions
from bench.evaluation.laboratory import OBJECTIVES, Laboratory
from cage_core.evaluation.calibration import Calibration, calibrate

BUDGETS_NATS = (0.02, 0.05, 0.12)
MIDDLE_NATS = 0.05
# Prompts before this number chose settings, or between the games over the answer; no table uses them.
FIRST_EVALUATED = 350
SEED = 20_000
FRONT_METHODS = ("linear", "soups", "maxmin", "equilibrium", "committed", "theorem3", "budgeted", "balanced")
FURTHER_METHODS = ("nash", "budgeted-equilibrium")
THREE = ("detail", "caution", "warmth")
HEAT_STRENGTHS = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
_STARTS = {"linear": 1.2, "soups": 1.2, "theorem3": 8.0, "maxmin": 1.5, "budgeted": 1.8}


@dataclass(frozen=True)
class Size:
    """How many prompts each part asks.

    Attributes:
        pairs: objectives two by two.
        pair_prompts, few_prompts: for fronts of two, and of three and four objectives.
        worst_prompts: for the worst of four objectives.
        alone_prompts: for each principal alone.
        strength_prompts: for the equilibrium over strengths.
        published_prompts: for the published settings, which take 0.1 s a token.
    """

    pairs: tuple[tuple[str, str], ...]
    pair_prompts: int
    few_prompts: int
    worst_prompts: int
    alone_prompts: int
    strength_prompts: int
    published_prompts: int


DEFAULT = Size((("detail", "brevity"), ("warmth", "caution")), 16, 24, 109, 60, 40, 4)
FULL = Size(tuple((a, b) for i, a in enumerate(OBJECTIVES) for b in OBJECTIVES[i + 1 :]), 100, 100, 109, 109, 100, 20)


@dataclass(frozen=True)
class Matched:
    """A method's answers at a budget.

    Attributes:
        budget_nats: KL per token; None for methods that cannot choose it.
        calibration: how the strength was found; None where there is none to find.
    """

    budget_nats: float | None
    outcome: Outcome
    calibration: Calibration | None


def evaluated(count: int) -> Questions:
    """The first evaluated prompts."""
    return Questions(FIRST_EVALUATED, count, SEED)


def pair_weights() -> tuple[tuple[float, ...], ...]:
    """Step 0.1."""
    return tuple((round(i / 10, 1), round(1 - i / 10, 1)) for i in range(11))


def even(count: int) -> tuple[float, ...]:
    """Every objective alike."""
    return (1.0 / count,) * count


def few_weights(count: int) -> tuple[tuple[float, ...], ...]:
    """Even weights, and each objective preferred once."""
    others = 0.4 / (count - 1)
    return (even(count), *(tuple(0.6 if i == j else others for i in range(count)) for j in range(count)))


def without_strength(lab: Laboratory, cell: Cell) -> Iterator[Matched]:
    """The base, and best-of-n with linear blending at its KL."""
    yield Matched(None, lab.outcome(replace(cell, method="base", strength=0.0)), None)
    yield Matched(None, lab.outcome(replace(cell, method="best-of-n", strength=0.0)), None)


def at_budgets(lab: Laboratory, cell: Cell, methods: tuple[str, ...], budgets: tuple[float, ...]) -> Iterator[Matched]:
    """Every method at every budget."""
    for method in methods:
        scale = _STARTS.get(method, 1.8) * len(cell.principals) / 2 / 0.02**0.67
        for budget in budgets:
            outcome, found = lab.at_kl(replace(cell, method=method), budget, scale * budget**0.67)
            scale = found.strength / budget**0.67
            yield Matched(budget, outcome, found)


def at_mean_score(lab: Laboratory, cell: Cell, target: float, base: float, start: float) -> Outcome:
    """The cell at the strength whose mean score is the target, within 3 % of the gain over the plain model."""

    def gain(outcome: Outcome) -> float:
        return max(float(outcome.grid("scores").mean()) - base, 1e-4)

    found = calibrate(
        lambda strength: gain(lab.outcome(replace(cell, strength=strength))),
        target - base,
        start,
        tolerance=0.03,
        tries=8,
        known=lab.known(cell, gain),
    )
    return lab.outcome(replace(cell, strength=found.strength))
