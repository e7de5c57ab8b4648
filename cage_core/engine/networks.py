"""What the decoder asks of a network, and which way a model's network is computed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from cage_core.engine import llama
from cage_core.engine.network import Network
from cage_core.engine.prefixes import States
from cage_core.principals.adapters import AdapterRouting


class RowCache(Protocol):
    """Keys and values of rows that belong to different requests."""

    num_rows: int

    def read(self, row: int, length: int) -> States:
        """A copy of a row's first `length` tokens."""
        ...

    def write(self, row: int, states: Any, length: int) -> None:
        """Begin a row with the first `length` tokens of what a cache of the same network has read."""
        ...

    def keep(self, rows: Sequence[int]) -> None:
        """Close the holes that left requests leave: row rows[i] moves to row i."""
        ...


class CausalNetwork(Protocol):
    """Rows of tokens in, next-token log-probabilities out: `Network` and `CompiledLlama`."""

    context_tokens: int
    vocabulary_size: int

    def new_cache(self, num_rows: int) -> RowCache:
        """Key-value memory for `num_rows` rows of the whole context."""
        ...

    def next_log_probs(
        self, cache: Any, first_row: int, adapters: Tensor, tokens: Tensor, positions: Tensor, last: Tensor
    ) -> Tensor:
        """See `Network.next_log_probs`; `cache` is one of this network's own."""
        ...


def network_of(
    model: Any, device: torch.device, longest_tokens: int, routing: AdapterRouting | None = None
) -> CausalNetwork:
    """The fastest network that computes `model`: compiled loops where they serve it, else transformers' own modules."""
    if llama.is_served(model, device):
        return llama.CompiledLlama(model, longest_tokens, routing)
    return Network(model, device, longest_tokens, routing)
