"""The measuring decoder against the engine that users get: same request, same seed, same answer."""

from dataclasses import replace

import pytest
from torch import Tensor
from torch.nn.functional import one_hot

from cage_core.engine import Answer, DecodeRequest, Engine, EngineLimits, LanguageModel, Sampling, Steering
from cage_core.evaluation.decoder import DecodedAnswer, Decoder, Question, TokenGames
from cage_core.evaluation.methods import METHODS, weight_rows

WEIGHTS = {"calm": 0.7, "brisk": 0.3}
QUESTIONS = [
    Question(f"How do I {what}?", seed) for seed, what in enumerate(["rest", "cook rice", "learn", "ask", "run"])
]
MAX_TOKENS = 24
# From the fifth contested token on, the engine's generator also draws which contexts are kept.
MAX_SAMPLED_TOKENS = 5


def served(model: LanguageModel, steering: Steering, sampling: Sampling) -> list[Answer]:
    engine = Engine(model, EngineLimits(num_rows=24, num_waiting=32))
    engine.start()
    answers = []
    for question in QUESTIONS:
        rows = model.plan_rows([{"role": "user", "content": question.text}], WEIGHTS)
        answers.append(engine.answer(DecodeRequest(rows, steering, replace(sampling, seed=question.seed))))
    engine.stop()
    return answers


def assert_same(model: LanguageModel, measured: list[DecodedAnswer], answers: list[Answer]) -> None:
    scales = model.feature_scales(WEIGHTS)
    for ours, answer in zip(measured, answers, strict=True):
        assert ours.text == answer.text
        assert len(ours.tokens) == answer.completion_tokens
        assert ours.ended == (answer.finish_reason == "stop")
        features = [x / len(ours.tokens) / scale for x, scale in zip(ours.advantages, scales, strict=True)]
        assert features == pytest.approx(answer.features, rel=1e-3, abs=1e-4)


@pytest.mark.parametrize("mode", ["linear", "equilibrium"])
@pytest.mark.parametrize("strength", [1.0, 3.0])
def test_the_engine_draws_the_same_tokens(model: LanguageModel, mode: str, strength: float) -> None:
    answers = served(model, Steering(WEIGHTS, strength, mode), Sampling(MAX_SAMPLED_TOKENS, seed=0))
    policy = METHODS[mode].policy(weight_rows([list(WEIGHTS.values())] * len(QUESTIONS)), strength)
    measured = Decoder(model, list(WEIGHTS), MAX_SAMPLED_TOKENS).decode(QUESTIONS, policy)
    assert_same(model, measured, answers)
    for ours, answer in zip(measured, answers, strict=True):
        assert ours.kl_nats / len(ours.tokens) == pytest.approx(answer.mean_kl_nats, rel=1e-3)


@pytest.mark.parametrize("mode", ["linear", "equilibrium"])
def test_the_engine_takes_the_same_likeliest_tokens(model: LanguageModel, mode: str) -> None:
    answers = served(model, Steering(WEIGHTS, 2.0, mode), Sampling(MAX_TOKENS, seed=0, temperature=0))
    policy = METHODS[mode].policy(weight_rows([list(WEIGHTS.values())] * len(QUESTIONS)), 2.0)

    def likeliest(games: TokenGames) -> Tensor:
        return one_hot(policy(games).argmax(-1), games.tokens.shape[1]).double()

    assert_same(model, Decoder(model, list(WEIGHTS), MAX_TOKENS).decode(QUESTIONS, likeliest), answers)


def test_an_answer_does_not_depend_on_its_batch_nor_on_what_was_decoded_before(model: LanguageModel) -> None:
    decoder = Decoder(model, list(WEIGHTS), MAX_TOKENS)

    def decode(questions: list[Question]) -> list[tuple[int, ...]]:
        policy = METHODS["budgeted"].policy(weight_rows([[0.5, 0.5]] * len(questions)), 4.0)
        return [answer.tokens for answer in decoder.decode(questions, policy)]

    together = decode(QUESTIONS)
    assert [decode([question])[0] for question in QUESTIONS] == together
    assert decode(QUESTIONS) == together
