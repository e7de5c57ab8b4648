"""Committed reserves against the equilibrium of every token, on the same prompts: ``python -m bench.committed``.

Token contexts come from answers to other prompts; the learner's incentives on them give the reserves. For each weight
vector: the utility of the answers under these weights, KL to the base per token, and time per answer. Writes
``bench/results/committed.json``.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch

from bench.machine import machine
from cage_core.engine import Answer, DecodeRequest, Engine, Sampling, Steering
from cage_core.pocket import POCKET_DIR
from cage_core.pocket.corpus import Corpus
from cage_core.pocket.scorers import SCORERS
from learner.incentives import allocate
from learner.simulated_engine import MAX_TOKENS, start_engine
from learner.simulation import mixed_taste, pure_taste, utility
from learner.store.generations import StoredContext

RESULTS = Path(__file__).parent / "results" / "committed.json"
PROMPTS = 60
STRENGTH = 3.0
ROWS = 200
WEIGHTS: Mapping[str, Mapping[str, float]] = {
    "even": dict.fromkeys(SCORERS, 1.0 / len(SCORERS)),
    "caution": pure_taste("caution"),
    "detail and brevity": mixed_taste("detail", "brevity"),
    "caution and warmth": mixed_taste("caution", "warmth"),
}


def decode(engine: Engine, prompts: list[str], steering: Steering) -> tuple[list[Answer], float]:
    """Answers, all asked at once, and the seconds that it took."""

    def ask(number: int) -> Answer:
        rows = engine.model.plan_rows([{"role": "user", "content": prompts[number]}], steering.weights)
        return engine.answer(DecodeRequest(rows=rows, steering=steering, sampling=Sampling(MAX_TOKENS, number)))

    begun = time.perf_counter()
    with ThreadPoolExecutor(len(prompts)) as pool:
        answers = list(pool.map(ask, range(len(prompts))))
    return answers, time.perf_counter() - begun


def figures(answers: list[Answer], seconds: float, weights: Mapping[str, float]) -> dict[str, float]:
    """Means over the answers, with the standard error of the utility."""
    worth = [utility(weights, answer.text) for answer in answers]
    tokens = sum(answer.completion_tokens for answer in answers)
    return {
        "utility": statistics.fmean(worth),
        "utility_standard_error": statistics.stdev(worth) / len(worth) ** 0.5,
        "kl_nats_per_token": statistics.fmean(answer.mean_kl_nats for answer in answers),
        "tokens_per_answer": tokens / len(answers),
        "milliseconds_per_token": 1000 * seconds / tokens,
        "mean_gap": statistics.fmean(answer.mean_gap for answer in answers),
    }


def compare(engine: Engine, weights: Mapping[str, float], held_out: list[str], others: list[str]) -> dict[str, Any]:
    """Both modes under one weight vector."""
    seen, _ = decode(engine, others, Steering(weights, STRENGTH, "equilibrium"))
    contexts = [
        StoredContext(answer.principals, each.base_log_probs, each.rewards)
        for answer in seen
        for each in answer.contexts
    ]
    allocation = allocate(contexts, weights, STRENGTH)
    if allocation is None:
        raise RuntimeError("no answer left a token context")
    reserves = dict(zip(allocation.principals, allocation.reserves, strict=True))
    equilibrium = decode(engine, held_out, Steering(weights, STRENGTH, "equilibrium"))
    committed = decode(engine, held_out, Steering(weights, STRENGTH, "committed", reserves=reserves))
    return {
        "contexts": allocation.context_count,
        "best_responses_settled": allocation.converged,
        "reserves": reserves,
        "equilibrium": figures(*equilibrium, weights),
        "committed": figures(*committed, weights),
    }


def main() -> None:
    """Measure, write, print."""
    torch.set_num_threads(1)
    prompts = Corpus(11).held_out_prompts(2 * PROMPTS)
    held_out, others = prompts[:PROMPTS], prompts[PROMPTS:]
    engine = start_engine(POCKET_DIR, ROWS)
    base = figures(*decode(engine, held_out, Steering(WEIGHTS["even"], 0.0, "base")), WEIGHTS["even"])
    result: dict[str, Any] = {
        "machine": machine(),
        "prompts": PROMPTS,
        "strength": STRENGTH,
        "base": base,
        "weights": {name: compare(engine, weights, held_out, others) for name, weights in WEIGHTS.items()},
    }
    engine.stop()
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps(result, indent=2) + "\n")
    for name, each in result["weights"].items():
        print(name, json.dumps({mode: each[mode] for mode in ("equilibrium", "committed")}, default=float))


if __name__ == "__main__":
    main()
