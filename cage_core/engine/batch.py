"""The running batch: forward -> solve -> sample -> emit, one token for every sequence at a time."""

from __future__ import annotations

import logging

import torch
from torch import Tensor

from cage_core.engine.games import CandidateFilter, solve_games
from cage_core.engine.model import LanguageModel
from cage_core.engine.sampling import draw
from cage_core.engine.sequence import Sequence, TokenGame
from cage_core.errors import CageError

log = logging.getLogger(__name__)


class DecodeFailed(CageError):
    """Decoding an answer failed for a reason that is not the request's; the log has the cause."""


class Batch:
    """Sequences that share the model; their rows lie in the cache in order, without holes."""

    def __init__(self, model: LanguageModel, num_rows: int, candidates: CandidateFilter) -> None:
        self._model = model
        self._capacity_rows = num_rows
        self._candidates = candidates
        self._cache = model.new_cache(num_rows)
        self._sequences: list[Sequence] = []

    def __len__(self) -> int:
        return len(self._sequences)

    def fits(self, sequence: Sequence) -> bool:
        """Whether rows are free for `sequence`."""
        return self._num_rows + sequence.num_rows <= self._capacity_rows

    def admit(self, sequence: Sequence) -> None:
        """Run a prompt through its rows and decode its first token; a failure ends this sequence alone."""
        prompt = torch.tensor(sequence.request.prompt_tokens).expand(sequence.num_rows, -1)
        positions = torch.arange(prompt.shape[1]).expand_as(prompt)
        last = torch.full((sequence.num_rows,), prompt.shape[1] - 1)
        try:
            log_probs = self._forward([sequence], self._num_rows, prompt, positions, last)
            self._emit([sequence], self._solve([sequence], log_probs))
        except Exception:
            self._fail([sequence])
        if sequence.running:
            self._sequences.append(sequence)

    def step(self) -> None:
        """One token for every sequence."""
        self._leave()
        batch = list(self._sequences)
        if not batch:
            return
        tokens = torch.tensor([s.last_token for s in batch for _ in s.row_kinds])[:, None]
        positions = torch.tensor([s.position for s in batch for _ in s.row_kinds])[:, None]
        try:
            log_probs = self._forward(batch, 0, tokens, positions, torch.zeros(len(tokens), dtype=torch.long))
            self._emit(batch, self._solve(batch, log_probs))
        except Exception:
            self._fail(batch)
        self._leave()

    def end_all(self, error: CageError) -> None:
        """Fail every sequence."""
        for sequence in self._sequences:
            sequence.fail(error)
        self._sequences = []

    @property
    def _num_rows(self) -> int:
        return sum(s.num_rows for s in self._sequences)

    def _forward(
        self, batch: list[Sequence], first_row: int, tokens: Tensor, positions: Tensor, last: Tensor
    ) -> Tensor:
        kinds = torch.tensor([kind for s in batch for kind in s.row_kinds])
        return self._model.next_log_probs(self._cache, first_row, kinds, tokens, positions, last)

    def _solve(self, batch: list[Sequence], log_probs: Tensor) -> list[TokenGame]:
        return solve_games(log_probs, batch, self._candidates)

    def _emit(self, batch: list[Sequence], games: list[TokenGame]) -> None:
        for sequence, game in zip(batch, games, strict=True):
            try:
                chosen = draw(game.policy, sequence.request.sampling, sequence.uniform())
                sequence.accept(game, chosen, self._model.end_tokens)
            except Exception:
                self._fail([sequence])

    def _fail(self, sequences: list[Sequence]) -> None:
        """End sequences by the exception under way; the loop and the others go on."""
        log.exception("decoding failed for %d request(s)", len(sequences))
        for sequence in sequences:
            sequence.fail(DecodeFailed("decoding failed; the server's log has the cause"))

    def _leave(self) -> None:
        """Drop sequences that have ended, and close the holes that their rows leave in the cache."""
        kept: list[int] = []
        first = 0
        for sequence in self._sequences:
            if sequence.running:
                kept.extend(range(first, first + sequence.num_rows))
            first += sequence.num_rows
        if len(kept) < first:
            self._sequences = [s for s in self._sequences if s.running]
            self._cache.keep(kept)
