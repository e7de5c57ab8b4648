"""How fast simulated users get what they like: ``python -m bench.learning``.

Users with a hidden taste (four pure, six mixed) ask the pocket model through the real engine, many at once, and
vote noisily; the real learner mathematics turns votes into weights. Writes ``bench/results/learning.json``,
``learning.md`` and ``learning.png``.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench.learning_figures import drift_figures, gap_figures, regret_figures
from bench.learning_report import write_report
from bench.machine import machine
from cage_core.engine import Engine
from cage_core.pocket import POCKET_DIR
from cage_core.pocket.scorers import SCORERS
from learner.settings import LearnerSettings
from learner.simulated_engine import asking, start_engine
from learner.simulated_learners import ExponentiatedGradient, Leader, NoLearning
from learner.simulation import SimulatedUser, Taste, Thumb, WeightLearner, mixed_taste, play, pure_taste, utility

RESULTS = Path(__file__).parent / "results"
CHECKPOINTS = (10, 30, 100)
THUMBS = CHECKPOINTS[-1]
DRIFT_THUMBS = (40, 60)
WINDOW = 40
HELD_OUT_ANSWERS = 6
HELD_OUT_SEED = 1_000_000
STRENGTH, MODE = 3.0, "linear"
ROWS = 400
TASTES: tuple[Taste, ...] = (
    *map(pure_taste, SCORERS),
    *(mixed_taste(first, second) for first, second in itertools.combinations(SCORERS, 2)),
)
CONSTANTS = LearnerSettings(database_url="postgresql://none/none", redis_url="redis://none").constants


@dataclass(frozen=True)
class Course:
    """What one user went through, and the true worth of held-out answers at the checkpoints."""

    taste: Taste
    thumbs: list[Thumb]
    weights: dict[int, tuple[float, ...]]
    worth: dict[int, float]


@dataclass(frozen=True)
class Bench:
    """The engine and the pool of users."""

    engine: Engine
    pool: ThreadPoolExecutor
    principals: tuple[str, ...]

    def worth(self, user: int, weights: Sequence[float], taste: Taste) -> float:
        """Mean utility of answers that are not voted on; the same questions and seeds for all weights."""
        ask = asking(self.engine, HELD_OUT_SEED + user, strength=STRENGTH, mode=MODE, held_out=True)
        named = dict(zip(self.principals, weights, strict=True))
        return float(np.mean([utility(taste, ask(named, number).text) for number in range(HELD_OUT_ANSWERS)]))

    def courses(self, users: int, make: Callable[[int], WeightLearner], *, measured: bool) -> list[Course]:
        """Play all users, as many at once as the pool has threads."""

        def course(user: int) -> Course:
            taste, learner = TASTES[user % len(TASTES)], make(user)
            weights: dict[int, tuple[float, ...]] = {}

            def note(number: int, _: Sequence[Thumb]) -> None:
                if number in CHECKPOINTS:
                    weights[number] = learner.play()[1]

            simulated = SimulatedUser({0: taste}, np.random.default_rng(user))
            thumbs = play(simulated, learner, asking(self.engine, user, strength=STRENGTH, mode=MODE), THUMBS, note)
            worth = {number: self.worth(user, each, taste) for number, each in weights.items()} if measured else {}
            return Course(taste, thumbs, weights, worth)

        return list(self.pool.map(course, range(users)))

    def drifts(self, users: int, window: int | None) -> list[list[Thumb]]:
        """Users whose pure taste becomes another one; courses from the beginning."""

        def course(user: int) -> list[Thumb]:
            before, after = drift_tastes(user)
            simulated = SimulatedUser({0: before, DRIFT_THUMBS[0]: after}, np.random.default_rng(user))
            ask = asking(self.engine, 500 + user, strength=STRENGTH, mode=MODE)
            return play(simulated, Leader(self.principals, CONSTANTS, window), ask, sum(DRIFT_THUMBS))

        return list(self.pool.map(course, range(users)))

    def fixed(self, users: int, weights_of: Callable[[int], tuple[Sequence[float], Taste]]) -> list[float]:
        """Worth of fixed weights to each user."""
        return list(self.pool.map(lambda user: self.worth(user, *weights_of(user)), range(users)))

    def as_weights(self, taste: Taste) -> tuple[float, ...]:
        """The oracle: weights that are the taste."""
        return tuple(taste[name] for name in self.principals)


def drift_tastes(user: int) -> tuple[Taste, Taste]:
    """A user's taste before and after its change."""
    pairs = tuple(itertools.permutations(SCORERS, 2))
    before, after = pairs[user % len(pairs)]
    return pure_taste(before), pure_taste(after)


