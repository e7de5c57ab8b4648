import math

import pytest
import torch

from cage_core.errors import InvalidGame
from cage_core.game import Game

BASE = torch.log(torch.tensor([0.5, 0.3, 0.2]))
PAYOFFS = torch.tensor([[1.0, 0.0, -1.0], [0.0, 2.0, 0.0]])


@pytest.mark.parametrize(
    ("base", "payoffs", "temperature", "complaint"),
    [
        (BASE, PAYOFFS.clone().fill_(math.nan), 0.1, "payoffs must be finite"),
        (BASE, PAYOFFS.clone().fill_(math.inf), 0.1, "payoffs must be finite"),
        (BASE, PAYOFFS.long(), 0.1, "payoffs must be a floating-point tensor"),
        (BASE.tolist(), PAYOFFS, 0.1, "base_log_probs must be a floating-point tensor"),
        (torch.full((3,), -math.inf), PAYOFFS, 0.1, "base_log_probs is -inf for every candidate"),
        (torch.stack([BASE, torch.full((3,), -math.inf)]), PAYOFFS, 0.1, "-inf for every candidate of a game"),
        (torch.tensor([0.0, math.nan, 0.0]), PAYOFFS, 0.1, "base_log_probs must not contain NaN"),
        (torch.tensor([0.0, math.inf, 0.0]), PAYOFFS, 0.1, r"base_log_probs must not contain \+inf"),
        (BASE, PAYOFFS, 1e-12, "more than 1e[+]10 temperatures"),
        (BASE, PAYOFFS, 0.0, "temperature must be finite and above 0"),
        (BASE, PAYOFFS, -1.0, "temperature must be finite and above 0"),
        (BASE, PAYOFFS, math.nan, "temperature must be finite and above 0"),
        (BASE, PAYOFFS, math.inf, "temperature must be finite and above 0"),
        (BASE, PAYOFFS, torch.tensor([0.1, 0.0]), "temperature must be finite and above 0"),
        (BASE, PAYOFFS, "warm", "temperature must be finite and above 0"),
        (BASE[:0], PAYOFFS[:, :0], 0.1, "candidate set is empty"),
        (BASE, PAYOFFS[:0], 0.1, "no principal"),
        (BASE[:2], PAYOFFS, 0.1, "last dimensions must agree"),
        (BASE, PAYOFFS[0], 0.1, r"payoffs \[\.\.\., J, N\]"),
        (BASE.expand(2, 3), PAYOFFS.expand(3, 2, 3), 0.1, "leading dimensions do not broadcast"),
        (BASE.expand(2, 3), PAYOFFS, torch.full((3,), 0.1), "leading dimensions do not broadcast"),
    ],
)
def test_a_game_that_cannot_be_right_says_which_argument_and_why(base, payoffs, temperature, complaint):
    with pytest.raises(InvalidGame, match=complaint):
        Game(base, payoffs, temperature)


def test_arguments_broadcast():
    game = Game(BASE, PAYOFFS.expand(4, 1, 2, 3), torch.full((5,), 0.1))
    assert game.batch_shape == (4, 5)
    assert (game.num_principals, game.num_candidates) == (2, 3)
    assert [part.shape for part in game.flattened()] == [(20, 3), (20, 2, 3), (20,)]


def test_base_policy_is_normalised_over_the_candidates():
    game = Game(BASE + 7, PAYOFFS, 0.1)
    torch.testing.assert_close(game.base_policy(), torch.tensor([0.5, 0.3, 0.2]))


def test_an_empty_batch_is_a_game():
    assert Game(BASE.expand(0, 3), PAYOFFS, 0.1).batch_shape == (0,)
