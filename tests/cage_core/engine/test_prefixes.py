"""The next turn of a conversation starts where the last one ended, and answers as if it had not."""

import queue
from dataclasses import dataclass, replace
from typing import Any

import pytest
from transformers import Qwen2Config

from cage_core.engine import (
    Answer,
    DecodeRequest,
    Engine,
    EngineLimits,
    Event,
    Finished,
    LanguageModel,
    Sampling,
    Steering,
    TextDelta,
)
from cage_core.engine.prefixes import CONVERSATIONS_OF_A_SCOPE, KeptRow, PrefixStore, RowKind
from cage_core.engine.rows import RowPlan
from cage_core.principals.catalogue import find_principals
from tests.checkpoints import make_adapter, make_checkpoint, make_checkpoint_of, make_principal

NAMES = ("adapter", "prompt", "model")
SMALL: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "initializer_range": 0.3,
}


@pytest.fixture(scope="module", params=["compiled loops", "transformers"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    home = tmp_path_factory.mktemp("turns")
    for seed, name in enumerate(["base", "small", "small-tuned"]):
        if request.param == "compiled loops":
            make_checkpoint(home / name, seed=seed)
        else:
            make_checkpoint_of(Qwen2Config(**SMALL, max_position_embeddings=256), home / name, seed=seed)
    make_adapter(home / "base", home / "principals" / "adapter", seed=5)
    make_principal(home / "principals" / "prompt", kind="prompt", directive="Be brief.")
    make_principal(home / "principals" / "model", kind="model", tuned="../../small-tuned", base="../../small")
    return LanguageModel(home / "base", find_principals(home / "principals"))


def request(rows: RowPlan, scope: str | None, seed: int = 1) -> DecodeRequest:
    sampling = Sampling(24, seed, num_logprobs=2)
    return DecodeRequest(rows, Steering(dict.fromkeys(NAMES, 1.0)), sampling, conversation_scope=scope)


def turn(model: LanguageModel, texts: list[str]) -> RowPlan:
    roles = ["user", "assistant"] * len(texts)
    messages = [{"role": role, "content": text} for role, text in zip(roles, texts, strict=False)]
    return model.plan_rows(messages, NAMES)


def continued(plan: RowPlan, tokens: list[int], question: list[int]) -> RowPlan:
    """The rows of the next turn, token by token: what was asked, what was answered, and what is asked now."""
    return replace(plan, rows=tuple(replace(row, prompt=(*row.prompt, *tokens, *question)) for row in plan.rows))


def decode(engine: Engine, asked: DecodeRequest) -> tuple[Answer, list[int]]:
    """The answer, and its tokens."""
    traced = engine.answer(replace(asked, traced=True))
    return traced, [trace.token for trace in traced.traces]


def alike(one: Answer, other: Answer) -> None:
    assert one.text == other.text
    assert [entry.text for entry in one.logprobs] == [entry.text for entry in other.logprobs]
    assert [e.logprob for e in one.logprobs] == pytest.approx([e.logprob for e in other.logprobs], abs=1e-4)
    assert one.features == pytest.approx(other.features, abs=1e-4)


class Outcomes:
    """Requests that run together."""

    def __init__(self, engine: Engine, requests: list[DecodeRequest]) -> None:
        self._events: list[queue.Queue[Event]] = [queue.Queue() for _ in requests]
        pairs = zip(requests, self._events, strict=True)
        self._running = [engine.submit(asked, events.put) for asked, events in pairs]

    def wait(self) -> list[Answer]:
        answers = []
        for events in self._events:
            while not isinstance(event := events.get(timeout=30), Finished):
                assert isinstance(event, TextDelta)
            answers.append(event.answer)
        return answers

    def cancel_after_first_text(self) -> None:
        for running, events in zip(self._running, self._events, strict=True):
            assert isinstance(events.get(timeout=30), TextDelta)
            running.cancel()


def test_a_second_turn_reuses_every_row_and_answers_the_same(model: LanguageModel) -> None:
    engine = Engine(model, EngineLimits(num_rows=24))
    engine.start()
    plan = turn(model, ["How are you?"])
    _, tokens = decode(engine, request(plan, "ann"))
    second = continued(plan, tokens, [70, 71, 72])
    before = engine.prefixes.num_reused_tokens
    reused, _ = decode(engine, request(second, "ann", seed=2))
    num_reused = engine.prefixes.num_reused_tokens - before
    fresh, _ = decode(engine, request(second, None, seed=2))
    engine.stop()
    alike(reused, fresh)
    # All but the answer's last token, which no network has read, of every row.
    assert num_reused == sum(len(row.prompt) + len(tokens) - 1 for row in plan.rows)


def test_another_scope_finds_nothing(model: LanguageModel) -> None:
    engine = Engine(model, EngineLimits(num_rows=24))
    engine.start()
    plan = turn(model, ["How are you?"])
    decode(engine, request(plan, "ann"))
    decode(engine, request(plan, "bob"))
    decode(engine, request(plan, None))
    assert engine.prefixes.num_reused_tokens == 0
    engine.prefixes.forget("ann")
    decode(engine, request(plan, "ann"))
    engine.stop()
    assert engine.prefixes.num_reused_tokens == 0


def test_turns_of_many_conversations_in_one_batch(model: LanguageModel) -> None:
    alone, together = (Engine(model, EngineLimits(num_rows=24)) for _ in range(2))
    alone.start()
    together.start()
    first = [request(turn(model, [f"Question {n}?" * (n + 1)]), f"user {n}", seed=n) for n in range(4)]
    tokens = [decode(together, asked)[1] for asked in first]
    second = [
        replace(asked, rows=continued(asked.rows, said, list(range(60, 64 + n))))
        for n, (asked, said) in enumerate(zip(first, tokens, strict=True))
    ]
    expected = [alone.answer(replace(asked, conversation_scope=None)) for asked in second]
    outcomes = Outcomes(together, second)
    for answer, truth in zip(outcomes.wait(), expected, strict=True):
        alike(answer, truth)
    assert together.prefixes.num_reused_tokens > 0
    alone.stop()
    together.stop()


def test_a_turn_that_was_given_up_leaves_a_sound_prefix(model: LanguageModel) -> None:
    engine = Engine(model, EngineLimits(num_rows=24))
    engine.start()
    plan = turn(model, ["Tell me more."])
    Outcomes(engine, [replace(request(plan, "ann"), sampling=Sampling(200, 3))]).cancel_after_first_text()
    reused, _ = decode(engine, request(plan, "ann"))
    fresh, _ = decode(engine, request(plan, None))
    engine.stop()
    alike(reused, fresh)
    assert engine.prefixes.num_reused_tokens == sum(len(row.prompt) - 1 for row in plan.rows)


def test_little_memory_evicts_and_answers_all_the_same(model: LanguageModel) -> None:
    engine = Engine(model, EngineLimits(num_rows=24, prefix_bytes=40_000))
    engine.start()
    for n in range(6):
        plan = turn(model, [f"Question {n}?"])
        _, tokens = decode(engine, request(plan, f"user {n}"))
        assert engine.prefixes.num_bytes <= 40_000
        second = continued(plan, tokens, [70])
        alike(engine.answer(request(second, f"user {n}")), engine.answer(request(second, None)))
    engine.stop()


@dataclass(frozen=True)
class Sized:
    num_bytes: int


def kept(tokens: str, num_bytes: int = 10, adapter: int = 0) -> KeptRow:
    return KeptRow(RowKind(0, adapter), tuple(map(ord, tokens)), Sized(num_bytes))


def test_the_longest_unused_scope_goes_first() -> None:
    store = PrefixStore(25)
    store.keep("a", (kept("one"),))
    store.keep("b", (kept("two"),))
    assert store.find("a", RowKind(0, 0), list(map(ord, "one more")))[1] == 3
    store.keep("c", (kept("three"),))
    assert store.num_bytes == 20
    assert store.find("b", RowKind(0, 0), list(map(ord, "two more"))) == (None, 0)
    assert store.find("a", RowKind(0, 0), list(map(ord, "one more")))[1] == 3


def test_a_prefix_is_exact_and_leaves_a_token_to_run() -> None:
    store = PrefixStore(1000)
    store.keep("a", (kept("abcd"), kept("abxyz")))
    for prompt, length in [("abcdef", 4), ("abxyzq", 5), ("abcd", 3), ("ab", 1), ("a", 0), ("zabcd", 0)]:
        assert store.find("a", RowKind(0, 0), list(map(ord, prompt)))[1] == length
    assert store.find("a", RowKind(0, 1), list(map(ord, "abcdef"))) == (None, 0)
    assert store.find("a", RowKind(1, 0), list(map(ord, "abcdef"))) == (None, 0)


def test_a_turn_replaces_the_one_that_it_continues() -> None:
    store = PrefixStore(1000)
    store.keep("a", (kept("ab"), kept("xab", adapter=1)))
    store.keep("a", (kept("abcd"), kept("xabcd", adapter=1)))
    assert store.num_bytes == 20
    for n in range(10):
        store.keep("a", (kept(f"{n}"),))
    assert store.num_bytes == 10 * CONVERSATIONS_OF_A_SCOPE


def test_what_fits_into_no_memory_is_not_kept() -> None:
    store = PrefixStore(5)
    store.keep("a", (kept("ab"),))
    assert store.num_bytes == 0