def main() -> None:
    """Play everything, write the results, print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--users", type=int, default=40)
    parser.add_argument("--rival-users", type=int, default=40, help="the first of the users, for each rival")
    parser.add_argument("--drift-users", type=int, default=16)
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    started = time.monotonic()
    engine = start_engine(POCKET_DIR, ROWS)
    with ThreadPoolExecutor(max(arguments.users, arguments.rival_users, arguments.drift_users)) as pool:
        bench = Bench(engine, pool, tuple(engine.model.principals))
        result = _measure(bench, arguments.users, arguments.rival_users, arguments.drift_users)
    engine.stop()
    result["machine"], result["seconds"] = machine(), time.monotonic() - started
    arguments.out.mkdir(parents=True, exist_ok=True)
    print(write_report(result, arguments.out))


def _measure(bench: Bench, users: int, rival_users: int, drift_users: int) -> dict[str, Any]:
    names = bench.principals
    uniform = (1.0 / len(names),) * len(names)
    makers: dict[str, tuple[int, Callable[[int], WeightLearner]]] = {
        "this learner": (users, lambda user: Leader(names, CONSTANTS)),
        "Thompson": (rival_users, lambda user: Leader(names, CONSTANTS, explorer=np.random.default_rng(user))),
        "exponentiated gradient": (rival_users, lambda user: ExponentiatedGradient(names, CONSTANTS)),
        "no learning": (rival_users, lambda user: NoLearning(names)),
    }
    tastes = [TASTES[user % len(TASTES)] for user in range(users)]
    prior = bench.fixed(users, lambda user: (uniform, tastes[user]))
    oracle = bench.fixed(users, lambda user: (bench.as_weights(tastes[user]), tastes[user]))
    result: dict[str, Any] = {
        "settings": {
            "thumbs": THUMBS,
            "strength": STRENGTH,
            "mode": MODE,
            "held_out_answers_per_user_and_checkpoint": HELD_OUT_ANSWERS,
            "window": WINDOW,
            "drift_thumbs_before_and_after": DRIFT_THUMBS,
        },
        "utility": {"prior": float(np.mean(prior)), "oracle": float(np.mean(oracle))},
        "learners": {},
    }
    for name, (number, make) in makers.items():
        courses = bench.courses(number, make, measured=name != "no learning")
        result["learners"][name] = {
            "users": number,
            **gap_figures(courses, names, prior[:number], oracle[:number]),
            **regret_figures(courses, names, CONSTANTS),
        }
        _say(name, result["learners"][name])
    result["drift"] = {"users": drift_users, **_measure_drift(bench, drift_users)}
    _say("drift", result["drift"])
    return result


def _measure_drift(bench: Bench, users: int) -> dict[str, Any]:
    def before(user: int) -> tuple[Sequence[float], Taste]:
        old, new = drift_tastes(user)
        return bench.as_weights(old), new

    def after(user: int) -> tuple[Sequence[float], Taste]:
        new = drift_tastes(user)[1]
        return bench.as_weights(new), new

    floor, ceiling = np.mean(bench.fixed(users, before)), np.mean(bench.fixed(users, after))
    return {
        name: drift_figures(bench.drifts(users, window), DRIFT_THUMBS[0], float(floor), float(ceiling))
        for name, window in (("without window", None), (f"window of {WINDOW}", WINDOW))
    }


def _say(name: str, figures: dict[str, Any]) -> None:
    short = {key: value for key, value in figures.items() if not key.startswith("curve")}
    print(time.strftime("%H:%M:%S"), name, json.dumps(short, default=float), flush=True)


if __name__ == "__main__":
    main()
