"""Every kind of principal against its directly computed log-ratio, at every step of an answer."""

import threading
from pathlib import Path

import numpy as np
import pytest

from cage_core.engine import Answer, CandidateFilter, DecodeRequest, Engine, LanguageModel, Sampling, Steering
from cage_core.engine.games import solve_games
from cage_core.engine.lanes import Lanes
from cage_core.engine.sequence import Sequence
from cage_core.errors import InvalidModel
from cage_core.principals.catalogue import find_principals
from tests.cage_core.engine.direct import direct_log_probs
from tests.checkpoints import make_adapter, make_checkpoint, make_principal, make_tokenizer

MESSAGES = [{"role": "user", "content": "How are you?"}]
DIRECTIVE = "Be brief."
LEXICON = {"a": 1.5, "b": -2.0}
NUM_TOKENS = 64


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("kinds")
    make_checkpoint(home / "base", seed=0)
    make_checkpoint(home / "small", seed=1)
    make_checkpoint(home / "small-tuned", seed=2)
    make_adapter(home / "base", home / "principals" / "adapter", seed=5)
    make_principal(home / "principals" / "prompt", kind="prompt", directive=DIRECTIVE)
    make_principal(home / "principals" / "model", kind="model", tuned="../../small-tuned", base="../../small")
    make_principal(home / "principals" / "lexical", kind="lexical", scores=LEXICON)
    return home


@pytest.fixture(scope="module")
def model(home: Path) -> LanguageModel:
    return LanguageModel(home / "base", find_principals(home / "principals"))


def test_every_kind_equals_its_log_ratio_at_every_step(home: Path, model: LanguageModel) -> None:
    names = ["lexical", "model", "prompt", "adapter"]
    request = DecodeRequest(
        rows=model.plan_rows(MESSAGES, names),
        steering=Steering(dict.fromkeys(names, 0.25), mode="linear"),
        sampling=Sampling(NUM_TOKENS, seed=0),
        candidates=CandidateFilter(top_k=260, min_p=1e-12),
    )
    sequence = Sequence(request, (1.0,) * 4, model.decode, lambda event: None)
    lanes = Lanes(model.networks, num_rows=8)
    log_probs = lanes.prefill([], [request.rows])
    rewards = []
    for step in range(NUM_TOKENS):
        (game,) = solve_games(log_probs, [sequence], model.lexicons)
        by_token = np.empty((4, len(game.tokens)))
        by_token[:, np.argsort(np.argsort(game.tokens))] = game.rewards
        rewards.append((np.sort(game.tokens), by_token))
        sequence.accept(game, step % 7, frozenset())
        log_probs = lanes.step([request.rows], [sequence.tokens])

    expected = _direct_rewards(home, sequence.tokens)
    for step, (tokens, by_token) in enumerate(rewards):
        for row, name in enumerate(names):
            np.testing.assert_allclose(by_token[row], expected[name][step][tokens], atol=1e-4, err_msg=f"{name} {step}")


def _direct_rewards(home: Path, answer: list[int]) -> dict[str, np.ndarray]:
    tokenizer = make_tokenizer()
    plain = tokenizer.apply_chat_template(MESSAGES, tokenize=True, add_generation_prompt=True)["input_ids"]
    directed = tokenizer.apply_chat_template(
        [{"role": "system", "content": DIRECTIVE}, *MESSAGES], tokenize=True, add_generation_prompt=True
    )["input_ids"]

    def follow(checkpoint: str, adapter: Path | None, prompt: list[int]) -> np.ndarray:
        return direct_log_probs(home / checkpoint, adapter, [*prompt, *answer])[len(prompt) - 1 : -1].numpy()

    lexical = np.zeros(len(tokenizer))
    for text, score in LEXICON.items():
        lexical[tokenizer.encode(text)[0]] = score
    base = follow("base", None, plain)
    return {
        "adapter": follow("base", home / "principals" / "adapter", plain) - base,
        "prompt": follow("base", None, directed) - base,
        "model": follow("small-tuned", None, plain) - follow("small", None, plain),
        "lexical": np.broadcast_to(lexical, base.shape),
    }


def test_all_kinds_in_one_batch_answer_as_alone(model: LanguageModel) -> None:
    sets = [["prompt"], ["model", "lexical"], ["adapter", "prompt", "model"], ["lexical"]]
    requests = [
        DecodeRequest(
            rows=model.plan_rows(MESSAGES, names),
            steering=Steering(dict.fromkeys(names, 1.0), strength=0.5),
            sampling=Sampling(20 + 3 * seed, seed=seed),
        )
        for seed, names in enumerate(sets)
    ]
    engine = Engine(model)
    engine.start()
    alone = [engine.answer(request).text for request in requests]
    answers: list[Answer] = []
    threads = [threading.Thread(target=lambda r=r: answers.append(engine.answer(r))) for r in requests]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    engine.stop()
    assert sorted(a.text for a in answers) == sorted(alone)


def test_guides_that_share_a_base_share_its_row(home: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        tuned = home / ("small-tuned" if name == "one" else "base")
        make_principal(tmp_path / name, kind="model", tuned=str(tuned), base=str(home / "small"))
    model = LanguageModel(home / "base", find_principals(tmp_path))
    plan = model.plan_rows(MESSAGES, ["one", "two"])
    assert len(plan.rows) == 4
    assert plan.rules[0].minus == plan.rules[1].minus


@pytest.mark.parametrize(
    ("manifest", "said"),
    [
        ({"kind": "oracle"}, "kind 'oracle' is not served; known kinds: adapter, prompt, model, lexical"),
        ({"kind": "prompt"}, "directive"),
        ({"kind": "lexical", "scores": {"two words": 1.0}}, "'two words' is 9 tokens of the model, not one"),
        ({"kind": "lexical", "scores": {"a": "much"}}, "not a principal's manifest"),
        ({"kind": "model", "tuned": "nowhere", "base": "nowhere"}, "does not exist"),
        ({"kind": "prompt", "directive": "x", "feature_scale": 0}, "feature_scale must be a positive number"),
        ({"kind": "prompt", "directive": "x", "name": "Big Name"}, "must match"),
    ],
)
def test_manifests_that_cannot_be_served(home: Path, tmp_path: Path, manifest: dict[str, object], said: str) -> None:
    make_principal(tmp_path / "bad", **manifest)
    with pytest.raises(InvalidModel, match=said):
        LanguageModel(home / "base", find_principals(tmp_path))


def test_a_guide_with_another_tokenizer_is_refused(home: Path, tmp_path: Path) -> None:
    other = make_checkpoint(tmp_path / "other", seed=4)
    tokenizer = make_tokenizer()
    tokenizer.add_tokens(["surplus"])
    tokenizer.save_pretrained(other)
    make_principal(tmp_path / "principals" / "guide", kind="model", tuned=str(other), base=str(other))
    with pytest.raises(InvalidModel, match="has another tokenizer than the base model"):
        LanguageModel(home / "base", find_principals(tmp_path / "principals"))


def test_two_principals_of_one_name(home: Path, tmp_path: Path) -> None:
    make_principal(tmp_path / "a" / "twin", kind="prompt", directive="x")
    make_principal(tmp_path / "b" / "twin", kind="prompt", directive="y")
    with pytest.raises(InvalidModel, match="two principals are named 'twin'"):
        find_principals(tmp_path / "a", tmp_path / "b")
