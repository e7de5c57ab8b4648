"""One token for every row in shapes that do not change, so that a CUDA graph can replay the whole pass.

A graph records the kernels of a forward pass once; replaying it costs one launch where the pass itself costs
hundreds. It needs the same shapes and addresses each time: rows and reach are rounded up to a few sizes, and inputs
are copied into buffers that stay. Rows that are only there to fill up write into rows of the cache that nobody uses.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from cage_core.engine.cache import SlotCache

_SHORTEST_REACH = 256
_ROWS_IN_POWERS = 16

Pass = Callable[[SlotCache, int, Tensor, Tensor, Tensor], Tensor]
"""(cache, reach, adapters [rows], tokens [rows, 1], positions [rows, 1]) -> log-probabilities [rows, vocabulary]."""


def rounded_rows(num_rows: int, capacity: int) -> int:
    """Powers of two up to 16, then multiples of 16; never more than there are."""
    if num_rows <= _ROWS_IN_POWERS:
        return int(min(1 << (num_rows - 1).bit_length(), capacity))
    return min(-(-num_rows // _ROWS_IN_POWERS) * _ROWS_IN_POWERS, capacity)


def rounded_reach(num_tokens: int, context_tokens: int) -> int:
    """Powers of two from 256; never more than the context."""
    return int(min(max(_SHORTEST_REACH, 1 << (num_tokens - 1).bit_length()), context_tokens))


@dataclass(frozen=True)
class _Recorded:
    """One size of the step: where its inputs go, how it is run, and where its result appears."""

    inputs: tuple[Tensor, Tensor, Tensor]
    run: Callable[[], None]
    results: list[Tensor]


class StaticStep:
    """Steps of one network, recorded once for each size that its caches ever need."""

    def __init__(self, forward: Pass, context_tokens: int, device: torch.device) -> None:
        self._forward = forward
        self._context_tokens = context_tokens
        self._device = device
        # One pool for all graphs: a result is read before any graph runs again.
        self._pool = torch.cuda.graph_pool_handle() if device.type == "cuda" else None

    @torch.inference_mode()
    def next_log_probs(self, cache: SlotCache, adapters: Tensor, tokens: Tensor, positions: Tensor) -> Tensor:
        """Run the first rows of the cache over one token each; tensors on the host, [rows], [rows, 1] and [rows, 1].

        Returns:
            [rows, vocabulary] nats, overwritten by the next step.
        """
        num_rows, num_tokens = len(adapters), int(positions.max()) + 1
        size = rounded_rows(num_rows, cache.num_rows), rounded_reach(num_tokens, self._context_tokens)
        step = cache.recorded.get(size)
        if step is None:
            step = cache.recorded[size] = self._record(cache, size, (adapters, tokens, positions))
        _fill(step.inputs, (adapters, tokens, positions))
        step.run()
        cache.note_length(num_tokens)
        return step.results[0][:num_rows]

    def _record(self, cache: SlotCache, size: tuple[int, int], inputs: tuple[Tensor, Tensor, Tensor]) -> _Recorded:
        num_rows, reach = size
        buffers = (
            torch.zeros(num_rows, dtype=torch.long, device=self._device),
            torch.zeros(num_rows, 1, dtype=torch.long, device=self._device),
            torch.zeros(num_rows, 1, dtype=torch.long, device=self._device),
        )
        results: list[Tensor] = []

        def run() -> None:
            results[:] = [self._forward(cache, reach, *buffers)]

        if self._device.type != "cuda":
            return _Recorded(buffers, run, results)
        # The runs before the recording write keys and values too: they must be those of the step itself.
        _fill(buffers, inputs)
        return _Recorded(buffers, self._captured(run).replay, results)

    def _captured(self, run: Callable[[], None]) -> torch.cuda.CUDAGraph:
        """A graph of `run`, after a few runs outside it that let libraries choose their kernels."""
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                run()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool):
            run()
        return graph


def _fill(buffers: tuple[Tensor, Tensor, Tensor], inputs: tuple[Tensor, Tensor, Tensor]) -> None:
    """Copy inputs to the front of the buffers; what fills up keeps an old token at an old position."""
    for buffer, values in zip(buffers, inputs, strict=True):
        # Only pinned memory is copied without a stop.
        staged = values.pin_memory() if buffer.device.type == "cuda" else values
        buffer[: len(values)].copy_(staged, non_blocking=True)
