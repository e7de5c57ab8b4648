"""The regret within an answer and its bound, as the engine returns them with its answers."""

from __future__ import annotations

import statistics
from typing import Any

from bench.evaluation.design import Size, evaluated
from bench.evaluation.laboratory import CONTEXT_TOKENS, MAX_TOKENS, Laboratory, asked
from cage_core.engine import Answer, DecodeRequest, Engine, EngineLimits, LanguageModel, Sampling, Steering
from cage_core.pocket import POCKET_DIR
from cage_core.principals.catalogue import find_principals

_STRENGTHS = {"balanced": 4.0, "budgeted": 6.0}


def certificates(lab: Laboratory, size: Size) -> list[dict[str, Any]]:
    """Four objectives at equal weights, at about 0.05 nats a token."""
    model = LanguageModel(POCKET_DIR, find_principals(POCKET_DIR / "principals"), longest_tokens=CONTEXT_TOKENS)
    engine = Engine(model, EngineLimits(num_rows=1 + len(model.principals)))
    engine.start()
    rows = [_certificate(mode, strength, engine, size.strength_prompts) for mode, strength in _STRENGTHS.items()]
    engine.stop()
    return rows


def _certificate(mode: str, strength: float, engine: Engine, count: int) -> dict[str, Any]:
    steering = Steering(dict.fromkeys(engine.model.principals, 1 / len(engine.model.principals)), strength, mode)
    answers = [_answer(engine, steering, question.text, question.seed) for question in asked(evaluated(count))]
    regrets = [answer.sequential_regret_nats or 0.0 for answer in answers]
    bounds = [answer.sequential_bound_nats or 0.0 for answer in answers]
    return {
        "method": mode,
        "answers": count,
        "mean_regret_nats": statistics.fmean(regrets),
        "largest_regret_nats": max(regrets),
        "mean_bound_nats": statistics.fmean(bounds),
        "beyond_bound": sum(regret > bound for regret, bound in zip(regrets, bounds, strict=True)),
    }


def _answer(engine: Engine, steering: Steering, text: str, seed: int) -> Answer:
    rows = engine.model.plan_rows([{"role": "user", "content": text}], steering.weights)
    return engine.answer(DecodeRequest(rows, steering, Sampling(MAX_TOKENS, seed)))
