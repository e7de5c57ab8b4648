"""What deciding a token costs, without the forward pass: the same games for every method."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from bench.evaluation.cells import Cell
from bench.evaluation.design import Size, evaluated, even
from bench.evaluation.laboratory import OBJECTIVES, Laboratory, asked, decoder_of
from bench.evaluation.rivals import published_policy
from cage_core.evaluation.decoder import TokenGames
from cage_core.evaluation.methods import METHODS, weight_rows

_ANSWERS = 60
_EVERY = 8
_REPEATS = 5
_STRENGTH = 3.0
_TIMED = ("linear", "budgeted", "nash", "balanced", "equilibrium", "theorem3", "maxmin")


def costs(lab: Laboratory, size: Size) -> list[dict[str, Any]]:
    """Processor time a token, four principals: fastest of several passes over the games of 60 answers."""
    games = _games()
    weights = weight_rows([even(4)] * _ANSWERS)
    base = lab.outcome(Cell("base", OBJECTIVES, (even(4),), evaluated(size.worst_prompts), 0.0))
    forward = base.seconds / float(base.grid("num_tokens").sum())
    found = [(name, _seconds(METHODS[name].policy(weights, _STRENGTH), games)) for name in _TIMED]
    few = [_first(each) for each in games[:4]]
    found.append(("published", _seconds(published_policy(weights, 1.0), few, repeats=3)))
    return [
        {"method": name, "microseconds": 1e6 * seconds, "share_of_forward": seconds / forward}
        for name, seconds in found
    ]


def _games() -> list[TokenGames]:
    """Every eighth step of plain answers."""
    seen: list[TokenGames] = []

    def watch(games: TokenGames) -> Tensor:
        if games.position % _EVERY == 0:
            seen.append(games)
        return games.base_log_probs.exp()

    decoder_of(OBJECTIVES).decode(asked(evaluated(_ANSWERS)), watch)
    return seen


def _first(games: TokenGames) -> TokenGames:
    """The first five answers only."""
    return TokenGames(
        games.answers[:5],
        games.tokens[:5],
        games.base_log_probs[:5],
        games.rewards[:5],
        games.advantages[:5],
        games.position,
    )


def _seconds(policy: Any, games: Sequence[TokenGames], repeats: int = _REPEATS) -> float:
    """Of one token of one answer."""
    fastest = float("inf")
    for _ in range(repeats):
        started = time.process_time()
        for each in games:
            policy(each)
        fastest = min(fastest, time.process_time() - started)
    return fastest / sum(len(each.answers) for each in games)
