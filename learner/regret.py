"""Regret of the preferences that were in force, measured exactly, and the bound it provably stays under.

The loss of a vote is `logistic_loss` under the parameters in force when the answer was made. Regret is the
total of these losses less the total under the best fixed parameters of the box, known only in hindsight.

Bound. Let q_s be the quadratic that vote s contributes (`learner.evidence`): q_s lies below
loss_s(theta) - loss_s(theta_s) on the box. For any comparator theta*, any prior and P the prior precision,

    regret <= - sum q_s(theta*) <= |theta* - prior|_P^2 / 2 - min over the box of [|theta - prior|_P^2 / 2 + sum q_s].

This holds for any order and any delay of the votes, because each q_s is taken at the logged theta_s; for
prompt votes the telescoped form of the right-hand side is the usual logarithmic regret of online Newton steps
(Hazan, Agarwal and Kale 2007).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from learner.box_program import minimise_over_box
from learner.observations import Design, Observation, design
from learner.preferences import box, prior_precisions
from learner.surrogate import LearningConstants, curvature

Vector = NDArray[np.float64]

OPTIMALITY_NATS = 1e-8
RIDGE = 1e-9
NEWTON_STEPS = 100
HALVINGS = 40


@dataclass(frozen=True)
class Regret:
    """Totals over the votes covered, nats.

    Attributes:
        incurred_loss: under the parameters in force.
        best_loss: under `best_theta`, at most OPTIMALITY_NATS per vote above the least possible.
        prior_loss, uniform_loss: under the prior, and under equal weights, without a bias.
        regret: incurred less best.
        bound: what the regret cannot exceed.
        best_theta: of each principal, sorted by name, then the bias.
    """

    feedback_count: int
    incurred_loss: float
    best_loss: float
    prior_loss: float
    uniform_loss: float
    regret: float
    bound: float
    principals: tuple[str, ...]
    best_theta: tuple[float, ...]


def measure(observations: Sequence[Observation], prior: Mapping[str, float], constants: LearningConstants) -> Regret:
    """Regret of a non-empty set of votes, and its bound.

    Args:
        prior: configured weights; principals that it lacks have prior 0.
    """
    votes = design(observations, constants)
    centre = np.array([*(prior.get(name, 0.0) for name in votes.principals), 0.0])
    uniform = np.array([1.0 / len(votes.principals)] * len(votes.principals) + [0.0])
    incurred = float(_softplus(-votes.values * votes.logits()).sum())
    best = best_in_hindsight(votes, constants)
    best_loss = _total_loss(votes, best)
    return Regret(
        feedback_count=len(observations),
        incurred_loss=incurred,
        best_loss=best_loss,
        prior_loss=_total_loss(votes, centre),
        uniform_loss=_total_loss(votes, uniform),
        regret=incurred - best_loss,
        bound=_bound(votes, best, centre, constants),
        principals=votes.principals,
        best_theta=tuple(best.tolist()),
    )


def best_in_hindsight(votes: Design, constants: LearningConstants) -> Vector:
    """Parameters of the box with the least total loss: Newton steps, each an exact box program.

    Stops when no point of the box can be better by more than OPTIMALITY_NATS per vote (Frank-Wolfe gap).
    """
    lower, upper = box(len(votes.principals), constants)
    theta = np.clip(np.zeros(len(lower)), lower, upper)
    loss = _total_loss(votes, theta)
    for _ in range(NEWTON_STEPS):
        positive = _probability(votes.features @ theta)
        gradient = votes.features.T @ (positive - (votes.values > 0))
        gap = gradient @ theta - np.minimum(gradient * lower, gradient * upper).sum()
        if gap <= OPTIMALITY_NATS * len(votes.values):
            break
        spread = positive * (1.0 - positive)
        hessian = (votes.features * spread[:, None]).T @ votes.features + RIDGE * np.eye(len(theta))
        direction = minimise_over_box(hessian, hessian @ theta - gradient, lower, upper) - theta
        step, loss = _descend(votes, theta, direction, loss, float(gradient @ direction))
        theta = theta + step * direction
    return theta


def _descend(votes: Design, theta: Vector, direction: Vector, loss: float, slope: float) -> tuple[float, float]:
    """The longest of the steps 1, 1/2, 1/4, ... that lowers the loss enough (Armijo), and the loss there."""
    step = 1.0
    for _ in range(HALVINGS):
        lower_loss = _total_loss(votes, theta + step * direction)
        if lower_loss <= loss + 1e-4 * step * slope:
            return step, lower_loss
        step /= 2.0
    return 0.0, loss


def _bound(votes: Design, best: Vector, prior: Vector, constants: LearningConstants) -> float:
    logits = votes.logits()
    lowest, highest = votes.logit_ranges(constants)
    curvatures = np.array(list(map(curvature, logits.tolist(), lowest.tolist(), highest.tolist())))
    slopes = _probability(logits) - (votes.values > 0)
    pull = prior_precisions(len(votes.principals), constants)

    hessian = np.diag(pull) + (votes.features * curvatures[:, None]).T @ votes.features
    linear = pull * prior + votes.features.T @ (curvatures * logits - slopes)
    constant = 0.5 * pull @ prior**2 + float((0.5 * curvatures * logits**2 - slopes * logits).sum())
    leader = minimise_over_box(hessian, linear, *box(len(votes.principals), constants))
    least = 0.5 * leader @ hessian @ leader - linear @ leader + constant
    return float(0.5 * pull @ (best - prior) ** 2 - least)


def _total_loss(votes: Design, theta: Vector) -> float:
    return float(_softplus(-votes.values * (votes.features @ theta)).sum())


def _softplus(values: Vector) -> Vector:
    return np.logaddexp(0.0, values)


def _probability(logits: Vector) -> Vector:
    return np.exp(-_softplus(-logits))
