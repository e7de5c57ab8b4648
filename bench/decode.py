"""Tokens per second of the decode engine, where a step's time goes, and the plain way: `python -m bench.decode`.

One CPU core, the pocket model, four principals. The plain way is transformers' `generate` with a logits processor
that blends the same principals linearly, each a forward pass of its own with its own key-value cache, one request
after another, as published pipelines do it. Writes `bench/results/decode.json` and `.md`.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor
from transformers import AutoModelForCausalLM, DynamicCache, GenerationConfig, LogitsProcessor, LogitsProcessorList

from bench.machine import machine
from cage_core.engine import (
    CandidateFilter,
    DecodeRequest,
    Engine,
    Event,
    LanguageModel,
    Sampling,
    Steering,
)
from cage_core.engine.batch import Batch
from cage_core.engine.lanes import Lanes
from cage_core.engine.sequence import Sequence
from cage_core.pocket import POCKET_DIR
from cage_core.pocket.corpus import Corpus
from cage_core.principals.catalogue import find_principals

_RESULTS = Path(__file__).parent / "results"
_TOKENS = 64
_WEIGHT = 0.25
_CANDIDATES = CandidateFilter()
_CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


_clock = _CLOCKS["wall"]


def _seconds_now() -> float:
    return _clock()


@dataclass(frozen=True)
class EngineFigures:
    """One concurrency; medians over repetitions. Shares are of the time of a step."""

    requests: int
    tokens_per_second: float
    step_ms: float
    forward_share: float
    rest_share: float


class _TimedLanes:
    """The lanes, with a clock around the forward pass."""

    def __init__(self, lanes: Lanes) -> None:
        self._lanes = lanes
        self.seconds = 0.0

    def step(self, *arguments: Any) -> Tensor:
        started = _seconds_now()
        result = self._lanes.step(*arguments)
        self.seconds += _seconds_now() - started
        return result

    def __getattr__(self, name: str) -> Any:
        return getattr(self._lanes, name)


def engine_figures(model: LanguageModel, questions: list[str], mode: str, repetitions: int) -> EngineFigures:
    """Decode all questions together, `_TOKENS` tokens each."""
    rates, steps, shares = [], [], []
    for _ in range(repetitions):
        batch = Batch(model, num_rows=len(questions) * (1 + len(model.principals)))
        # End tokens are ordinary ones here, so that every repetition does the same work.
        batch._model = _Endless(model)  # type: ignore[assignment]
        batch.allocate()
        started = _seconds_now()
        batch.admit([_sequence(model, question, mode, seed) for seed, question in enumerate(questions)])
        lanes = _TimedLanes(batch._lanes)
        batch._lanes = lanes  # type: ignore[assignment]
        first_step = _seconds_now()
        num_steps = 0
        while len(batch):
            batch.step()
            num_steps += 1
        ended = _seconds_now()
        rates.append(_TOKENS * len(questions) / (ended - started))
        steps.append((ended - first_step) / num_steps)
        shares.append(lanes.seconds / (ended - first_step))
    forward = statistics.median(shares)
    return EngineFigures(
        len(questions), statistics.median(rates), 1000 * statistics.median(steps), forward, 1 - forward
    )


class _Endless:
    def __init__(self, model: LanguageModel) -> None:
        self.end_tokens: frozenset[int] = frozenset()
        self.lexicons = model.lexicons


def _sequence(model: LanguageModel, question: str, mode: str, seed: int) -> Sequence:
    names = list(model.principals)
    request = DecodeRequest(
        rows=model.plan_rows([{"role": "user", "content": question}], names),
        steering=Steering(dict.fromkeys(names, _WEIGHT), strength=1.0, mode=mode),
        sampling=Sampling(_TOKENS, seed),
        candidates=_CANDIDATES,
    )
    return Sequence(request, model.feature_scales(names), model.decode, lambda event: None)


class SeparateForwards(LogitsProcessor):
    """Linear blending with one forward pass a principal and step."""

    def __init__(self, principals: list[Any]) -> None:
        self._principals = principals
        self._caches = [DynamicCache() for _ in principals]
        self._num_seen = 0

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """[1, tokens], [1, vocabulary] -> [1, vocabulary]."""
        base = scores.log_softmax(-1)
        tilt = torch.zeros_like(base)
        new = input_ids[:, self._num_seen :]
        self._num_seen = input_ids.shape[1]
        for principal, cache in zip(self._principals, self._caches, strict=True):
            logits = principal(input_ids=new, past_key_values=cache, use_cache=True).logits[:, -1]
            tilt += _WEIGHT * (logits.log_softmax(-1) - base)
        top = base.topk(_CANDIDATES.top_k).values
        floor = torch.maximum(top[:, -1:], top[:, :1] + torch.tensor(_CANDIDATES.min_p).log())
        return (base + tilt).masked_fill(base < floor, -torch.inf)


def plain_seconds(model: LanguageModel, questions: list[str]) -> float:
    """All questions, one after another, by transformers' `generate`."""
    base = AutoModelForCausalLM.from_pretrained(POCKET_DIR).eval()
    principals = [
        PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(POCKET_DIR), p.path).merge_and_unload().eval()
        for p in model.principals.values()
    ]
    settings = GenerationConfig(
        do_sample=True, max_new_tokens=_TOKENS, min_new_tokens=_TOKENS, eos_token_id=None, pad_token_id=0, top_k=0
    )
    started = _seconds_now()
    with torch.inference_mode():
        for question in questions:
            prompt = torch.tensor([model.encode_chat([{"role": "user", "content": question}])])
            blend = LogitsProcessorList([SeparateForwards(principals)])
            base.generate(
                prompt, attention_mask=torch.ones_like(prompt), generation_config=settings, logits_processor=blend
            )
    return _seconds_now() - started


