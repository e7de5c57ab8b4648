"""Which rows of which networks a request needs, and how principals' rewards come out of them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

BASE_NETWORK = 0


@dataclass(frozen=True)
class Row:
    """One sequence of keys and values in one network.

    Attributes:
        network: index of the network; the base model is `BASE_NETWORK`.
        adapter: adapter number within that network, 0 for none.
        prompt: tokens before the answer; rows may start from different prompts.
    """

    network: int
    adapter: int
    prompt: tuple[int, ...]


@dataclass(frozen=True)
class RewardRule:
    """A principal's reward of a token: log-probability of row `plus` less that of row `minus`, plus fixed scores.

    Attributes:
        plus, minus: indices into the request's rows.
        lexicon: index of the fixed token scores; None for none.
    """

    plus: int
    minus: int
    lexicon: int | None = None


@dataclass(frozen=True, eq=False)
class NetworkRows:
    """What a request's rows in one network are, as arrays [rows]: every step asks for it.

    Attributes:
        indices: into the request's rows.
    """

    indices: NDArray[np.int64]
    adapters: NDArray[np.int64]
    prompt_tokens: NDArray[np.int64]


_NO_ROWS = NetworkRows(*(np.empty(0, np.int64) for _ in range(3)))


@dataclass(frozen=True)
class RowPlan:
    """All rows of one request, the plain base first, and one reward rule for each principal."""

    rows: tuple[Row, ...]
    rules: tuple[RewardRule, ...]

    @property
    def base_prompt(self) -> tuple[int, ...]:
        """What the plain base reads."""
        return self.rows[0].prompt

    @cached_property
    def plus(self) -> NDArray[np.int64]:
        """[principals] rows whose log-probabilities reward."""
        return np.array([rule.plus for rule in self.rules], np.int64)

    @cached_property
    def minus(self) -> NDArray[np.int64]:
        """[principals] rows whose log-probabilities are taken off."""
        return np.array([rule.minus for rule in self.rules], np.int64)

    @cached_property
    def lexical(self) -> list[tuple[int, int]]:
        """Principals with fixed scores, and the index of these."""
        return [(j, rule.lexicon) for j, rule in enumerate(self.rules) if rule.lexicon is not None]

    @property
    def num_prompt_tokens(self) -> int:
        """Tokens of the longest prompt: rows may start from different ones."""
        return max(len(row.prompt) for row in self.rows)

    def rows_of(self, network: int) -> list[int]:
        """Indices of the rows in one network, in order."""
        indices: list[int] = self.of(network).indices.tolist()
        return indices

    def of(self, network: int) -> NetworkRows:
        """The rows in one network."""
        return self._by_network.get(network, _NO_ROWS)

    @cached_property
    def _by_network(self) -> dict[int, NetworkRows]:
        return {network: self._network_rows(network) for network in {row.network for row in self.rows}}

    def _network_rows(self, network: int) -> NetworkRows:
        indices = [index for index, row in enumerate(self.rows) if row.network == network]
        return NetworkRows(
            np.array(indices),
            np.array([self.rows[index].adapter for index in indices]),
            np.array([len(self.rows[index].prompt) for index in indices]),
        )


class RowPlanner:
    """Collects rows without repeating one that two principals share."""

    def __init__(self, base_prompt: tuple[int, ...]) -> None:
        self.base_prompt = base_prompt
        self._rows: dict[Row, int] = {}
        self.row(Row(BASE_NETWORK, 0, base_prompt))
        self._rules: list[RewardRule] = []

    def row(self, row: Row) -> int:
        """Index of `row`, added if it is new."""
        return self._rows.setdefault(row, len(self._rows))

    def reward(self, plus: int, minus: int = 0, lexicon: int | None = None) -> None:
        """Add the next principal's rule."""
        self._rules.append(RewardRule(plus, minus, lexicon))

    def plan(self) -> RowPlan:
        """What was collected."""
        return RowPlan(tuple(self._rows), tuple(self._rules))
