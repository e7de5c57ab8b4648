"""Candidates and rewards of a batch: the loops of the CPU, the tensors of a device, and a search by hand."""

import math

import numpy as np
import pytest
import torch

from cage_core.engine.candidates import Candidates, count_plausible, gather_on_device, gather_on_host
from cage_core.engine.games import solve_all, solve_games
from cage_core.engine.request import CandidateFilter, DecodeRequest, Sampling, Steering
from cage_core.engine.rows import BASE_NETWORK, Row, RowPlanner
from cage_core.engine.sequence import Sequence

VOCABULARY = 40
LEXICON = torch.linspace(-1, 1, VOCABULARY)[None]


def sequence(
    num_principals: int, candidates: CandidateFilter, lexical: bool = False, mode: str = "equilibrium"
) -> Sequence:
    planner = RowPlanner((1,))
    for adapter in range(1, num_principals + 1):
        row = planner.row(Row(BASE_NETWORK, adapter, (1,)))
        planner.reward(row, 0, 0 if lexical and adapter == 1 else None)
    names = [f"p{number}" for number in range(num_principals)]
    steering = Steering(dict.fromkeys(names, 1.0), mode=mode)
    request = DecodeRequest(planner.plan(), steering, Sampling(8, 0), candidates)
    return Sequence(request, (1.0,) * num_principals, str, lambda event: None)


def batch() -> tuple[torch.Tensor, list[Sequence]]:
    sequences = [
        sequence(2, CandidateFilter(50, 0.02)),
        sequence(1, CandidateFilter(5, 0.0)),
        sequence(3, CandidateFilter(1000, 0.0), lexical=True),
        sequence(2, CandidateFilter(3, 0.3)),
    ]
    rows = sum(each.num_rows for each in sequences)
    log_probs = (2 * torch.randn(rows, VOCABULARY, generator=torch.Generator().manual_seed(3))).log_softmax(-1)
    return log_probs, sequences


def firsts(sequences: list[Sequence]) -> np.ndarray:
    return np.cumsum([0, *(each.num_rows for each in sequences)])[:-1]


def by_hand(log_probs: torch.Tensor, place: int, sequences: list[Sequence]) -> tuple[list[int], np.ndarray, np.ndarray]:
    one, first = sequences[place], int(firsts(sequences)[place])
    base = log_probs[first].double().tolist()
    kept = sorted(range(VOCABULARY), key=lambda token: (-base[token], token))[: one.request.candidates.top_k]
    kept = [token for token in kept if base[token] >= max(base) + one.request.candidates.log_min_p]
    total = math.log(sum(math.exp(base[token]) for token in kept))
    rewards = [
        [float(log_probs[first + rule.plus, t]) - float(log_probs[first + rule.minus, t]) for t in kept]
        for rule in one.request.rows.rules
    ]
    for j, rule in enumerate(one.request.rows.rules):
        if rule.lexicon is not None:
            rewards[j] = [reward + float(LEXICON[0, t]) for reward, t in zip(rewards[j], kept, strict=True)]
    return kept, np.array([base[token] - total for token in kept]), np.array(rewards)


def test_candidates_are_the_plausible_tokens_and_rewards_their_log_ratios() -> None:
    log_probs, sequences = batch()
    counts, likeliest = count_plausible(log_probs, firsts(sequences), sequences)
    host = gather_on_host(log_probs, firsts(sequences), counts, sequences, LEXICON)
    device = gather_on_device(log_probs, firsts(sequences), sequences, LEXICON)
    for place, one in enumerate(sequences):
        tokens, base, rewards = by_hand(log_probs, place, sequences)
        assert likeliest[place] == tokens[0]
        for found in (host, device):
            check(found, place, len(one.principals), tokens, base, rewards)


def check(
    found: Candidates, place: int, principals: int, tokens: list[int], base: np.ndarray, rewards: np.ndarray
) -> None:
    width = len(tokens)
    assert found.tokens[place, :width].tolist() == tokens
    assert bool((found.base[place, width:] == -torch.inf).all())
    np.testing.assert_allclose(found.base[place, :width].numpy(), base, atol=1e-12)
    np.testing.assert_allclose(found.rewards[place, :principals, :width].numpy(), rewards, atol=1e-12)
    # A principal that another request has and this one has not is worth nothing to anybody.
    assert not bool(found.rewards[place, principals:, :width].any())


def test_equally_likely_tokens_come_in_order() -> None:
    sequences = [sequence(1, CandidateFilter(3, 0.5))]
    log_probs = torch.full((2, VOCABULARY), -9.0)
    log_probs[:, [7, 21, 30, 33]] = -1.0
    counts, _ = count_plausible(log_probs, firsts(sequences), sequences)
    assert counts.tolist() == [4]
    host = gather_on_host(log_probs, firsts(sequences), counts, sequences, LEXICON)
    assert host.tokens.tolist() == [[7, 21, 30]]
    np.testing.assert_allclose(host.base.exp().numpy(), 1 / 3)


def test_tokens_that_the_model_rules_out_are_no_candidates() -> None:
    sequences = [sequence(1, CandidateFilter(50, 0.0))]
    log_probs = torch.zeros(2, VOCABULARY)
    log_probs[:, 3:] = -torch.inf
    counts, _ = count_plausible(log_probs, firsts(sequences), sequences)
    assert counts.tolist() == [3]
    for found in (
        gather_on_host(log_probs, firsts(sequences), counts, sequences, LEXICON),
        gather_on_device(log_probs, firsts(sequences), sequences, LEXICON),
    ):
        assert bool(torch.isfinite(found.rewards).all())
        np.testing.assert_allclose(found.base[0, :3].exp().numpy(), 1 / 3)
        assert bool((found.base[0, 3:] == -torch.inf).all())


@pytest.mark.parametrize("mode", ["equilibrium", "linear"])
@pytest.mark.parametrize("row", [0, 1])
@pytest.mark.parametrize("filters", [CandidateFilter(50, 0.02), CandidateFilter(1, 0.02)])
def test_a_model_that_gives_no_numbers_harms_its_own_answer_only(filters: CandidateFilter, row: int, mode: str) -> None:
    sequences = [sequence(1, filters, mode=mode), sequence(1, filters, mode=mode)]
    log_probs = torch.zeros(4, VOCABULARY).log_softmax(-1)
    log_probs[row] = torch.nan
    broken, sound = solve_games(log_probs, sequences, LEXICON)
    assert sound is not None
    assert sound.is_sound
    # Where one candidate is all that may be said, it does not matter what the principal thinks of it.
    assert (broken is not None and broken.is_sound) == (row == 1 and filters.top_k == 1)


@pytest.mark.parametrize("mode", ["equilibrium", "linear"])
@pytest.mark.parametrize("row", [0, 1])
def test_no_numbers_are_seen_on_a_device_too(row: int, mode: str) -> None:
    sequences = [sequence(1, CandidateFilter(), mode=mode), sequence(1, CandidateFilter(), mode=mode)]
    log_probs = torch.zeros(4, VOCABULARY).log_softmax(-1)
    log_probs[row] = torch.nan
    broken, sound = solve_all(gather_on_device(log_probs, firsts(sequences), sequences, LEXICON), sequences)
    assert not broken.is_sound
    assert sound.is_sound
