"""Milliseconds a token on a GPU against the memory-bandwidth floor: `python -m bench.decode_gpu`.

Llama shapes with random weights in bfloat16, two random adapters, prompts of 128 tokens. The floor is the bytes that
a step must read (weights, adapters, keys and values) over the bandwidth of an H200's memory, 4.3 TB/s; the copy
bandwidth measured here is reported beside it. `--shape tiny --device cpu` is a dry run of the same code.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from bench.machine import machine
from cage_core.engine import DecodeRequest, LanguageModel, Sampling, Steering
from cage_core.engine.batch import Batch
from cage_core.engine.games import compile_solver
from cage_core.engine.network import Network
from cage_core.engine.rows import BASE_NETWORK, Row, RowPlanner
from cage_core.engine.sequence import Sequence
from cage_core.equilibrium import solve_equilibrium
from cage_core.game import Game
from cage_core.principals.adapters import Adapter, install_adapters

_SHAPES: dict[str, dict[str, int]] = {
    "tiny": {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
             "num_key_value_heads": 2, "vocab_size": 512},
    "1b": {"hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16, "num_attention_heads": 32,
           "num_key_value_heads": 8, "vocab_size": 128256},
    "7b": {"hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32,
           "num_key_value_heads": 32, "vocab_size": 32000},
}  # fmt: skip
_H200_BYTES_PER_SECOND = 4.3e12
_PROMPT_TOKENS = 128
_TOKENS = 64
_RANK = 16
_PRINCIPALS = ("first", "second")


@dataclass(frozen=True)
class Figures:
    """One shape at one batch size; medians over the steps.

    Attributes:
        rest_share: of a step, what is not the forward pass: solver, sampling and bookkeeping, and the wait between.
        solver_share: the solver alone, on games of the same size, over a step.
    """

    shape: str
    requests: int
    ms_per_token: float
    floor_ms: float
    over_floor: float
    rest_share: float
    solver_share: float


def build(shape: str, device: torch.device) -> Network:
    """A random model with two random adapters on every linear layer of attention and MLP."""
    dtype = torch.float32 if device.type == "cpu" else torch.bfloat16
    config = LlamaConfig(**_SHAPES[shape], max_position_embeddings=512)  # type: ignore[arg-type]
    with torch.device(device):
        torch.set_default_dtype(dtype)
        model: Any = LlamaForCausalLM(config).eval().requires_grad_(False)
        torch.set_default_dtype(torch.float32)
    linears = [name for name, m in model.named_modules() if isinstance(m, torch.nn.Linear) and name != "lm_head"]
    adapters = [(name, _random_adapter(model, linears)) for name in _PRINCIPALS]
    return Network(model, device, 512, install_adapters(model, adapters))


def _random_adapter(model: Any, linears: list[str]) -> Adapter:
    down, up = {}, {}
    for name in linears:
        linear = model.get_submodule(name)
        down[name] = torch.randn(_RANK, linear.in_features) * 0.01
        up[name] = torch.randn(linear.out_features, _RANK) * 0.01
    return Adapter(_RANK, down, up)


def measure(shape: str, network: Network, num_requests: int, bandwidth: float) -> Figures:
    """Decode `num_requests` requests together."""
    step_ms, forward_ms = (
        _step_ms(network, num_requests, timed=False)[0],
        _step_ms(network, num_requests, timed=True)[1],
    )
    floor_ms = 1000 * _bytes(network, 3 * num_requests) / bandwidth
    solver_ms = _solver_ms(num_requests, network._device)
    return Figures(
        shape, num_requests, step_ms, floor_ms, step_ms / floor_ms, 1 - forward_ms / step_ms, solver_ms / step_ms
    )


def _step_ms(network: Network, num_requests: int, *, timed: bool) -> tuple[float, float]:
    """Medians of a whole step and, if `timed`, of its forward pass, for which the device is then waited."""
    stub = SimpleNamespace(
        networks=[network],
        lexicons=torch.empty(0, 0, device=network._device),
        end_tokens=frozenset(),
    )
    batch = Batch(cast(LanguageModel, stub), num_rows=3 * num_requests)
    batch.admit([_sequence(seed) for seed in range(num_requests)])
    lanes, forwards, steps = batch._lanes.step, [], []

    def forward(*arguments: Any) -> Tensor:
        started = time.perf_counter()
        result = lanes(*arguments)
        _wait(network._device)
        forwards.append(time.perf_counter() - started)
        return result

    if timed:
        batch._lanes.step = forward  # type: ignore[method-assign, assignment]
    while len(batch):
        started = time.perf_counter()
        batch.step()  # ends with the tokens on the host, so no further synchronisation is needed
        steps.append(time.perf_counter() - started)
    return 1000 * statistics.median(steps), 1000 * statistics.median(forwards or [0.0])


def _solver_ms(num_games: int, device: torch.device) -> float:
    chance = torch.Generator().manual_seed(0)
    base = torch.randn(num_games, 50, generator=chance).log_softmax(-1).double().to(device)
    payoffs = torch.randn(num_games, 2, 50, generator=chance).double().to(device)
    game = Game.unchecked(base, payoffs, 0.5)
    seconds = []
    for _ in range(50):
        _wait(device)
        started = time.perf_counter()
        solve_equilibrium(game)
        _wait(device)
        seconds.append(time.perf_counter() - started)
    return 1000 * statistics.median(seconds)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def _sequence(seed: int) -> Sequence:
    planner = RowPlanner(tuple(range(_PROMPT_TOKENS)))
    for adapter in (1, 2):
        planner.reward(planner.row(Row(BASE_NETWORK, adapter, planner.base_prompt)))
    steering = Steering(dict.fromkeys(_PRINCIPALS, 0.5))
    request = DecodeRequest(planner.plan(), steering, Sampling(_TOKENS, seed))
    return Sequence(request, (1.0, 1.0), lambda tokens: "x", lambda event: None)


def _bytes(network: Network, num_rows: int) -> float:
    """What one step must read: every weight once, and each row's keys and values."""
    model = network._model
    tensors = [*model.parameters(), *model.buffers()]
    weights = sum(t.numel() * t.element_size() for t in tensors)
    config = model.config
    per_token = 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim
    length = _PROMPT_TOKENS + _TOKENS / 2
    return float(weights + num_rows * length * per_token * next(model.parameters()).element_size())


