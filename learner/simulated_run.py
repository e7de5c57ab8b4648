"""`cage simulate`: some users, one table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from learner.regret import measure
from learner.simulated_engine import asking, start_engine
from learner.simulated_learners import Leader
from learner.simulation import SimulatedUser, Taste, Thumb, play
from learner.surrogate import LearningConstants

ROWS_TOGETHER = 400
RECENT = 10


@dataclass(frozen=True)
class SimulationPlan:
    """Who plays: `users` like `taste`, and from the middle of their `thumbs` on `later_taste`."""

    users: int
    thumbs: int
    taste: Taste
    later_taste: Taste
    explore: bool
    seed: int


@dataclass(frozen=True)
class SimulationRow:
    """Where the users stood, on the mean, after some thumbs."""

    thumbs: int
    utility: float
    weights: tuple[float, ...]


@dataclass(frozen=True)
class SimulationReport:
    """What came of it; regret and bound in nats, means over the users."""

    principals: tuple[str, ...]
    rows: tuple[SimulationRow, ...]
    regret: float
    bound: float


def run(
    plan: SimulationPlan,
    model_directory: Path,
    constants: LearningConstants,
    *,
    strength: float,
    mode: str,
    window: int | None,
    tick: Callable[[], None],
) -> SimulationReport:
    """Play all users at once on one engine.

    Args:
        tick: called after every thumb.
    Raises:
        CageError: the model cannot be served.
    """
    torch.set_num_threads(1)
    engine = start_engine(model_directory, ROWS_TOGETHER)
    principals = tuple(engine.model.principals)

    def course(user: int) -> list[Thumb]:
        luck = np.random.default_rng([plan.seed, user])
        explorer = np.random.default_rng([plan.seed, user, 1]) if plan.explore else None
        tastes = {0: plan.taste, plan.thumbs // 2: plan.later_taste}
        ask = asking(engine, plan.seed * 100_003 + user, strength=strength, mode=mode)
        learner = Leader(principals, constants, window, explorer)
        return play(SimulatedUser(tastes, luck), learner, ask, plan.thumbs, lambda number, _: tick())

    try:
        with ThreadPoolExecutor(plan.users) as pool:
            courses = list(pool.map(course, range(plan.users)))
    finally:
        engine.stop()
    return _report(courses, principals, constants)


def _report(
    courses: Sequence[Sequence[Thumb]], principals: tuple[str, ...], constants: LearningConstants
) -> SimulationReport:
    thumbs = len(courses[0])
    prior = dict.fromkeys(principals, 1.0 / len(principals))
    measured = [measure([thumb.observation for thumb in course], prior, constants) for course in courses]
    ends = [*range(RECENT, thumbs, RECENT), thumbs]
    return SimulationReport(
        principals=principals,
        rows=tuple(_row(courses, end) for end in ends),
        regret=float(np.mean([each.regret for each in measured])),
        bound=float(np.mean([each.bound for each in measured])),
    )


def _row(courses: Sequence[Sequence[Thumb]], end: int) -> SimulationRow:
    recent = [thumb.utility for course in courses for thumb in course[max(0, end - RECENT) : end]]
    weights = np.mean([course[end - 1].weights for course in courses], axis=0)
    return SimulationRow(end, float(np.mean(recent)), tuple(weights.tolist()))
