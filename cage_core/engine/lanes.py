"""All rows of a batch, spread over the networks that compute them."""

from __future__ import annotations

import operator
from collections.abc import Hashable
from collections.abc import Sequence as ListOf
from itertools import accumulate

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cage_core.engine.networks import CausalNetwork
from cage_core.engine.prefixes import KeptRow, PrefixStore, RowKind
from cage_core.engine.rows import Row, RowPlan
from cage_core.errors import InvalidModel

Indices = NDArray[np.int64]


class _Layout:
    """Which rows of a lane belong to which requests; the same from step to step until one joins or leaves."""

    def __init__(self, lane: int, plans: ListOf[RowPlan]) -> None:
        rows = [plan.of(lane) for plan in plans]
        firsts = accumulate((len(plan.rows) for plan in plans), initial=0)
        self._plans = list(plans)
        self.counts = np.array([len(of_one.indices) for of_one in rows], np.int64)
        self.indices = _joined([first + of_one.indices for first, of_one in zip(firsts, rows, strict=False)])
        self.prompt_tokens = _joined([of_one.prompt_tokens for of_one in rows])
        self.adapters = torch.from_numpy(_joined([of_one.adapters for of_one in rows]))
        self.last = torch.zeros(len(self.indices), dtype=torch.long)

    def is_of(self, plans: ListOf[RowPlan]) -> bool:
        """Whether these are still the requests."""
        return len(plans) == len(self._plans) and all(map(operator.is_, plans, self._plans))


def _joined(parts: list[Indices]) -> Indices:
    return np.concatenate(parts) if parts else np.empty(0, np.int64)


class Lane:
    """One network and the keys and values of its rows: the requests' rows in order, without holes."""

    def __init__(self, index: int, network: CausalNetwork, num_rows: int, prefixes: PrefixStore) -> None:
        self._index = index
        self._prefixes = prefixes
        self._network = network
        self._cache = network.new_cache(num_rows)
        self._layout = _Layout(index, [])

    def prefill(
        self, running: ListOf[RowPlan], new: ListOf[RowPlan], scopes: ListOf[Hashable]
    ) -> tuple[Indices, Tensor]:
        """Run the prompts of new requests, in the rows behind those of the running ones.

        Args:
            scopes: whose conversation each new request belongs to; None for nobody's.
        Returns:
            Indices of this lane's rows among all rows of the new requests, and their [rows, vocabulary] next-token
            log-probabilities.
        """
        indices = _Layout(self._index, new).indices
        if not len(indices):
            return indices, torch.empty(0)
        first_row = sum(len(plan.of(self._index).indices) for plan in running)
        rows = [plan.rows[index] for plan in new for index in plan.rows_of(self._index)]
        whose = [scope for plan, scope in zip(new, scopes, strict=True) for _ in plan.rows_of(self._index)]
        starts = [self._begin(first_row + at, *owned) for at, owned in enumerate(zip(rows, whose, strict=True))]
        rests = [row.prompt[start:] for row, start in zip(rows, starts, strict=True)]
        width = max(map(len, rests))
        positions = torch.tensor(starts)[:, None] + torch.arange(width)
        log_probs = self._network.next_log_probs(
            self._cache,
            first_row,
            torch.tensor([row.adapter for row in rows]),
            torch.tensor([[*rest, *[0] * (width - len(rest))] for rest in rests]),
            # Padding may lie beyond the context; its last place is free, for an answer has at least one token.
            positions.clamp(max=self._network.context_tokens - 1),
            torch.tensor([len(rest) - 1 for rest in rests]),
        )
        return indices, log_probs

    def _begin(self, slot: int, row: Row, scope: Hashable) -> int:
        """Write what is known of a row from the turn before; returns how many tokens that is."""
        if scope is None:
            return 0
        states, length = self._prefixes.find(scope, RowKind(self._index, row.adapter), row.prompt)
        if states is not None:
            self._cache.write(slot, states, length)
        return length

    def rows_to_keep(self, plans: ListOf[RowPlan], place: int, answer: ListOf[int]) -> list[KeptRow]:
        """Copies of one request's rows; the cache has not seen its last token."""
        first = sum(len(plan.rows_of(self._index)) for plan in plans[:place])
        kept = []
        for slot, index in enumerate(plans[place].rows_of(self._index), start=first):
            row = plans[place].rows[index]
            tokens = (*row.prompt, *answer[:-1])
            kept.append(KeptRow(RowKind(self._index, row.adapter), tokens, self._cache.read(slot, len(tokens))))
        return kept

    def step(self, plans: ListOf[RowPlan], answers: ListOf[ListOf[int]]) -> tuple[Indices, Tensor]:
        """Run the last token of every request.

        Args:
            answers: tokens decoded so far, of each request.
        Returns:
            Indices of this lane's rows among all rows of the batch, and their [rows, vocabulary] log-probabilities.
        """
        if not self._layout.is_of(plans):
            self._layout = _Layout(self._index, plans)
        layout = self._layout
        if not len(layout.indices):
            return layout.indices, torch.empty(0)
        lengths = np.repeat([len(answer) for answer in answers], layout.counts)
        log_probs = self._network.next_log_probs(
            self._cache,
            0,
            layout.adapters,
            torch.from_numpy(np.repeat([answer[-1] for answer in answers], layout.counts))[:, None],
            torch.from_numpy(layout.prompt_tokens + lengths - 1)[:, None],
            layout.last,
        )
        return layout.indices, log_probs

    def allocate(self) -> None:
        """Run one token, which shows the sizes of keys and values and takes the memory of all rows."""
        one = torch.zeros(1, dtype=torch.long)
        try:
            self._network.next_log_probs(self._cache, 0, one, one[:, None], one[:, None], one)
        except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
            raise InvalidModel(
                f"the key-value cache of {self._cache.num_rows} rows of {self._network.context_tokens} tokens cannot "
                f"be set up; lower CAGE_DECODE_ROWS or CAGE_CONTEXT_TOKENS: {error}"
            ) from error
        self._cache.keep([])

    def keep(self, plans: ListOf[RowPlan], order: ListOf[int]) -> None:
        """Keep the requests at the given places, in that order, and close the holes."""
        firsts = list(accumulate((len(plan.rows_of(self._index)) for plan in plans), initial=0))
        self._cache.keep([row for place in order for row in range(firsts[place], firsts[place + 1])])