def later_turn_ms(model: LanguageModel, question: str, num_turns: int) -> dict[str, float]:
    """Median milliseconds to the first text of a fourth turn, with and without reuse of the third."""
    engine = Engine(model)
    engine.start()
    seconds: dict[str, list[float]] = {"fresh": [], "reused": []}
    names = list(model.principals)
    for turn in range(num_turns):
        messages = [{"role": "user", "content": question}]
        for _ in range(3):
            answer = engine.answer(_turn(model, messages, names, scope=turn))
            messages += [{"role": "assistant", "content": answer.text}, {"role": "user", "content": question}]
        for kind, scope in (("fresh", None), ("reused", turn)):
            seconds[kind].append(_first_text_seconds(engine, _turn(model, messages, names, scope)))
    engine.stop()
    medians = {kind: 1000 * statistics.median(values) for kind, values in seconds.items()}
    return {**medians, "prompt_tokens": float(len(model.encode_chat(messages)))}


def _turn(model: LanguageModel, messages: list[dict[str, str]], names: list[str], scope: object) -> DecodeRequest:
    rows = model.plan_rows(messages, names)
    return DecodeRequest(rows, Steering(dict.fromkeys(names, _WEIGHT)), Sampling(_TOKENS, 0), conversation_scope=scope)


def _first_text_seconds(engine: Engine, request: DecodeRequest) -> float:
    events: queue.Queue[Event] = queue.Queue()
    started = _seconds_now()
    running = engine.submit(request, events.put)
    events.get()
    seconds = _seconds_now() - started
    running.cancel()
    while engine.num_running:
        time.sleep(0.001)
    return seconds


def adapter_overhead(model: LanguageModel, num_rows: int, repetitions: int) -> float:
    """Time of a step with adapters over that of the same rows of the plain base."""
    plain = LanguageModel(POCKET_DIR, ())
    kinds = torch.arange(num_rows) % (1 + len(model.principals))
    adapted_step = _row_step(model, kinds)
    plain_step = _row_step(plain, torch.zeros_like(kinds))
    return statistics.median(_seconds(adapted_step) / _seconds(plain_step) for _ in range(repetitions))


def _row_step(model: LanguageModel, kinds: Tensor) -> Callable[[], Tensor]:
    network, num_rows = model.networks[0], len(kinds)
    cache = network.new_cache(num_rows)
    tokens, last = torch.full((num_rows, 1), 5), torch.zeros(num_rows, dtype=torch.long)
    prompt = torch.full((num_rows, 32), 5)
    network.next_log_probs(cache, 0, kinds, prompt, torch.arange(32).expand_as(prompt), last + 31)
    return lambda: network.next_log_probs(cache, 0, kinds, tokens, torch.full((num_rows, 1), 32), last)


