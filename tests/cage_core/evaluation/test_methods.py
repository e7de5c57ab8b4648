"""Which methods are the same, and what tells the others apart."""

import numpy as np
import pytest
import torch

from cage_core.evaluation.decoder import TokenGames
from cage_core.evaluation.methods import METHODS, weight_rows


def games(advantages: torch.Tensor) -> TokenGames:
    generator = torch.Generator().manual_seed(3)
    count, principals = advantages.shape
    base = (2 * torch.randn(count, 12, generator=generator, dtype=torch.float64)).log_softmax(-1)
    rewards = torch.randn(count, principals, 12, generator=generator, dtype=torch.float64)
    tokens = torch.arange(12).expand(count, -1)
    return TokenGames(torch.arange(count), tokens, base, rewards, advantages, position=3)


WEIGHTS = weight_rows([[0.5, 0.3, 0.2]] * 5)


def test_mod_is_linear_blending_at_strength_one() -> None:
    """MOD (Shi et al. 2024), reverse KL: the geometric mean of the principals' models with weights that sum to 1."""
    here = games(torch.zeros(5, 3, dtype=torch.float64))
    models = (here.base_log_probs[:, None] + here.rewards).log_softmax(-1)
    mod = torch.softmax((WEIGHTS[:, :, None] * models).sum(1), dim=-1)
    torch.testing.assert_close(METHODS["linear"].policy(WEIGHTS, 1.0)(here), mod)


@pytest.mark.parametrize("name", [name for name in METHODS if name != "committed"])
def test_every_method_gives_policies_and_the_base_without_strength(name: str) -> None:
    here = games(torch.zeros(5, 3, dtype=torch.float64))
    policy = METHODS[name].policy(WEIGHTS, 2.0)(here)
    torch.testing.assert_close(policy.sum(-1), torch.ones(5, dtype=torch.float64))
    assert bool((policy >= 0).all())
    still = METHODS[name].policy(WEIGHTS, 1e-9)(here)
    torch.testing.assert_close(still, here.base_log_probs.exp(), atol=1e-6, rtol=0)


def test_over_the_answer_who_has_been_served_bids_less() -> None:
    served = torch.zeros(5, 3, dtype=torch.float64)
    served[:, 0] = 6.0
    for name in ("budgeted", "nash", "balanced"):
        policy = METHODS[name].policy(WEIGHTS, 2.0)
        worth = [(policy(games(x))[:, None] * games(x).rewards).sum(-1)[:, 0] for x in (served, 0 * served)]
        assert bool((worth[0] <= worth[1] + 1e-12).all())
        assert float((worth[1] - worth[0]).mean()) > 0.1


def test_rows_of_a_batch_are_told_apart_by_their_answers() -> None:
    weights = weight_rows([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [0.2, 0.3, 0.5], [0.5, 0.3, 0.2]])
    here = games(torch.zeros(5, 3, dtype=torch.float64))
    kept = torch.tensor([3, 1])
    left = TokenGames(
        kept, here.tokens[kept], here.base_log_probs[kept], here.rewards[kept], here.advantages[kept], position=4
    )
    policy = METHODS["linear"].policy(weights, 2.0)
    np.testing.assert_allclose(policy(left), policy(here)[kept])
