"""Games for tests: random ones for hypothesis, and conversions to the oracles' arrays."""

from __future__ import annotations

import torch
from hypothesis import strategies as st

from cage_core.game import Game


def random_game(
    seed: int, principals: int = 3, tokens: int = 20, batch: tuple[int, ...] = (), scale: float = 1.0, tau: float = 0.3
) -> Game:
    """Normal payoffs over a random base policy, float64."""
    generator = torch.Generator().manual_seed(seed)
    base = torch.log_softmax(2 * torch.randn(*batch, tokens, generator=generator, dtype=torch.float64), dim=-1)
    payoffs = scale * torch.randn(*batch, principals, tokens, generator=generator, dtype=torch.float64)
    return Game(base, payoffs, tau)


@st.composite
def games(draw: st.DrawFn, most_principals: int = 6, most_tokens: int = 40) -> Game:
    """Random, tied, collinear and opposed games over two decades of temperature and payoff scale."""
    principals = draw(st.integers(1, most_principals))
    tokens = draw(st.integers(1, most_tokens))
    tau = 10 ** draw(st.floats(-2, 0.5))
    scale = 10 ** draw(st.floats(-1, 0.7))
    game = random_game(draw(st.integers(0, 2**31)), principals, tokens, scale=scale, tau=tau)
    kind = draw(st.sampled_from(["random", "tied", "collinear", "opposed"]))
    payoffs = game.payoffs
    if kind == "tied":
        payoffs = torch.round(payoffs * 2) / 2
    elif kind == "collinear":
        payoffs = payoffs[:1] * torch.linspace(0.5, 2.0, principals, dtype=torch.float64).unsqueeze(-1)
    elif kind == "opposed":
        signs = torch.tensor([1.0, -1.0], dtype=torch.float64).repeat(principals)[:principals]
        payoffs = payoffs[:1] * signs.unsqueeze(-1)
    return Game(game.base_log_probs, payoffs, tau)
