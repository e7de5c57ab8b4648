import json
from pathlib import Path
from random import Random

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from cage_core.errors import InvalidModel
from cage_core.principals.catalogue import read_principal
from cage_core.principals.likelihood import answer_features, encode_answer
from cage_core.principals.training import (
    InvalidPairs,
    PreferencePair,
    TrainingDiverged,
    TrainingReport,
    TrainingSettings,
    train_principal,
)
from tests.checkpoints import make_checkpoint

SETTINGS = TrainingSettings("letter-a", "Likes the letter a.", rank=4, learning_rate=1e-2, epochs=6, batch_pairs=8)


def letter_pairs(count: int, margin: float | None) -> list[PreferencePair]:
    """Answers made of a are preferred over answers made of b, of all lengths."""
    rng = Random(0)
    pairs = []
    for _ in range(count):
        prompt = "".join(rng.choices("xyz", k=4))
        pairs.append(PreferencePair(prompt, "a" * rng.randint(2, 9), "b" * rng.randint(2, 9), margin))
    return pairs


@pytest.fixture(scope="module")
def base_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return make_checkpoint(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def trained(base_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TrainingReport, list[int]]:
    out_dir = tmp_path_factory.mktemp("principals") / "letter-a"
    steps: list[int] = []
    pairs = letter_pairs(80, margin=0.8)
    report = train_principal(base_dir, pairs, SETTINGS, out_dir, lambda step, _steps, _loss: steps.append(step))
    return out_dir, report, steps


def test_chosen_answers_gain_on_unseen_pairs(trained: tuple[Path, TrainingReport, list[int]]) -> None:
    _, report, steps = trained
    assert report.pairs + report.held_out_pairs == 80
    assert steps == list(range(1, report.steps + 1))
    assert report.held_out_accuracy == 1.0
    assert report.held_out_margin_nats > 1.0
    assert report.loss < torch.log(torch.tensor(2.0)).item()


def test_soft_labels_keep_the_ratio_finite(trained: tuple[Path, TrainingReport, list[int]]) -> None:
    # The label asks for an implicit reward difference of 4 * 0.8 nats; a collapse would run far past it.
    _, report, _ = trained
    assert report.held_out_margin_nats < 2 * 4 * 0.8


def test_the_adapter_loads_in_peft_and_tells_its_scale(
    base_dir: Path, trained: tuple[Path, TrainingReport, list[int]]
) -> None:
    out_dir, report, _ = trained
    principal = read_principal(out_dir)
    assert (principal.name, principal.description) == ("letter-a", "Likes the letter a.")
    assert principal.feature_scale == report.feature_scale > 0
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base_dir), out_dir).eval()
    tokenizer = AutoTokenizer.from_pretrained(base_dir)
    liked, disliked = answer_features(model, [encode_answer(tokenizer, "xyz", text) for text in ("aaaa", "bbbb")])
    assert liked > 0 > disliked


def test_the_adapter_carries_no_path_of_this_disk(
    base_dir: Path, trained: tuple[Path, TrainingReport, list[int]]
) -> None:
    out_dir, _, _ = trained
    config = json.loads((out_dir / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == base_dir.name
    assert {file.name for file in out_dir.iterdir()} == {
        "adapter_config.json",
        "adapter_model.safetensors",
        "principal.json",
    }


def test_same_seed_same_adapter(base_dir: Path, tmp_path: Path) -> None:
    settings = TrainingSettings("twin", rank=2, epochs=1, batch_pairs=8)
    state = torch.get_rng_state()
    for name in ("one", "two"):
        train_principal(base_dir, letter_pairs(16, None), settings, tmp_path / name, lambda *_: None)
    weights = [(tmp_path / name / "adapter_model.safetensors").read_bytes() for name in ("one", "two")]
    assert weights[0] == weights[1]
    assert torch.equal(torch.get_rng_state(), state)


def test_feature_is_the_mean_advantage_by_hand(base_dir: Path, trained: tuple[Path, TrainingReport, list[int]]) -> None:
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base_dir), trained[0]).eval()
    tokenizer = AutoTokenizer.from_pretrained(base_dir)
    answers = [encode_answer(tokenizer, "xy", text) for text in ("ab", "bacab")]
    by_hand = []
    with torch.inference_mode():
        for answer in answers:
            ids = torch.tensor([answer.ids])
            principal = model(ids).logits[0].log_softmax(-1)
            with model.disable_adapter():
                base = model(ids).logits[0].log_softmax(-1)
            reward = principal - base
            positions = range(answer.start - 1, len(answer.ids) - 1)
            gains = [reward[p, answer.ids[p + 1]] - base[p].exp() @ reward[p] for p in positions]
            by_hand.append(torch.stack(gains).mean())
    assert torch.allclose(answer_features(model, answers), torch.stack(by_hand), atol=1e-5)


@pytest.mark.parametrize(
    ("pairs", "settings", "complaint"),
    [
        (letter_pairs(3, None), SETTINGS, "3 pairs are too few"),
        (letter_pairs(9, None), TrainingSettings("Bad Name"), "choose another name"),
        (letter_pairs(9, None), TrainingSettings("short", longest_tokens=8), "pair 1 has .* more than 8"),
    ],
)
def test_unusable_input_is_refused(
    base_dir: Path, tmp_path: Path, pairs: list[PreferencePair], settings: TrainingSettings, complaint: str
) -> None:
    with pytest.raises(InvalidPairs, match=complaint):
        train_principal(base_dir, pairs, settings, tmp_path / "out", lambda *_: None)
    assert not (tmp_path / "out").exists()


def test_a_directory_without_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidModel, match=r"lacks config\.json"):
        train_principal(tmp_path, letter_pairs(9, None), SETTINGS, tmp_path / "out", lambda *_: None)


def test_divergence_writes_nothing(base_dir: Path, tmp_path: Path) -> None:
    settings = TrainingSettings("wild", learning_rate=1e30, epochs=2, batch_pairs=2)
    with pytest.raises(TrainingDiverged, match="lower the learning rate"):
        train_principal(base_dir, letter_pairs(16, None), settings, tmp_path / "out", lambda *_: None)
    assert not (tmp_path / "out").exists()
