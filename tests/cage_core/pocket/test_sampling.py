from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from cage_core.pocket import POCKET_DIR
from cage_core.pocket.corpus import Corpus
from cage_core.pocket.sampling import LONGEST_ANSWER_TOKENS, MIN_P, sample_answers
from tests.checkpoints import make_checkpoint

PROMPTS = ["hi", "a longer prompt than the first", "x"]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return make_checkpoint(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def tokenizer(checkpoint: Path) -> PreTrainedTokenizerBase:
    loaded: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(checkpoint)
    return loaded


def load(path: Path) -> PreTrainedModel:
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(path)
    model.eval()
    return model


def test_a_principal_that_equals_the_base_changes_nothing(checkpoint: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    base = load(checkpoint)
    alone = sample_answers(base, tokenizer, PROMPTS, seed=1)
    tilted = sample_answers(base, tokenizer, PROMPTS, seed=1, principal=load(checkpoint))
    assert [a.text for a in alone] == [a.text for a in tilted]
    assert all(abs(a.kl_nats) < 1e-6 for a in alone + tilted)
    assert all(a.tokens <= LONGEST_ANSWER_TOKENS for a in alone)
    assert all(a.ended == (a.tokens < LONGEST_ANSWER_TOKENS) for a in alone)


def test_another_principal_costs_kl(checkpoint: Path, tokenizer: PreTrainedTokenizerBase, tmp_path: Path) -> None:
    other = load(make_checkpoint(tmp_path / "other", seed=1))
    answers = sample_answers(load(checkpoint), tokenizer, PROMPTS, seed=1, principal=other)
    assert all(a.kl_nats > 0.01 for a in answers)


def test_batched_sampling_stays_within_the_plausible_tokens() -> None:
    """Replays answers alone, without cache or padding: every token must pass the filter there."""
    base = load(POCKET_DIR)
    tokenizer = AutoTokenizer.from_pretrained(POCKET_DIR)
    replayed = 0
    for answer in sample_answers(base, tokenizer, Corpus(0).held_out_prompts(8), seed=2):
        messages = [{"role": "user", "content": answer.prompt}]
        head = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
        body = tokenizer.encode(answer.text, add_special_tokens=False)
        if len(body) != answer.tokens:  # sampled in another split of the same text
            continue
        replayed += 1
        with torch.inference_mode():
            probabilities = base(torch.tensor([head + body])).logits[0].softmax(-1)
        for position, token in enumerate(body, start=len(head) - 1):
            assert probabilities[position, token] >= MIN_P * probabilities[position].max() * 0.999
    assert replayed >= 4
