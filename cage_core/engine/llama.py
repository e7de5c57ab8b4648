"""Llama-shaped networks on a CPU by compiled loops: the same answers as `Network`, several times as fast."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from cage_core.engine.llama_kernels import INPUTS_AT_ONCE, Array, Integers, Weights, forward
from cage_core.engine.llama_weights import pack, working_memory
from cage_core.principals.adapters import AdapterRouting


def is_served(model: Any, device: torch.device) -> bool:
    """Whether `CompiledLlama` computes this model: Llama's exact shape, float32, one thread of a CPU."""
    if type(model) is not LlamaForCausalLM or device.type != "cpu" or model.dtype != torch.float32:
        return False
    config: Any = model.config
    widths = (config.hidden_size, config.intermediate_size, config.num_attention_heads * config.head_dim)
    return (
        torch.get_num_threads() == 1
        and config.hidden_act == "silu"
        and not (config.attention_bias or config.mlp_bias)
        # Other kinds of rotary embedding may depend on how long the sequence has become.
        and (config.rope_parameters or {}).get("rope_type") in ("default", "linear", "llama3")
        and all(width % INPUTS_AT_ONCE == 0 for width in widths)
    )


@dataclass(frozen=True)
class StackedStates:
    """Keys and values of one row's first tokens, each [layers, heads, tokens, size]."""

    keys: Array
    values: Array

    @property
    def num_bytes(self) -> int:
        return self.keys.nbytes + self.values.nbytes


class CompiledCache:
    """Keys and values of `num_rows` rows, and the memory that a forward pass works in; taken at first use."""

    def __init__(self, weights: Weights, num_rows: int) -> None:
        context, half = weights.cosines.shape
        size = 2 * half
        num_kept = int(weights.qkv.parts[2] - weights.qkv.parts[1]) // size
        self.num_rows = num_rows
        self._shape = (len(weights.norms), num_rows, num_kept, context, size)
        self._slots: tuple[Array, Array] | None = None
        self._used_tokens = 0
        self.work = working_memory(weights)

    def slots(self, num_tokens: int) -> tuple[Array, Array]:
        """Keys and values, each [layers, rows, heads, context, size], for rows of up to `num_tokens`.

        Raises:
            MemoryError: they do not fit.
        """
        self._used_tokens = max(self._used_tokens, num_tokens)
        if self._slots is None:
            # Written to, not only reserved: the system gives memory when it is touched, a page at a time.
            self._slots = (np.full(self._shape, 0, np.float32), np.full(self._shape, 0, np.float32))
        return self._slots

    def read(self, row: int, length: int) -> StackedStates:
        """A copy of a row's first `length` tokens."""
        keys, values = self.slots(length)
        return StackedStates(keys[:, row, :, :length].copy(), values[:, row, :, :length].copy())

    def write(self, row: int, states: StackedStates, length: int) -> None:
        """Begin a row with the first `length` tokens of another one."""
        keys, values = self.slots(length)
        keys[:, row, :, :length] = states.keys[:, :, :length]
        values[:, row, :, :length] = states.values[:, :, :length]

    def keep(self, rows: Sequence[int]) -> None:
        """Close the holes that left requests leave: row rows[i] moves to row i."""
        moves = [(source, target) for target, source in enumerate(rows) if source != target]
        if moves:
            sources, targets = map(list, zip(*moves, strict=True))
            for states in self._slots or ():
                states[:, targets, :, : self._used_tokens] = states[:, sources, :, : self._used_tokens]
        if not rows:
            self._used_tokens = 0


class CompiledLlama:
    """A Llama-shaped causal language model, with or without adapters; takes and gives what `Network` does.

    Attributes:
        context_tokens: longest sequence of a row.
    """

    def __init__(self, model: Any, longest_tokens: int, routing: AdapterRouting | None = None) -> None:
        """Args: model: one that `is_served`; its weights are copied. longest_tokens: cap on the context."""
        config = model.config
        self.context_tokens: int = min(config.max_position_embeddings, longest_tokens)
        self.vocabulary_size: int = config.vocab_size
        self._weights = pack(model, self.context_tokens, routing.ranks if routing else ())

    def new_cache(self, num_rows: int) -> CompiledCache:
        """Key-value memory for `num_rows` rows of the whole context."""
        return CompiledCache(self._weights, num_rows)

    def next_log_probs(
        self, cache: CompiledCache, first_row: int, adapters: Tensor, tokens: Tensor, positions: Tensor, last: Tensor
    ) -> Tensor:
        """See `Network.next_log_probs`.

        Raises:
            IndexError: a token, position, row or adapter that is not there; the loops themselves do not look.
        """
        num_rows, width = tokens.shape
        if width == 1:
            ends = np.arange(num_rows)
            rows = first_row + ends
            its_tokens, its_positions, its_adapters = (each.numpy().ravel() for each in (tokens, positions, adapters))
        else:
            lengths = last.numpy() + 1
            real = np.arange(width) < lengths[:, None]
            rows = np.repeat(first_row + np.arange(num_rows), lengths)
            ends = np.full(len(rows), -1)
            ends[np.cumsum(lengths) - 1] = np.arange(num_rows)
            its_tokens, its_positions = tokens.numpy()[real], positions.numpy()[real]
            its_adapters = np.repeat(adapters.numpy(), lengths)
        self._check(its_tokens, self.vocabulary_size, "token")
        self._check(its_positions, self.context_tokens, "position")
        self._check(its_adapters, self._weights.qkv.into.shape[1] + 1, "adapter")
        self._check(rows, cache.num_rows, "row")
        keys, values = cache.slots(int(its_positions.max()) + 1)
        log_probs: Array = np.empty((num_rows, self.vocabulary_size), np.float32)
        forward(
            self._weights,
            keys,
            values,
            cache.work,
            its_tokens,
            rows,
            its_positions,
            its_adapters,
            ends,
            log_probs,
        )
        return torch.from_numpy(log_probs)

    @staticmethod
    def _check(values: Integers, count: int, what: str) -> None:
        if values.max() >= count:
            raise IndexError(f"{what} {values.max()} asked for; there are {count}")


def compile_loops() -> None:
    """Have the machine code of the loops ready, or in its cache."""
    config = LlamaConfig(
        vocab_size=4, hidden_size=4, intermediate_size=4, num_hidden_layers=1, num_attention_heads=1, head_dim=4
    )
    network = CompiledLlama(LlamaForCausalLM(config), longest_tokens=1)
    one = torch.zeros(1, dtype=torch.long)
    network.next_log_probs(network.new_cache(1), 0, one, one[:, None], one[:, None], one)
