"""Time of one call of the solver, beside the published settings on the same games in the same run.

python -m bench.solver --out bench/results/solver.json
python -m bench.solver --device cuda --out bench/results/solver_cuda.json
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench.machine import machine
from bench.published import solve_as_published
from cage_core.equilibrium import Equilibrium, equilibrium_gap, fits_on_device, solve_equilibrium, solve_on_device
from cage_core.game import Game

SHAPES = [(1, 3, 50), (1, 4, 50), (8, 4, 50), (32, 4, 50), (64, 3, 50), (64, 8, 128), (1, 3, 49_152)]
TEMPERATURE = 0.1
PUBLISHED_GAMES = 20


def random_game(shape: tuple[int, int, int], dtype: torch.dtype, device: str, seed: int, scale: float = 1.0) -> Game:
    """Normal payoffs over a random base policy: [batch, principals, candidates]."""
    batch, principals, tokens = shape
    generator = torch.Generator().manual_seed(seed)
    base = torch.log_softmax(2 * torch.randn(batch, tokens, generator=generator, dtype=torch.float64), dim=-1)
    payoffs = scale * torch.randn(batch, principals, tokens, generator=generator, dtype=torch.float64)
    return Game(base.to(device, dtype), payoffs.to(device, dtype), TEMPERATURE)


def microseconds(call: Callable[[], object], device: str, seconds: float = 1.0) -> float:
    """Median wall time of a call, after a warm-up."""
    call()
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < 10 or time.perf_counter() < end:
        started = time.perf_counter()
        call()
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - started)
    return 1e6 * statistics.median(times)


def measure(shape: tuple[int, int, int], dtype: torch.dtype, device: str) -> dict[str, Any]:
    """Median of calls on five different games, cold and warm started."""
    cold, warm, answers = [], [], []
    for seed in range(5):
        game = random_game(shape, dtype, device, seed)
        answer = solve_equilibrium(game)
        cold.append(microseconds(partial(solve_equilibrium, game), device, 0.4))
        start = answer.reserves + 0.01
        warm.append(microseconds(partial(solve_equilibrium, game, start), device, 0.2))
        answers.append(answer)
    return {
        "batch": shape[0],
        "principals": shape[1],
        "candidates": shape[2],
        "dtype": str(dtype).removeprefix("torch."),
        "microseconds_per_call": round(statistics.median(cold), 1),
        "microseconds_per_game": round(statistics.median(cold) / shape[0], 2),
        "warm_microseconds_per_call": round(statistics.median(warm), 1),
        "mean_iterations": round(statistics.mean(float(a.iterations.double().mean()) for a in answers), 2),
        "most_iterations": max(int(a.iterations.max()) for a in answers),
        "largest_gap": max(float(a.gap.max()) for a in answers),
        "unconverged": sum(int((~a.converged).sum()) for a in answers),
    }


def device_microseconds(call: Callable[[], object], repetitions: int = 200) -> float:
    """Median time of a call on the GPU's clock, from one event to the next, its waiting for Python included."""
    for _ in range(10):
        call()
    times: list[float] = []
    for _ in range(repetitions):
        started, ended = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        started.record()
        call()
        ended.record()
        ended.synchronize()
        times.append(1e3 * float(started.elapsed_time(ended)))
    return statistics.median(times)


def measure_on_device(shape: tuple[int, int, int], dtype: torch.dtype) -> dict[str, Any]:
    """The fused kernel alone: called from Python and replayed in a CUDA graph, cold and warm started."""
    game = random_game(shape, dtype, "cuda", 0)
    unchecked = Game.unchecked(game.base_log_probs, game.payoffs, game.temperatures())
    answer = solve_on_device(unchecked)
    row: dict[str, Any] = {
        "batch": shape[0],
        "principals": shape[1],
        "candidates": shape[2],
        "dtype": str(dtype).removeprefix("torch."),
    }
    for name, start in (("cold", None), ("warm", answer.reserves + 0.01)):
        call = partial(solve_on_device, unchecked, start)
        graph = torch.cuda.CUDAGraph()
        call()
        torch.cuda.synchronize()
        with torch.cuda.graph(graph):
            replayed = call()
        row[f"{name}_microseconds_per_call"] = round(device_microseconds(call), 1)
        row[f"{name}_microseconds_per_graph_replay"] = round(device_microseconds(graph.replay), 1)
        row[f"{name}_most_iterations"] = int(replayed.iterations.max())
        row[f"{name}_largest_gap"] = float(replayed.gap.max())
        row[f"{name}_unconverged"] = int((~replayed.converged).sum())
    return row


def compare_with_published(principals: int, scale: float, initial_share: float) -> dict[str, Any]:
    """Published settings against the exact solver, one core, N = 50."""
    shape = (1, principals, 50)
    theirs, ours, variations, agreements, gaps, stopped = [], [], [], [], [], 0
    for seed in range(PUBLISHED_GAMES):
        game = random_game(shape, torch.float64, "cpu", 1000 + seed, scale)
        exact: Equilibrium = solve_equilibrium(game)
        ours.append(microseconds(partial(solve_equilibrium, game), "cpu", 0.02))
        base, payoffs = game.base_log_probs[0].numpy(), game.payoffs[0].numpy()
        started = time.perf_counter()
        published = solve_as_published(base, payoffs, TEMPERATURE, initial_share)
        theirs.append(1e6 * (time.perf_counter() - started))
        policy = exact.policy[0].numpy()
        variations.append(0.5 * float(np.abs(published.policy - policy).sum()))
        agreements.append(int(published.policy.argmax() == policy.argmax()))
        gaps.append(float(equilibrium_gap(game, torch.from_numpy(published.incentives)[None])))
        stopped += published.stopped_by_itself
    return {
        "principals": principals,
        "payoff_scale": scale,
        "initial_share": initial_share,
        "games": PUBLISHED_GAMES,
        "published_microseconds_per_call": round(statistics.median(theirs)),
        "microseconds_per_call": round(statistics.median(ours), 1),
        "ratio": round(statistics.median(theirs) / statistics.median(ours)),
        "median_total_variation": round(statistics.median(variations), 3),
        "argmax_agreement": round(statistics.mean(agreements), 3),
        "median_published_gap": round(statistics.median(gaps), 4),
        "met_own_stopping_rule": stopped,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows, fused, comparisons = [], [], []
    for dtype in (torch.float64, torch.float32):
        for shape in SHAPES:
            rows.append(measure(shape, dtype, arguments.device))
            print(json.dumps(rows[-1]), flush=True)
            if arguments.device == "cuda" and fits_on_device(random_game(shape, dtype, "cuda", 0)):
                fused.append(measure_on_device(shape, dtype))
                print(json.dumps(fused[-1]), flush=True)
    if arguments.device == "cpu":
        for principals, scale in [(2, 1.5), (3, 1.0)]:
            for initial_share in (0.0, 0.5):
                comparisons.append(compare_with_published(principals, scale, initial_share))
                print(json.dumps(comparisons[-1]), flush=True)
    if arguments.out is not None:
        report = {
            **machine(),
            "device": arguments.device if arguments.device == "cpu" else torch.cuda.get_device_name(),
            "threads": 1,
            "temperature": TEMPERATURE,
            "calls": rows,
            "fused_kernel": fused,
            "published_settings": comparisons,
        }
        arguments.out.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