def copy_bandwidth(device: torch.device) -> float:
    """Bytes a second of a large copy, read and write counted."""
    source = torch.empty(2**22 if device.type == "cpu" else 2**31, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    best = float("inf")
    for _ in range(5):
        started = time.perf_counter()
        target.copy_(source)
        _wait(device)
        best = min(best, time.perf_counter() - started)
    return 2 * source.numel() / best


def main() -> None:
    """Measure, print and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--shape", nargs="+", choices=list(_SHAPES), default=["1b", "7b"])
    parser.add_argument("--requests", type=int, nargs="+", default=[1, 32])
    parser.add_argument("--bytes-per-second", type=float, help="of the floor; 4.3e12 on a GPU, measured on a CPU")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    device = torch.device(arguments.device)
    compile_solver()
    copied = copy_bandwidth(device)
    bandwidth = arguments.bytes_per_second or (_H200_BYTES_PER_SECOND if device.type == "cuda" else copied)
    rows = []
    for shape in arguments.shape:
        network = build(shape, device)
        for num_requests in arguments.requests:
            measure(shape, network, num_requests, bandwidth)  # warms up
            rows.append(asdict(measure(shape, network, num_requests, bandwidth)))
    name = torch.cuda.get_device_name() if device.type == "cuda" else "cpu"
    report = {
        "command": "python -m bench.decode_gpu",
        "machine": machine(),
        "device": name,
        "floor_bytes_per_second": bandwidth,
        "copied_bytes_per_second": copied,
        "rows": rows,
    }
    text = json.dumps(report, indent=2)
    print(text)
    if arguments.out:
        arguments.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
