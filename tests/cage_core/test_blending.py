import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from cage_core.blending import METHODS, externalities, kl_nats, strength_for_kl
from cage_core.equilibrium import Status, equilibrium_gap, solve_equilibrium
from cage_core.errors import InvalidGame
from cage_core.game import Game
from tests.cage_core.games import games, random_game

SOLVING = ["equilibrium", "linear", "theorem3", "maxmin"]


@pytest.mark.parametrize("method", ["equilibrium", "linear", "base", "maxmin"])
def test_padding_changes_nothing(method: str):
    game = random_game(0, principals=3, tokens=10)
    payoffs = torch.zeros(5, 14, dtype=torch.float64)
    payoffs[:3, :10] = game.payoffs
    base = torch.cat([game.base_log_probs, torch.full((4,), -torch.inf, dtype=torch.float64)])
    answer = METHODS[method](game, None)
    padded = METHODS[method](Game(base, payoffs, game.temperature), None)
    tolerance = 1e-7 if method == "maxmin" else 1e-12
    torch.testing.assert_close(padded.policy[:10], answer.policy, rtol=0, atol=tolerance)
    torch.testing.assert_close(padded.incentives[:3, :10], answer.incentives, rtol=0, atol=10 * tolerance)
    assert not padded.policy[10:].any()


@pytest.mark.parametrize("method", SOLVING)
def test_shifting_payoffs_changes_no_policy(method: str):
    game = random_game(1, batch=(4,))
    shifted = Game(game.base_log_probs, game.payoffs + torch.tensor([[3.0], [-7.0], [20.0]]), game.temperature)
    expected = METHODS[method](game, None).policy
    torch.testing.assert_close(METHODS[method](shifted, None).policy, expected, rtol=0, atol=1e-7)


@settings(max_examples=60, deadline=None)
@given(games())
def test_linear_blending_is_the_best_policy_for_everybody_together(game: Game):
    answer = METHODS["linear"](game, None)
    tau = float(game.temperature)
    expected = torch.softmax(game.base_log_probs + game.payoffs.sum(0) / tau, dim=-1)
    torch.testing.assert_close(answer.policy, expected, rtol=0, atol=1e-12)
    assert answer.status is Status.TRUTHFUL
    paid = (answer.policy * answer.incentives).sum(-1)
    torch.testing.assert_close(paid, externalities(game, answer.policy), rtol=0, atol=1e-8 * max(1.0, tau))


@settings(max_examples=60, deadline=None)
@given(games(), st.sampled_from(["equilibrium", "linear", "base", "maxmin"]))
def test_externalities_are_never_negative(game: Game, method: str):
    assert bool((externalities(game, METHODS[method](game, None).policy) >= 0).all())


def test_a_principal_that_changes_nothing_for_others_has_no_externality():
    game = random_game(2)
    payoffs = torch.cat([game.payoffs, torch.full((1, 20), 1.7, dtype=torch.float64)])
    with_one_more = Game(game.base_log_probs, payoffs, game.temperature)
    price = externalities(with_one_more, METHODS["linear"](with_one_more, None).policy)
    assert float(price[3]) == pytest.approx(0, abs=1e-12)
    assert bool((price[:3] > 1e-4).all())


