"""Key-value cache whose rows belong to different requests at different positions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin


class _Window:
    """The rows and positions that the current forward pass writes, and how far it reads."""

    rows: Tensor  # [rows]
    positions: Tensor  # [rows, tokens]
    read_rows: slice
    read_length: int


class _SlotLayer(CacheLayerMixin):
    """One layer's keys and values, [rows, heads, context, size], allocated when the first prompt shows the sizes."""

    is_sliding = False

    def __init__(self, num_rows: int, context_tokens: int, window: _Window) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._num_rows = num_rows
        self._context_tokens = context_tokens
        self._window = window
        self._slots: tuple[Tensor, Tensor] | None = None

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Required by the base class; `update` allocates."""

    def _allocate(self, states: Tensor) -> Tensor:
        _, heads, _, size = states.shape
        return states.new_zeros(self._num_rows, heads, self._context_tokens, size)

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        if self._slots is None:
            self._slots = (self._allocate(key_states), self._allocate(value_states))
            self.is_initialized = True
        keys, values = self._slots
        window = self._window
        rows = window.rows[:, None]
        # Two index tensors around a slice put the indexed axes first: [rows, tokens, heads, size].
        keys[rows, :, window.positions] = key_states.transpose(1, 2)
        values[rows, :, window.positions] = value_states.transpose(1, 2)
        read = (window.read_rows, slice(None), slice(window.read_length))
        return keys[read], values[read]

    def read(self, row: int, length: int) -> list[Tensor]:
        return [states[row, :, :length].clone() for states in self._slots or ()]

    def write(self, row: int, kept: list[Tensor], length: int) -> None:
        for states, known in zip(self._slots or (), kept, strict=True):
            states[row, :, :length] = known[:, :length]

    def move(self, sources: Tensor, targets: Tensor, length: int) -> None:
        for states in self._slots or ():
            states[targets, :, :length] = states[sources, :, :length]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self._window.read_length, 0

    def get_seq_length(self) -> int:
        return 0

    def get_max_length(self) -> int:
        return self._context_tokens


@dataclass(frozen=True)
class LayerStates:
    """Keys and values of one row's first tokens, by layer."""

    layers: list[list[Tensor]]

    @property
    def num_bytes(self) -> int:
        return sum(states.nbytes for layer in self.layers for states in layer)


class SlotCache(Cache):
    """Fixed memory of `num_rows` rows; requests take the first rows, without holes.

    The forward pass names its rows and their positions with `aim` first; models need no change.

    Attributes:
        recorded: forward passes over these very keys and values, by size; `static_step.StaticStep` fills it.
    """

    def __init__(self, num_layers: int, num_rows: int, context_tokens: int) -> None:
        self._window = _Window()
        self.num_rows = num_rows
        self.recorded: dict[tuple[int, int], Any] = {}
        self._used_tokens = 0
        self._slot_layers = [_SlotLayer(num_rows, context_tokens, self._window) for _ in range(num_layers)]
        super().__init__(layers=list(self._slot_layers))

    def aim(self, first_row: int, positions: Tensor, reach: int) -> None:
        """Point the next forward pass at rows first_row.. and their positions.

        Args:
            positions: [rows, tokens] where the new keys and values go. What a padding token leaves behind a row's
                end is overwritten before anything attends to it.
            reach: how many positions of each row are read; above the largest position.
        """
        num_rows = positions.shape[0]
        self._window.rows = torch.arange(first_row, first_row + num_rows, device=positions.device)
        self._window.positions = positions
        self._window.read_rows = slice(first_row, first_row + num_rows)
        self._window.read_length = reach

    def note_length(self, num_tokens: int) -> None:
        """Rows are now up to `num_tokens` long; so much of a row is moved with it."""
        self._used_tokens = max(self._used_tokens, num_tokens)

    @torch.inference_mode()
    def read(self, row: int, length: int) -> LayerStates:
        """A copy of a row's first `length` tokens."""
        return LayerStates([layer.read(row, length) for layer in self._slot_layers])

    @torch.inference_mode()
    def write(self, row: int, states: LayerStates, length: int) -> None:
        """Begin a row with the first `length` tokens of another one."""
        for layer, kept in zip(self._slot_layers, states.layers, strict=True):
            layer.write(row, kept, length)
        self.note_length(length)

    @torch.inference_mode()
    def keep(self, rows: Sequence[int]) -> None:
        """Close the holes that left requests leave: row rows[i] moves to row i."""
        moves = [(source, target) for target, source in enumerate(rows) if source != target]
        if moves:
            sources, targets = torch.tensor(moves).unbind(1)
            for layer in self._slot_layers:
                layer.move(sources, targets, self._used_tokens)
        if not rows:
            self._used_tokens = 0
