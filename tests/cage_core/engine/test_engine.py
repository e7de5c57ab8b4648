"""The decode loop: what is in the batch never shows in an answer, and no request ends another."""

import queue
import random
import threading
import time
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from cage_core.engine import (
    CandidateFilter,
    DecodeRequest,
    Engine,
    EngineLimits,
    Event,
    Failed,
    Finished,
    LanguageModel,
    Sampling,
    Steering,
    TextDelta,
)
from cage_core.engine.rows import BASE_NETWORK, Row, RowPlanner
from cage_core.errors import DeadlineExceeded, EngineFull, EngineStopped, InvalidDecodeRequest

ADAPTERS = {"brisk": 1, "calm": 2, "kind": 3}


def request(seed: int = 0, *, max_tokens: int = 24, **steering: Any) -> DecodeRequest:
    steered = Steering(**{"weights": {"calm": 0.5, "kind": 0.5}, **steering})
    planner = RowPlanner(tuple(range(40, 52 + seed % 5)))
    for name in steered.weights:
        planner.reward(planner.row(Row(BASE_NETWORK, ADAPTERS[name], planner.base_prompt)))
    return DecodeRequest(planner.plan(), steered, Sampling(max_tokens=max_tokens, seed=seed))


def test_an_answer_streams_and_ends(engine: Engine) -> None:
    events: queue.Queue[Event] = queue.Queue()
    engine.submit(request(), events.put)
    pieces = []
    while isinstance(event := events.get(timeout=30), TextDelta):
        pieces.append(event.text)
    assert isinstance(event, Finished)
    assert "".join(pieces) == event.answer.text
    assert event.answer.completion_tokens <= 24
    assert event.answer.prompt_tokens == 12


