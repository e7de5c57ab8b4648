"""Stored token games as arrays, and what any reserve would have earned in them (docs/paper.md, section 3).

Everything here is in units of the agent's temperature. A principal with reserve m pays (v - m)+ for a token worth v
to it, so it keeps min(v, m): with the others' payments fixed and a = pi0 exp(their sum), its utility is

    (sum over v <= m of a v + m H) / (sum over v <= m of a + H),   H = sum over v > m of a exp(v - m):

a few sums over its sorted payoffs give the utilities of a whole grid of reserves at once, exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

LARGEST_EXPONENT = 600.0
WIDTHS = (4, 8, 16, 32)


@dataclass(frozen=True, eq=False)
class TokenGames:
    """Games padded to one width.

    Attributes:
        base: [games, tokens] log-probabilities, -inf where there is no token.
        payoffs: [games, principals, tokens]; ascending: the same, each row sorted; order: how.
        places: [games, principals, grid] number of sorted payoffs that are not above each reserve of the grid.
        grid: [principals, grid] reserves, ascending.
    """

    base: Floats
    payoffs: Floats
    ascending: Floats
    order: NDArray[np.intp]
    places: NDArray[np.intp]
    grid: Floats

    def utilities(self, reserves: Floats) -> Floats:
        """[games, principals, grid] utility of every reserve, the other principals' [principals] held fixed."""
        paid = np.maximum(self.payoffs - reserves[:, None], 0.0)
        others = self.base[:, None, :] + (paid.sum(axis=1, keepdims=True) - paid)
        log_a = np.take_along_axis(others, self.order, axis=-1)
        top = log_a.max(axis=-1, keepdims=True)
        log_e = log_a + self.ascending
        shift = log_e.max(axis=-1, keepdims=True)
        a, e = np.exp(log_a - top), np.exp(log_e - shift)
        low = np.take_along_axis(_sums_before(a), self.places, axis=-1)
        low_worth = np.take_along_axis(_sums_before(a * self.ascending), self.places, axis=-1)
        high = np.take_along_axis(_sums_from(e), self.places, axis=-1)
        high = high * np.exp(np.minimum(shift - top - self.grid, LARGEST_EXPONENT))
        earned: Floats = (low_worth + self.grid * high) / (low + high)
        return earned

    def of(self, chosen: NDArray[np.intp]) -> TokenGames:
        """Some of the games."""
        return TokenGames(
            self.base[chosen],
            self.payoffs[chosen],
            self.ascending[chosen],
            self.order[chosen],
            self.places[chosen],
            self.grid,
        )


def reserve_grid(base: Sequence[Floats], payoffs: Sequence[Floats], size: int) -> Floats:
    """[principals, size] reserves to choose from, ascending.

    Half of them evenly spaced over the principal's payoffs plus the temperature, half at quantiles under the base
    policy: fine where the tokens are, and covering the rest.
    """
    policy: Floats = np.exp(np.concatenate(base))
    rows = []
    for worth in np.concatenate(payoffs, axis=1):
        order = np.argsort(worth)
        mass = np.cumsum(policy[order]) / policy.sum()
        ranks = np.searchsorted(mass, np.linspace(0.0, 1.0, size // 2 + 1)[:-1], side="right")
        quantiles = worth[order][np.minimum(ranks, len(worth) - 1)]
        even = np.linspace(worth.min(), worth.max() + 1.0, size - size // 2)
        rows.append(np.sort(np.concatenate([quantiles + 0.5, even])))
    return np.array(rows)


def token_games(base: Sequence[Floats], payoffs: Sequence[Floats], grid: Floats) -> list[TokenGames]:
    """Games in batches of similar width, so that padding costs little.

    Args:
        base: of each game, [tokens]; payoffs: of each game, [principals, tokens].
    """
    widths = np.array([len(each) for each in base])
    bounds = [*WIDTHS, max(int(widths.max()), WIDTHS[-1] + 1)]
    found, least = [], 0
    for width in bounds:
        chosen = np.flatnonzero((widths > least) & (widths <= width)).tolist()
        least = width
        if chosen:
            found.append(_padded([base[i] for i in chosen], [payoffs[i] for i in chosen], grid))
    return found


def _padded(base: Sequence[Floats], payoffs: Sequence[Floats], grid: Floats) -> TokenGames:
    width = max(map(len, base))
    padded_base = np.full((len(base), width), -np.inf)
    padded = np.zeros((len(base), len(grid), width))
    for row, (log_probs, worth) in enumerate(zip(base, payoffs, strict=True)):
        padded_base[row, : len(log_probs)] = log_probs
        padded[row, :, : len(log_probs)] = worth
    order = np.argsort(padded, axis=-1)
    ascending = np.take_along_axis(padded, order, axis=-1)
    places = np.empty((*padded.shape[:2], grid.shape[1]), np.intp)
    for reserve in range(grid.shape[1]):
        places[:, :, reserve] = (ascending <= grid[None, :, reserve, None]).sum(axis=-1)
    return TokenGames(padded_base, padded, ascending, order, places, grid)


def _sums_before(values: Floats) -> Floats:
    """Sum of the first n values, for n = 0, 1, ..., all."""
    sums = np.zeros((*values.shape[:-1], values.shape[-1] + 1))
    np.cumsum(values, axis=-1, out=sums[..., 1:])
    return sums


def _sums_from(values: Floats) -> Floats:
    """Sum of the values from place n on, for n = 0, 1, ..., all."""
    sums = np.zeros((*values.shape[:-1], values.shape[-1] + 1))
    sums[..., :-1] = np.cumsum(values[..., ::-1], axis=-1)[..., ::-1]
    return sums