@settings(max_examples=60, deadline=None)
@given(games(most_principals=4), st.floats(0, 5), st.integers(0, 2**31))
def test_exaggerating_does_not_pay_at_clarke_prices(game: Game, factor: float, seed: int):
    noise = torch.randn(game.num_candidates, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    reported = game.payoffs.clone()
    reported[0] = factor * reported[0] + 0.3 * float(game.temperature) * noise

    def kept(claims: torch.Tensor) -> float:
        claimed = Game(game.base_log_probs, claims, game.temperature)
        policy = METHODS["linear"](claimed, None).policy
        return float((policy * game.payoffs[0]).sum() - externalities(claimed, policy)[0])

    assert kept(reported) <= kept(game.payoffs) + 1e-9


@pytest.mark.parametrize("method", SOLVING)
def test_strength_reaches_the_steering_budget(method: str):
    game = random_game(3, batch=(6,))
    strength = strength_for_kl(game, 0.05, method)
    stronger = Game(game.base_log_probs, game.payoffs * strength[:, None, None], game.temperature)
    divergence = kl_nats(stronger, METHODS[method](stronger, None).policy)
    torch.testing.assert_close(divergence, torch.full((6,), 0.05, dtype=torch.float64), rtol=1e-4, atol=0)


def test_an_unreachable_budget_is_infinite_and_a_wrong_method_refused():
    indifferent = Game(torch.zeros(4), torch.zeros(2, 4), 0.1)
    assert float(strength_for_kl(indifferent, 0.05, "linear")) == torch.inf
    for method in ("base", "committed", "magic"):
        with pytest.raises(InvalidGame, match="has no strength"):
            strength_for_kl(indifferent, 0.05, method)
    with pytest.raises(InvalidGame, match="target_kl_nats"):
        strength_for_kl(indifferent, 0.0, "linear")


def test_theorem_3_objective_is_maximised_and_is_not_the_equilibrium():
    game = random_game(4, principals=2, tokens=5, tau=0.3)
    base, tau = game.base_policy(), float(game.temperature)

    def objective(logits) -> float:
        policy = torch.softmax(torch.as_tensor(logits), dim=-1)
        gain = float((policy * game.payoffs.sum(0)).sum())
        cost = tau * float(kl_nats(game, policy)) + tau * float(torch.log(base / policy).max())
        return -(gain - 2 * cost)

    answer = METHODS["theorem3"](game, None)
    reached = objective(torch.log(answer.policy))
    for seed in range(5):
        start = torch.randn(5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).numpy()
        options = {"maxiter": 20000, "xatol": 1e-10, "fatol": 1e-12}
        assert minimize(objective, start, method="Nelder-Mead", options=options).fun >= reached - 1e-7
    assert float((answer.policy - solve_equilibrium(game).policy).abs().max()) > 0.05
    alone = Game(game.base_log_probs, game.payoffs[:1], game.temperature)
    torch.testing.assert_close(METHODS["theorem3"](alone, None).policy, solve_equilibrium(alone).policy)


def test_maxmin_raises_the_worst_principal_above_linear_blending():
    game = random_game(5, principals=3, tokens=30, batch=(20,), tau=1.0)

    def worst(method: str) -> torch.Tensor:
        policy = METHODS[method](game, None).policy
        advantage = ((policy - game.base_policy()).unsqueeze(1) * game.payoffs).sum(-1).amin(-1)
        return 3 * advantage - kl_nats(game, policy)

    robust, blended = worst("maxmin"), worst("linear")
    assert bool((robust >= blended - 1e-7).all())
    assert float((robust - blended).mean()) > 0.1


def test_maxmin_solves_easy_and_hard_games_together():
    """Few candidates with mass and payoffs of very different size: games need from a few to over a hundred steps."""
    generator = torch.Generator().manual_seed(2)
    base = (3 * torch.randn(40, 8, generator=generator, dtype=torch.float64)).log_softmax(-1)
    base = base.masked_fill(base < base.amax(-1, keepdim=True) - 3.9, -torch.inf).log_softmax(-1)
    sizes = 8 * torch.rand(40, 1, 1, generator=generator, dtype=torch.float64) ** 4
    payoffs = sizes * torch.randn(40, 4, 8, generator=generator, dtype=torch.float64)
    together = METHODS["maxmin"](Game(base, payoffs, 1.0), None).policy
    alone = [METHODS["maxmin"](Game(base[i], payoffs[i], 1.0), None).policy for i in range(40)]
    torch.testing.assert_close(together, torch.stack(alone), rtol=0, atol=1e-8)


def test_committed_needs_reserves_and_base_pays_nobody():
    game = random_game(6)
    with pytest.raises(InvalidGame, match="committed needs reserves"):
        METHODS["committed"](game, None)
    base = METHODS["base"](game, None)
    torch.testing.assert_close(base.policy, game.base_policy())
    assert not base.incentives.any()
    assert float(base.gap) == pytest.approx(float(equilibrium_gap(game, base.incentives)))


@pytest.mark.parametrize("seed", range(6))
def test_gradients_agree_with_finite_differences(seed: int):
    game = random_game(seed, principals=3, tokens=9, batch=(2,), tau=0.4)
    temperature = torch.tensor([0.4, 0.6], dtype=torch.float64)
    inputs = [part.requires_grad_() for part in (game.base_log_probs, game.payoffs, temperature)]

    def answers(base: torch.Tensor, payoffs: torch.Tensor, tau: torch.Tensor) -> tuple[torch.Tensor, ...]:
        answer = solve_equilibrium(Game(base, payoffs, tau))
        return answer.policy, answer.reserves, answer.incentives

    assert torch.autograd.gradcheck(answers, inputs, eps=1e-6, atol=1e-5, rtol=1e-5)


def test_gradients_reach_the_weights():
    game = random_game(7, principals=2, tokens=12)
    weights = torch.tensor([0.7, 0.3], dtype=torch.float64, requires_grad=True)

    def likelihood(weights: torch.Tensor) -> torch.Tensor:
        return solve_equilibrium(Game(game.base_log_probs, weights.unsqueeze(-1) * game.payoffs, 0.1)).policy[3].log()

    assert torch.autograd.gradcheck(likelihood, (weights,), eps=1e-6, atol=1e-5, rtol=1e-5)
