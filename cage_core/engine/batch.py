"""The running batch: forward -> solve -> sample -> emit, one token for every sequence at a time."""

from __future__ import annotations

import logging
import time

from torch import Tensor

from cage_core.engine.games import solve_games
from cage_core.engine.lanes import Lanes
from cage_core.engine.model import LanguageModel
from cage_core.engine.prefixes import PrefixStore
from cage_core.engine.sampling import draw
from cage_core.engine.sequence import Sequence
from cage_core.errors import CageError, DeadlineExceeded, DecodeFailed

log = logging.getLogger(__name__)

_SEE_THE_LOG = "decoding failed; the server's log has the cause"


class Batch:
    """Sequences that share the model."""

    def __init__(self, model: LanguageModel, num_rows: int, prefixes: PrefixStore | None = None) -> None:
        self._model = model
        self._capacity_rows = num_rows
        self._lanes = Lanes(model.networks, num_rows, prefixes)
        self._sequences: list[Sequence] = []

    def __len__(self) -> int:
        return len(self._sequences)

    def allocate(self) -> None:
        """Take the key-value memory of all rows now rather than at the first request.

        Raises:
            InvalidModel: it does not fit.
        """
        self._lanes.allocate()

    @property
    def num_free_rows(self) -> int:
        """Rows that no sequence uses."""
        return self._capacity_rows - sum(s.num_rows for s in self._sequences)

    def admit(self, sequences: list[Sequence]) -> None:
        """Run the prompts of new sequences together and decode their first tokens."""
        try:
            running, new = ([s.request.rows for s in group] for group in (self._sequences, sequences))
            scopes = [s.request.conversation_scope for s in sequences]
            self._advance(sequences, self._lanes.prefill(running, new, scopes))
        except Exception:
            self._fail(sequences)
        # All of them, for their rows are taken: `_leave` frees those of sequences that have ended.
        self._sequences.extend(sequences)
        self._leave()

    def step(self) -> None:
        """One token for every sequence."""
        self._expire()
        self._leave()
        batch = list(self._sequences)
        if not batch:
            return
        try:
            self._advance(batch, self._lanes.step([s.request.rows for s in batch], [s.tokens for s in batch]))
        except Exception:
            self._fail(batch)
        self._leave()

    def end_all(self, error: CageError) -> None:
        """Fail every sequence."""
        for sequence in self._sequences:
            sequence.fail(error)
        self._sequences = []

    def _advance(self, batch: list[Sequence], log_probs: Tensor) -> None:
        """Solve, sample, emit."""
        started = time.perf_counter()
        games = solve_games(log_probs, batch, self._model.lexicons)
        share_seconds = (time.perf_counter() - started) / len(batch)
        for sequence, game in zip(batch, games, strict=True):
            sequence.solver_seconds += share_seconds
            if game is None or not game.is_sound:
                log.error(
                    "the model gave no numbers for a request's next token; check the weights of model and principals"
                )
                sequence.fail(DecodeFailed(_SEE_THE_LOG))
                continue
            try:
                chosen = draw(game.policy, sequence.request.sampling, sequence.uniform())
                sequence.accept(game, chosen, self._model.end_tokens)
            except Exception:
                self._fail([sequence])

    def _expire(self) -> None:
        now = time.monotonic()
        for sequence in self._sequences:
            deadline = sequence.request.deadline_seconds
            if deadline is not None and now > deadline:
                sequence.fail(DeadlineExceeded(f"not complete after {len(sequence.tokens)} tokens; ask for fewer"))

    def _fail(self, sequences: list[Sequence]) -> None:
        """End sequences by the exception under way; the loop and the others go on."""
        log.exception("decoding failed for %d request(s)", len(sequences))
        for sequence in sequences:
            sequence.fail(DecodeFailed(_SEE_THE_LOG))

    def _retain(self) -> None:
        """Keep the rows of answers that have ended for the next turns of their conversations."""
        plans = [s.request.rows for s in self._sequences]
        for place, sequence in enumerate(self._sequences):
            scope = sequence.request.conversation_scope
            if scope is not None and sequence.tokens and not sequence.running:
                try:
                    self._lanes.retain(plans, place, sequence.tokens, scope)
                except Exception:
                    log.exception("the rows of a finished answer could not be kept; its next turn starts afresh")

    def _leave(self) -> None:
        """Drop sequences that have ended; those at the end move into the holes, so that few rows are copied."""
        order = [place for place, sequence in enumerate(self._sequences) if sequence.running]
        if len(order) == len(self._sequences):
            return
        self._retain()
        remaining = set(order)
        movable = [place for place in reversed(order) if place >= len(order)]
        order = [place if place in remaining else movable.pop(0) for place in range(len(order))]
        self._lanes.keep([s.request.rows for s in self._sequences], order)
        self._sequences = [self._sequences[place] for place in order]