class Lanes:
    """The networks of a model side by side."""

    def __init__(self, networks: ListOf[CausalNetwork], num_rows: int, prefixes: PrefixStore | None = None) -> None:
        self._prefixes = prefixes or PrefixStore(0)
        self._lanes = [Lane(index, network, num_rows, self._prefixes) for index, network in enumerate(networks)]

    def allocate(self) -> None:
        """Take the key-value memory of every lane.

        Raises:
            InvalidModel: it does not fit.
        """
        for lane in self._lanes:
            lane.allocate()

    def retain(self, plans: ListOf[RowPlan], place: int, answer: ListOf[int], scope: Hashable) -> None:
        """Keep the rows of the request at `place` for its scope's next turn."""
        if self._prefixes.is_open:
            rows = [row for lane in self._lanes for row in lane.rows_to_keep(plans, place, answer)]
            self._prefixes.keep(scope, tuple(rows))

    def prefill(self, running: ListOf[RowPlan], new: ListOf[RowPlan], scopes: ListOf[Hashable] | None = None) -> Tensor:
        """Next-token log-probabilities [rows, vocabulary] of every row of the new requests, in order.

        Args:
            scopes: whose conversation each new request belongs to; it may begin where that scope's last answer ended.
        """
        owners = scopes or [None] * len(new)
        return _in_order([lane.prefill(running, new, owners) for lane in self._lanes])

    def step(self, plans: ListOf[RowPlan], answers: ListOf[ListOf[int]]) -> Tensor:
        """Next-token log-probabilities [rows, vocabulary] of every request's rows, in order."""
        return _in_order([lane.step(plans, answers) for lane in self._lanes])

    def keep(self, plans: ListOf[RowPlan], order: ListOf[int]) -> None:
        """Keep the requests at the given places, in that order, and close the holes."""
        for lane in self._lanes:
            lane.keep(plans, order)


def _in_order(parts: list[tuple[Indices, Tensor]]) -> Tensor:
    """The lanes' rows put where their indices say; checkpoints may pad their vocabularies differently."""
    parts = [part for part in parts if len(part[0])]
    if len(parts) == 1:
        return parts[0][1]
    width = min(log_probs.shape[-1] for _, log_probs in parts)
    order = torch.from_numpy(np.concatenate([indices for indices, _ in parts]))
    stacked = torch.cat([log_probs[:, :width] for _, log_probs in parts])
    return stacked[order.argsort().to(stacked.device)]
