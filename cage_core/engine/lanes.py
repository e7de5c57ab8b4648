"""All rows of a batch, spread over the networks that compute them."""

from __future__ import annotations

from collections.abc import Sequence as ListOf
from itertools import accumulate

import torch
from torch import Tensor

from cage_core.engine.network import Network
from cage_core.engine.rows import RowPlan
from cage_core.errors import InvalidModel


class Lane:
    """One network and the keys and values of its rows: the requests' rows in order, without holes."""

    def __init__(self, index: int, network: Network, num_rows: int) -> None:
        self._index = index
        self._network = network
        self._cache = network.new_cache(num_rows)

    def prefill(self, running: ListOf[RowPlan], new: ListOf[RowPlan]) -> tuple[list[int], Tensor]:
        """Run the prompts of new requests, in the rows behind those of the running ones.

        Returns:
            Indices of this lane's rows among all rows of the new requests, and their [rows, vocabulary] next-token
            log-probabilities.
        """
        indices = self._indices(new)
        if not indices:
            return [], torch.empty(0)
        rows = [plan.rows[index] for plan in new for index in plan.rows_of(self._index)]
        width = max(len(row.prompt) for row in rows)
        tokens = torch.tensor([[*row.prompt, *[0] * (width - len(row.prompt))] for row in rows])
        log_probs = self._network.next_log_probs(
            self._cache,
            len(self._indices(running)),
            torch.tensor([row.adapter for row in rows]),
            tokens,
            torch.arange(width).expand_as(tokens),
            torch.tensor([len(row.prompt) - 1 for row in rows]),
        )
        return indices, log_probs

    def step(self, plans: ListOf[RowPlan], answers: ListOf[ListOf[int]]) -> tuple[list[int], Tensor]:
        """Run the last token of every request.

        Args:
            answers: tokens decoded so far, of each request.
        Returns:
            Indices of this lane's rows among all rows of the batch, and their [rows, vocabulary] log-probabilities.
        """
        indices = self._indices(plans)
        adapters, tokens, positions = [], [], []
        for plan, answer in zip(plans, answers, strict=True):
            for index in plan.rows_of(self._index):
                adapters.append(plan.rows[index].adapter)
                tokens.append(answer[-1])
                positions.append(len(plan.rows[index].prompt) + len(answer) - 1)
        if not indices:
            return [], torch.empty(0)
        log_probs = self._network.next_log_probs(
            self._cache,
            0,
            torch.tensor(adapters),
            torch.tensor(tokens)[:, None],
            torch.tensor(positions)[:, None],
            torch.zeros(len(indices), dtype=torch.long),
        )
        return indices, log_probs

    def allocate(self) -> None:
        """Run one token, which shows the sizes of keys and values and takes the memory of all rows."""
        one = torch.zeros(1, dtype=torch.long)
        try:
            self._network.next_log_probs(self._cache, 0, one, one[:, None], one[:, None], one)
        except (torch.OutOfMemoryError, RuntimeError) as error:
            raise InvalidModel(
                f"the key-value cache of {self._cache.num_rows} rows of {self._network.context_tokens} tokens cannot "
                f"be set up; lower CAGE_DECODE_ROWS or CAGE_CONTEXT_TOKENS: {error}"
            ) from error
        self._cache.keep([])

    def keep(self, plans: ListOf[RowPlan], order: ListOf[int]) -> None:
        """Keep the requests at the given places, in that order, and close the holes."""
        firsts = list(accumulate((len(plan.rows_of(self._index)) for plan in plans), initial=0))
        self._cache.keep([row for place in order for row in range(firsts[place], firsts[place + 1])])

    def _indices(self, plans: ListOf[RowPlan]) -> list[int]:
        """Where this lane's rows are among all rows of the requests."""
        firsts = accumulate((len(plan.rows) for plan in plans), initial=0)
        return [
            first + index for first, plan in zip(firsts, plans, strict=False) for index in plan.rows_of(self._index)
        ]


class Lanes:
    """The networks of a model side by side."""

    def __init__(self, networks: ListOf[Network], num_rows: int) -> None:
        self._lanes = [Lane(index, network, num_rows) for index, network in enumerate(networks)]

    def allocate(self) -> None:
        """Take the key-value memory of every lane.

        Raises:
            InvalidModel: it does not fit.
        """
        for lane in self._lanes:
            lane.allocate()

    def prefill(self, running: ListOf[RowPlan], new: ListOf[RowPlan]) -> Tensor:
        """Next-token log-probabilities [rows, vocabulary] of every row of the new requests, in order."""
        return _in_order([lane.prefill(running, new) for lane in self._lanes])

    def step(self, plans: ListOf[RowPlan], answers: ListOf[ListOf[int]]) -> Tensor:
        """Next-token log-probabilities [rows, vocabulary] of every request's rows, in order."""
        return _in_order([lane.step(plans, answers) for lane in self._lanes])

    def keep(self, plans: ListOf[RowPlan], order: ListOf[int]) -> None:
        """Keep the requests at the given places, in that order, and close the holes."""
        for lane in self._lanes:
            lane.keep(plans, order)


def _in_order(parts: list[tuple[list[int], Tensor]]) -> Tensor:
    """The lanes' rows put where their indices say; checkpoints may pad their vocabularies differently."""
    parts = [part for part in parts if part[0]]
    if len(parts) == 1:
        return parts[0][1]
    width = min(log_probs.shape[-1] for _, log_probs in parts)
    order = torch.tensor([index for indices, _ in parts for index in indices])
    stacked = torch.cat([log_probs[:, :width] for _, log_probs in parts])
    return stacked[order.argsort().to(stacked.device)]
