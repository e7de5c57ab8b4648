"""Solve many games built to be nasty and report every one that is not certified.

    python -m bench.solver_robustness --games 200000 --out bench/results/solver_robustness.json

Two gaps per game: the solver's own certificate, and `equilibrium_gap` of the incentives it returned, computed
by other code from nothing but the game and those incentives.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray

from bench.machine import machine
from cage_core.equilibrium import equilibrium_gap, solve_equilibrium
from cage_core.game import Game

Floats = NDArray[np.float64]
BATCH = 50


@dataclass
class Tally:
    """What one family of games showed; gaps in payoff units and in units of the temperature."""

    games: int = 0
    unconverged: int = 0
    largest_gap: float = 0.0
    largest_gap_per_temperature: float = 0.0
    largest_independent_gap: float = 0.0
    largest_payoff: float = 0.0
    most_iterations: int = 0
    seconds: float = 0.0
    float32_games: int = 0
    float32_unconverged: int = 0
    float32_largest_gap_per_temperature: float = 0.0
    float32_rounded_gap_per_temperature: float = 0.0

    def add(self, game: Game) -> None:
        started = time.perf_counter()
        answer = solve_equilibrium(game)
        self.seconds += time.perf_counter() - started
        temperatures = game.temperatures()
        self.games += answer.gap.numel()
        self.unconverged += int((~answer.converged).sum())
        self.largest_gap = max(self.largest_gap, float(answer.gap.max()))
        relative = float((answer.gap / temperatures).max())
        self.largest_gap_per_temperature = max(self.largest_gap_per_temperature, relative)
        independent = float(equilibrium_gap(game, answer.incentives).nan_to_num(torch.inf).max())
        self.largest_independent_gap = max(self.largest_independent_gap, independent)
        self.largest_payoff = max(self.largest_payoff, float(game.payoffs.abs().max()))
        self.most_iterations = max(self.most_iterations, int(answer.iterations.max()))

    def add_single_precision(self, game: Game) -> None:
        single = Game(game.base_log_probs.float(), game.payoffs.float(), game.temperatures().float())
        answer = solve_equilibrium(single)
        temperatures = single.temperatures()
        self.float32_games += answer.gap.numel()
        self.float32_unconverged += int((~answer.converged).sum())
        relative = float((answer.gap.double() / temperatures).max())
        self.float32_largest_gap_per_temperature = max(self.float32_largest_gap_per_temperature, relative)
        rounded = float((equilibrium_gap(single, answer.incentives) / temperatures).nan_to_num(torch.inf).max())
        self.float32_rounded_gap_per_temperature = max(self.float32_rounded_gap_per_temperature, rounded)


def ordinary(rng: Generator, principals: int, tokens: int) -> Game:
    """Normal payoffs, temperatures 0.02 to 2, payoff scales 0.1 to 5."""
    payoffs = rng.normal(size=(BATCH, principals, tokens)) * 10 ** rng.uniform(-1, 0.7, size=(BATCH, 1, 1))
    return _game(rng, payoffs, 10 ** rng.uniform(np.log10(0.02), np.log10(2.0), size=BATCH))


def tied(rng: Generator, principals: int, tokens: int) -> Game:
    """Payoffs on a coarse grid, so that many tokens and principals tie exactly."""
    payoffs = 0.5 * rng.integers(-2, 3, size=(BATCH, principals, tokens)).astype(np.float64)
    return _game(rng, payoffs, _temperatures(rng))


def collinear(rng: Generator, principals: int, tokens: int) -> Game:
    """All principals want the same, more or less strongly; some identical, some all but."""
    common = rng.normal(size=(BATCH, 1, tokens))
    strength = rng.choice([0.5, 1.0, 2.0], size=(BATCH, principals, 1))
    noise = rng.choice([0.0, 1e-12, 1e-6], size=(BATCH, principals, 1))
    return _game(rng, common * strength + noise * rng.normal(size=(BATCH, principals, tokens)), _temperatures(rng))


def opposed(rng: Generator, principals: int, tokens: int) -> Game:
    """Every principal wants one thing or exactly its opposite."""
    common = rng.normal(size=(BATCH, 1, tokens)) * 10 ** rng.uniform(-1, 1, size=(BATCH, 1, 1))
    return _game(rng, common * rng.choice([-1.0, 1.0], size=(BATCH, principals, 1)), _temperatures(rng))


def heavy_tailed(rng: Generator, principals: int, tokens: int) -> Game:
    """Cauchy payoffs, cut at ten million: a few tokens matter a million times more than the rest."""
    payoffs = rng.standard_cauchy(size=(BATCH, principals, tokens)).clip(-1e7, 1e7)
    return _game(rng, payoffs, _temperatures(rng))


def extreme_temperature(rng: Generator, principals: int, tokens: int) -> Game:
    """Temperatures from 0.001 to 1,000."""
    return _game(rng, rng.normal(size=(BATCH, principals, tokens)), 10 ** rng.uniform(-3, 3, size=BATCH))


def several_equilibria(rng: Generator, principals: int, tokens: int) -> Game:
    """Each principal abhors one token the others like: games with more than one equilibrium."""
    rare = 10 ** rng.uniform(-2, -0.7, size=(BATCH, 1)) * np.ones((BATCH, principals)) / principals
    payoffs = np.zeros((BATCH, principals, principals + 1))
    payoffs[:, :, 1:] = rng.uniform(0.1, 0.6, size=(BATCH, 1, 1))
    for principal in range(principals):
        payoffs[:, principal, principal + 1] = -rng.uniform(1.0, 1.2, size=BATCH) / rare[:, principal]
    likes = (principals - 1) * payoffs.max(axis=(1, 2))
    log_base = np.log(rare) - likes[:, None]
    base = np.concatenate([np.log1p(-rare.sum(axis=1, keepdims=True)), log_base], axis=1)
    return Game(torch.from_numpy(base), torch.from_numpy(payoffs), torch.ones(BATCH, dtype=torch.float64))


def impossible_tokens(rng: Generator, principals: int, tokens: int) -> Game:
    """Half of the candidates have no probability, and some principals are indifferent."""
    game = ordinary(rng, principals, tokens)
    impossible = torch.from_numpy(rng.random((BATCH, tokens)) < 0.5)
    impossible[:, 0] = False
    indifferent = torch.from_numpy(rng.random((BATCH, principals, 1)) < 0.3)
    base = game.base_log_probs.masked_fill(impossible, -torch.inf)
    return Game(base, game.payoffs.masked_fill(indifferent, 0.0), game.temperature)


FAMILIES: dict[str, Callable[[Generator, int, int], Game]] = {
    family.__name__: family
    for family in (
        ordinary,
        tied,
        collinear,
        opposed,
        heavy_tailed,
        extreme_temperature,
        several_equilibria,
        impossible_tokens,
    )
}


def _temperatures(rng: Generator) -> Floats:
    return np.power(10.0, rng.uniform(-2.5, 1.0, size=BATCH))


def _game(rng: Generator, payoffs: Floats, temperatures: Floats) -> Game:
    logits = rng.normal(size=(BATCH, payoffs.shape[-1])) * rng.uniform(0.0, 4.0, size=(BATCH, 1))
    return Game(torch.from_numpy(logits), torch.from_numpy(payoffs), torch.from_numpy(temperatures))


def _games(rng: Generator, build: Callable[[Generator, int, int], Game], count: int, most: int) -> Iterator[Game]:
    for _ in range(max(1, count // BATCH)):
        yield build(rng, int(rng.integers(1, most + 1)), int(rng.integers(2, 201)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--games", type=int, default=2000, help="games over all families")
    parser.add_argument("--principals", type=int, default=16, help="most principals in a game")
    parser.add_argument("--families", nargs="*", default=list(FAMILIES), choices=list(FAMILIES))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    tallies: dict[str, Tally] = {}
    for name in arguments.families:
        rng = np.random.default_rng([arguments.seed, list(FAMILIES).index(name)])
        tally = tallies[name] = Tally()
        count = arguments.games // len(arguments.families)
        for index, game in enumerate(_games(rng, FAMILIES[name], count, arguments.principals)):
            tally.add(game)
            if index % 10 == 0:
                tally.add_single_precision(game)
        print(f"{name:20s} {json.dumps(asdict(tally))}", flush=True)
    total = {
        "games": sum(tally.games for tally in tallies.values()),
        "unconverged": sum(tally.unconverged for tally in tallies.values()),
        "largest_gap": max(tally.largest_gap for tally in tallies.values()),
        "float32_unconverged": sum(tally.float32_unconverged for tally in tallies.values()),
        "float32_largest_gap_per_temperature": max(
            tally.float32_largest_gap_per_temperature for tally in tallies.values()
        ),
    }
    print(f"{'all':20s} {json.dumps(total)}")
    if arguments.out is not None:
        families = {name: asdict(tally) for name, tally in tallies.items()}
        report = {**machine(), "seed": arguments.seed, "total": total, "families": families}
        arguments.out.write_text(json.dumps(report, indent=2) + "\n")
    if total["unconverged"] or total["largest_gap"] > 1e-8:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
