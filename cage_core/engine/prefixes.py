"""Keys and values of finished answers, kept for the next turn of the same conversation."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable, Mapping
from collections.abc import Sequence as ListOf
from dataclasses import dataclass
from typing import Protocol

CONVERSATIONS_OF_A_SCOPE = 4
"""Conversations that one scope may have open without losing a prefix; the oldest goes first."""


class States(Protocol):
    """Keys and values of the first tokens of a row; what a cache reads and writes."""

    @property
    def num_bytes(self) -> int:
        """Memory that they take."""
        ...


@dataclass(frozen=True)
class RowKind:
    """What must be equal for keys and values to be equal, besides the tokens."""

    lane: int
    adapter: int


@dataclass(frozen=True)
class KeptRow:
    """One row of a finished answer.

    Attributes:
        tokens: what the states are of, prompt and answer.
    """

    kind: RowKind
    tokens: tuple[int, ...]
    states: States


class PrefixStore:
    """The rows of the latest answers by scope; never more than `capacity_bytes`, the longest unused go first.

    A request finds rows of its own scope only: how long a first token takes would otherwise tell one user what
    another one wrote. May be used from any thread.
    """

    def __init__(self, capacity_bytes: int) -> None:
        self._capacity_bytes = capacity_bytes
        self._lock = threading.Lock()
        self._conversations: OrderedDict[Hashable, list[tuple[KeptRow, ...]]] = OrderedDict()
        self.num_bytes = 0
        self.num_reused_tokens = 0

    @property
    def is_open(self) -> bool:
        """Whether anything can be kept at all."""
        return self._capacity_bytes > 0

    def keep(self, scope: Hashable, rows: tuple[KeptRow, ...]) -> None:
        """Keep an answer's rows; they replace those of the turn before, which they continue."""
        with self._lock:
            conversations = self._conversations.pop(scope, [])
            self.num_bytes -= _bytes(conversations)
            conversations = [old for old in conversations if not _continues(rows, old)]
            self._conversations[scope] = [*conversations, rows][-CONVERSATIONS_OF_A_SCOPE:]
            self.num_bytes += _bytes(self._conversations[scope])
            while self.num_bytes > self._capacity_bytes:
                _, dropped = self._conversations.popitem(last=False)
                self.num_bytes -= _bytes(dropped)

    def find(self, scope: Hashable, kind: RowKind, prompt: ListOf[int]) -> tuple[States | None, int]:
        """States that begin like `prompt`, and how many of its tokens they hold; always fewer than it has.

        The last token is run again in any case, for what follows it.
        """
        with self._lock:
            conversations = self._conversations.get(scope, [])
            if conversations:
                self._conversations.move_to_end(scope)
        found: tuple[States | None, int] = (None, 0)
        for row in (row for rows in conversations for row in rows if row.kind == kind):
            length = min(_num_common(row.tokens, prompt), len(prompt) - 1)
            if length > found[1]:
                found = (row.states, length)
        self.num_reused_tokens += found[1]
        return found

    def forget(self, scope: Hashable) -> None:
        """Drop all that is kept of a scope."""
        with self._lock:
            self.num_bytes -= _bytes(self._conversations.pop(scope, []))


def _bytes(conversations: list[tuple[KeptRow, ...]]) -> int:
    return sum(row.states.num_bytes for rows in conversations for row in rows)


def _continues(rows: tuple[KeptRow, ...], old: tuple[KeptRow, ...]) -> bool:
    """Whether every old row is the beginning of a new one of its kind."""
    new: Mapping[RowKind, list[tuple[int, ...]]] = {
        kind: [row.tokens for row in rows if row.kind == kind] for kind in {row.kind for row in rows}
    }
    return all(any(tokens[: len(row.tokens)] == row.tokens for tokens in new.get(row.kind, [])) for row in old)


def _num_common(one: ListOf[int], other: ListOf[int]) -> int:
    length = min(len(one), len(other))
    return next((at for at in range(length) if one[at] != other[at]), length)
