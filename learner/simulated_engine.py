"""Simulated users before a real engine. Imports torch, so nothing that a worker runs imports this."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from random import Random

from cage_core.engine import DecodeRequest, Engine, EngineLimits, LanguageModel, Sampling, Steering
from cage_core.pocket.questions import topic_question
from cage_core.pocket.topics import read_topics
from cage_core.principals.catalogue import find_principals
from learner.simulation import Ask, Reply

MAX_TOKENS = 160


def start_engine(model_directory: Path, rows: int) -> Engine:
    """An engine with the model's own principals, decoding; many threads may ask it at once."""
    model = LanguageModel(model_directory, find_principals(model_directory / "principals"))
    engine = Engine(model, EngineLimits(num_rows=rows, num_waiting=1000))
    engine.start()
    return engine


def asking(engine: Engine, seed: int, *, strength: float, mode: str, held_out: bool = False) -> Ask:
    """A stream of questions: the same seed and number, the same question and luck of sampling."""
    topics = read_topics()

    def ask(weights: Mapping[str, float], number: int) -> Reply:
        luck = Random(f"{seed} {number}")
        question = topic_question(luck, luck.choice(topics), held_out=held_out)
        answer = engine.answer(
            DecodeRequest(
                rows=engine.model.plan_rows([{"role": "user", "content": question}], weights),
                steering=Steering(weights, strength, mode),
                sampling=Sampling(MAX_TOKENS, luck.getrandbits(63)),
            )
        )
        return Reply(answer.text, answer.features)

    return ask