def _seconds(step: Callable[[], Tensor]) -> float:
    started = _seconds_now()
    for _ in range(10):
        step()
    return _seconds_now() - started


def main() -> None:
    """Measure, print and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument(
        "--clock", choices=_CLOCKS, default="wall", help="cpu counts this process's own time, for a busy machine"
    )
    arguments = parser.parse_args()
    repetitions = arguments.repetitions
    global _clock
    _clock = _CLOCKS[arguments.clock]
    torch.set_num_threads(1)
    load = os.getloadavg()[0]
    model = LanguageModel(POCKET_DIR, find_principals(POCKET_DIR / "principals"))
    questions = Corpus(1000).held_out_prompts(16)
    engine_figures(model, questions[:1], "equilibrium", 1)  # compiles the solver
    rows = [engine_figures(model, questions[:n], "equilibrium", repetitions) for n in (1, 4, 16)]
    linear = [engine_figures(model, questions[:n], "linear", repetitions) for n in (1, 16)]
    plain_one = statistics.median(plain_seconds(model, questions[:1]) for _ in range(repetitions))
    plain_sixteen = plain_seconds(model, questions)
    report = {
        "command": f"python -m bench.decode --clock {arguments.clock}",
        "clock": arguments.clock,
        "machine": machine(),
        "load_average": {"before": load, "after": os.getloadavg()[0]},
        "equilibrium": [asdict(row) for row in rows],
        "linear": [asdict(row) for row in linear],
        "tokens_per_second_16_over_1": rows[2].tokens_per_second / rows[0].tokens_per_second,
        "plain_tokens_per_second": {"1": _TOKENS / plain_one, "16": 16 * _TOKENS / plain_sixteen},
        "speedup_over_plain_linear": {
            "1": linear[0].tokens_per_second * plain_one / _TOKENS,
            "16": linear[1].tokens_per_second * plain_sixteen / (16 * _TOKENS),
        },
        "later_turn_first_text_ms": later_turn_ms(model, questions[0], 2 * repetitions),
        "adapter_overhead": {str(n): adapter_overhead(model, n, 20) for n in (5, 20, 80)},
    }
    _RESULTS.mkdir(exist_ok=True)
    text = json.dumps(report, indent=2)
    (_RESULTS / "decode.json").write_text(text + "\n")
    (_RESULTS / "decode.md").write_text(_markdown(report))
    print(text)


def _markdown(report: dict[str, Any]) -> str:
    """The same figures to read."""
    about, turn, load = report["machine"], report["later_turn_first_text_ms"], report["load_average"]
    rows = [
        f"| {mode} | {row['requests']} | {row['tokens_per_second']:,.0f} | {row['step_ms']:.2f} "
        f"| {row['forward_share']:.0%} | {row['rest_share']:.0%} |"
        for mode in ("equilibrium", "linear")
        for row in report[mode]
    ]
    plain, faster = report["plain_tokens_per_second"], report["speedup_over_plain_linear"]
    overhead = ", ".join(f"{ratio:.2f} at {rows} rows" for rows, ratio in report["adapter_overhead"].items())
    return "\n".join(
        [
            "# Decoding on one CPU core",
            "",
            f"`{report['command']}`, {about['processor']}, torch {about['torch']}, {about['date']}; load average "
            f"{load['before']:.1f} before and {load['after']:.1f} after, {report['clock']} time. The bundled model, "
            f"four principals (five rows a request), {_TOKENS} tokens an answer, prompts included.",
            "",
            "| mode | requests | tokens/s | step, ms | forward | solver, sampling, bookkeeping |",
            "|---|---|---|---|---|---|",
            *rows,
            "",
            f"- 16 requests give {report['tokens_per_second_16_over_1']:.1f} times the tokens of one.",
            f"- transformers' `generate` with separate forward passes: {plain['1']:,.0f} tokens/s; the engine is "
            f"{faster['1']:.1f} times as fast at one request, {faster['16']:.1f} times at 16.",
            f"- A step with adapters over a plain step of the same rows: {overhead}.",
            f"- First text of a later turn ({turn['prompt_tokens']:.0f} prompt tokens): {turn['reused']:.1f} ms with "
            f"the last turn's keys and values, {turn['fresh']:.1f} ms without.",
            "",
        ]
    )


if __name__ == "__main__":
    main()
