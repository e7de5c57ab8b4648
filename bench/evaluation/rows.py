"""From answers to the rows of tables: every figure with its interval, and its difference to linear blending."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bench.evaluation.cells import Outcome
from bench.evaluation.design import Matched
from bench.evaluation.guides import objective_of
from bench.evaluation.laboratory import OBJECTIVES
from cage_core.evaluation.measures import hypervolume, perplexity
from cage_core.evaluation.statistics import Estimate, estimate, resamples

Floats = NDArray[np.float64]
NUM_RESAMPLES = 1000
_RESAMPLING_SEED = 1


@dataclass(frozen=True)
class Row:
    """One method at one budget.

    Attributes:
        budget_nats: KL per token aimed at; None where the method cannot choose it.
        matched: whether `kl_nats` is the budget within 5 %.
        utility: mean over answers of the scores weighted as asked for; over a whole front, the mean inner product.
        worst: mean over answers of the lowest of the objectives' scores.
        mean, mean_deviation: unweighted mean score, and its standard deviation between answers.
        win_rate: share of answers with a higher utility than linear blending's to the same question; ties half.
        better: measure -> difference to linear blending at the same budget.
        front: [weights][objectives] mean scores.
    """

    method: str
    budget_nats: float | None
    strength: float | None
    kl_nats: float
    matched: bool
    hypervolume: Estimate
    utility: Estimate
    worst: Estimate
    mean: Estimate
    mean_deviation: float
    win_rate: Estimate | None
    better: dict[str, Estimate]
    tokens: float
    capped_share: float
    repeating_share: float
    distinct: float
    perplexity: float
    tokens_per_second: float
    front: list[list[float]]


def scores_of(outcome: Outcome) -> Floats:
    """[weights, prompts, objectives] of the cell's own principals."""
    return outcome.grid("scores")[:, :, [OBJECTIVES.index(objective_of(name)) for name in outcome.cell.principals]]


def row(matched: Matched, linear: Outcome | None) -> Row:
    """The figures of a method, and those against linear blending at the same KL."""
    outcome = matched.outcome
    scores, weights = scores_of(outcome), np.array(outcome.cell.weights)
    shares = resamples(scores.shape[1], NUM_RESAMPLES, _RESAMPLING_SEED)
    figures = measures(scores, weights)
    rival = None if linear is None else measures(scores_of(linear), weights)
    answers = outcome.answers
    return Row(
        method=outcome.cell.method,
        budget_nats=matched.budget_nats,
        strength=None if matched.calibration is None else outcome.cell.strength,
        kl_nats=kl_of(outcome),
        matched=matched.calibration is not None and matched.calibration.matched,
        hypervolume=estimate(figures["hypervolume"], shares),
        utility=estimate(figures["utility"], shares),
        worst=estimate(figures["worst"], shares),
        mean=estimate(figures["mean"], shares),
        mean_deviation=float(scores.mean(-1).std()),
        win_rate=None if linear is None else estimate(_wins(scores, scores_of(linear), weights), shares),
        better={}
        if rival is None
        else {name: estimate(_difference(figures[name], rival[name]), shares) for name in figures},
        tokens=float(outcome.grid("num_tokens").mean()),
        capped_share=1 - float(outcome.grid("ended").mean()),
        repeating_share=float(outcome.grid("repeats").mean()),
        distinct=float(outcome.grid("distinct").mean()),
        perplexity=perplexity(answers),
        tokens_per_second=float(outcome.grid("num_tokens").sum() / outcome.seconds),
        front=scores.mean(axis=1).tolist(),
    )


def kl_of(outcome: Outcome) -> float:
    """Mean KL per token; of best-of-n the bound log n - (n - 1) / n of an answer over its length."""
    if outcome.cell.method != "best-of-n":
        return outcome.kl_nats
    count = 1 + len(outcome.cell.principals)
    return (math.log(count) - (count - 1) / count) / float(outcome.grid("num_tokens").mean())


def measures(scores: Floats, weights: Floats) -> dict[str, Callable[[Floats], float]]:
    """Figures of a front as functions of the prompts' shares.

    Args:
        scores: [weights, prompts, objectives].
    """
    utility = (scores * weights[:, None]).sum(-1).mean(0)
    worst, mean = scores.min(-1).mean(0), scores.mean((0, -1))
    return {
        "hypervolume": lambda shares: hypervolume(np.einsum("wpo,p->wo", scores, shares)),
        "utility": lambda shares: float(utility @ shares),
        "worst": lambda shares: float(worst @ shares),
        "mean": lambda shares: float(mean @ shares),
    }


def ratio(outcome: Outcome, rival: Outcome) -> Estimate:
    """Expected worst objective as a multiple of a rival's; both asked the same prompts."""
    ours, theirs = (scores_of(each).min(-1).mean(0) for each in (outcome, rival))
    shares = resamples(len(ours), 10 * NUM_RESAMPLES, _RESAMPLING_SEED)
    return estimate(lambda share: float(ours @ share) / float(theirs @ share), shares)


def mean_estimate(values: Floats) -> Estimate:
    """Mean over prompts [prompts]."""
    return estimate(lambda shares: float(values @ shares), resamples(len(values), NUM_RESAMPLES, _RESAMPLING_SEED))


def _difference(ours: Callable[[Floats], float], theirs: Callable[[Floats], float]) -> Callable[[Floats], float]:
    return lambda shares: ours(shares) - theirs(shares)


def _wins(scores: Floats, rival: Floats, weights: Floats) -> Callable[[Floats], float]:
    gained = ((scores - rival) * weights[:, None]).sum(-1)
    won = np.where(np.abs(gained) < 1e-9, 0.5, gained > 0).mean(0)
    return lambda shares: float(won @ shares)