def test_same_seed_same_answer_whatever_else_runs(engine: Engine) -> None:
    alone = [engine.answer(request(seed)) for seed in range(6)]
    together: dict[int, object] = {}

    def decode(seed: int) -> None:
        together[seed] = engine.answer(request(seed, max_tokens=24))

    threads = [threading.Thread(target=decode, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [together[seed].text for seed in range(6)] == [a.text for a in alone]  # type: ignore[attr-defined]


def test_a_random_schedule_of_joins_and_cancels_changes_no_other_answer(engine: Engine) -> None:
    expected = {seed: engine.answer(request(seed, max_tokens=10 + seed)).text for seed in range(5)}
    chance = random.Random(7)
    for _ in range(6):
        results: dict[int, queue.Queue[Event]] = {}
        for seed in chance.sample(range(5), k=5):
            results[seed] = queue.Queue()
            engine.submit(request(seed, max_tokens=10 + seed), results[seed].put)
            victim = engine.submit(request(50 + seed, max_tokens=60), lambda event: None)
            threading.Timer(chance.uniform(0, 0.02), victim.cancel).start()
        for seed, events in results.items():
            while not isinstance(event := events.get(timeout=30), Finished):
                assert isinstance(event, TextDelta)
            assert event.answer.text == expected[seed]


def test_modes_and_principal_sets_mix_in_one_batch(engine: Engine) -> None:
    mixed = [
        request(1, mode="linear"),
        request(2, mode="base", weights={"brisk": 1.0}),
        request(3, weights={"calm": 0.2, "brisk": 0.3, "kind": 0.5}, strength=2.0),
    ]
    alone = [engine.answer(r).text for r in mixed]
    queues: list[queue.Queue[Event]] = [queue.Queue() for _ in mixed]
    for r, events in zip(mixed, queues, strict=True):
        engine.submit(r, events.put)
    for text, events in zip(alone, queues, strict=True):
        while not isinstance(event := events.get(timeout=30), Finished):
            pass
        assert event.answer.text == text


def test_no_strength_is_the_base(engine: Engine) -> None:
    assert engine.answer(request(4, strength=0.0)).text == engine.answer(request(4, mode="base")).text


def test_features_point_towards_the_principal_that_steers(engine: Engine) -> None:
    def mean_feature(strength: float) -> float:
        answers = [engine.answer(request(seed, weights={"calm": 1.0}, strength=strength)) for seed in range(12)]
        return float(np.mean([a.features[0] for a in answers]))

    assert mean_feature(4.0) > mean_feature(0.0)


def test_the_gap_is_certified_small_and_contexts_are_kept(engine: Engine) -> None:
    answer = engine.answer(request(5))
    assert answer.largest_gap <= 1e-8
    assert 0 < len(answer.contexts) <= 4
    for context in answer.contexts:
        assert np.exp(context.base_log_probs).sum() == pytest.approx(1)
        assert np.shape(context.rewards) == (2, len(context.base_log_probs))


def test_a_receiver_that_fails_loses_only_its_own_answer(engine: Engine) -> None:
    def broken(event: Event) -> None:
        raise RuntimeError("client is gone")

    engine.submit(request(6), broken)
    assert engine.answer(request(7)).completion_tokens > 0


def test_stopping_fails_what_is_unfinished(model: LanguageModel) -> None:
    engine = Engine(model)
    events: queue.Queue[Event] = queue.Queue()
    engine.submit(request(8), events.put)
    engine.start()
    engine.stop()
    seen = [events.get(timeout=5) for _ in range(events.qsize())]
    assert isinstance(seen[-1], (Failed, Finished))
    with pytest.raises(EngineStopped):
        engine.submit(request(9), events.put)


def test_a_full_queue_refuses(model: LanguageModel) -> None:
    engine = Engine(model, EngineLimits(num_rows=3, num_waiting=1))
    first = engine.submit(request(0), lambda event: None)
    with pytest.raises(EngineFull):
        engine.submit(request(1), lambda event: None)
    first.cancel()
    engine.submit(request(1), lambda event: None)


def test_a_loop_that_breaks_leaves_nobody_waiting(model: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine(model)
    engine.start()
    assert engine.is_running

    def broken() -> None:
        raise RuntimeError("the device is gone")

    monkeypatch.setattr(engine._batch, "step", broken)
    with pytest.raises(EngineStopped):
        engine.answer(request(1))
    with pytest.raises(EngineStopped):
        engine.answer(request(2))
    assert not engine.is_running


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (request(mode="duel"), "unknown mode 'duel'; known modes:"),
        (request(weights={}), "at least one principal"),
        (request(weights={"calm": -0.1}), "calm must be a finite number >= 0"),
        (request(weights={"calm": float("nan")}), "calm must be a finite number >= 0"),
        (request(strength=float("inf")), "strength must be a finite number >= 0"),
        (request(balance=-1.0), "balance must be a finite number >= 0"),
        (request(kl_budget_nats=0.0), "a KL budget is a finite number of nats > 0"),
        (request(kl_budget_nats=0.1, mode="base"), "for the modes equilibrium, linear, balanced, budgeted"),
        (request(mode="committed"), "needs a reserve for every principal"),
        (replace(request(), steering=Steering({"calm": 1.0})), "planned for other principals"),
        (request(max_tokens=1000), "prompt of 12 tokens plus max_tokens 1000 exceed the context of 256"),
        (request(max_tokens=0), "at least one token"),
    ],
)
def test_bad_requests_are_refused_at_once(engine: Engine, bad: DecodeRequest, message: str) -> None:
    with pytest.raises(InvalidDecodeRequest, match=message):
        engine.submit(bad, lambda event: None)


def test_a_deadline_ends_its_own_answer_only(engine: Engine) -> None:
    events: queue.Queue[Event] = queue.Queue()
    engine.submit(replace(request(1, max_tokens=200), deadline_seconds=time.monotonic()), events.put)
    assert engine.answer(request(2)).completion_tokens > 0
    while isinstance(event := events.get(timeout=30), TextDelta):
        pass
    assert isinstance(event, Failed)
    assert isinstance(event.error, DeadlineExceeded)


def test_a_trace_explains_every_token(engine: Engine) -> None:
    answer = engine.answer(replace(request(3, strength=2.0), traced=True))
    assert len(answer.traces) == answer.completion_tokens
    for trace in answer.traces:
        assert 0 < trace.base_probability <= 1
        assert 0 < trace.probability <= 1 + 1e-12
        assert len(trace.incentives) == len(trace.reserves) == 2
        assert min(trace.incentives) >= 0
    assert engine.answer(request(3, strength=2.0)).traces == ()


def test_candidates_are_a_requests_own(engine: Engine) -> None:
    narrow = replace(request(4), candidates=CandidateFilter(top_k=1))
    greedy = replace(
        request(4), sampling=Sampling(24, 0, temperature=0), steering=replace(request(4).steering, strength=0)
    )
    events: queue.Queue[Event] = queue.Queue()
    engine.submit(request(5), events.put)
    assert engine.answer(narrow).text == engine.answer(greedy).text


def test_balance_favours_whom_the_answer_has_served_least(engine: Engine) -> None:
    def worst(balance: float) -> float:
        answers = [engine.answer(request(seed, mode="linear", strength=3.0, balance=balance)) for seed in range(40)]
        return float(np.min(np.mean([a.features for a in answers], axis=0)))

    assert worst(1.0) > worst(0.0)


@pytest.mark.parametrize("mode", ["equilibrium", "linear"])
def test_a_kl_budget_is_spent_and_not_overdrawn(engine: Engine, mode: str) -> None:
    answers = [engine.answer(request(seed, mode=mode, kl_budget_nats=0.05, max_tokens=40)) for seed in range(6)]
    spent = float(np.mean([a.mean_kl_nats for a in answers]))
    assert 0.04 < spent <= 0.05 + 1e-9


def test_committed_reserves_are_the_bids_themselves(engine: Engine) -> None:
    asked = request(3, mode="committed", reserves={"calm": 0.2, "kind": 0.3}, strength=2.0)
    answer = engine.answer(replace(asked, traced=True))
    assert all(trace.reserves == pytest.approx((0.2, 0.3)) for trace in answer.traces)


@pytest.mark.parametrize("mode", ["equilibrium", "linear"])
@pytest.mark.parametrize(
    "candidates", [CandidateFilter(), CandidateFilter(min_p=0.5), CandidateFilter(min_p=1.0), CandidateFilter(1)]
)
def test_a_trace_changes_no_answer(engine: Engine, candidates: CandidateFilter, mode: str) -> None:
    asked = replace(request(6, mode=mode, strength=2.0, balance=0.5), candidates=candidates)
    # A traced answer plays every token's game and names its prices; another one passes over what nobody asks for.
    played, passed_over = engine.answer(replace(asked, traced=True)), engine.answer(asked)
    assert played.traces
    assert (
        replace(passed_over, traces=played.traces, seconds=played.seconds, solver_seconds=played.solver_seconds)
        == played
    )
