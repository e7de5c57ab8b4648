from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from cage_core.pocket import POCKET_DIR, SMALL_POCKET_DIR
from cage_core.pocket.corpus import Corpus
from cage_core.pocket.quality import valid_sentence_share
from cage_core.pocket.sampling import SampledAnswer, sample_answers
from cage_core.pocket.scorers import SCORERS
from cage_core.pocket.tokenizer import END
from cage_core.principals.catalogue import find_principals

TOKENIZER: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(POCKET_DIR)


def load_base() -> PreTrainedModel:
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(POCKET_DIR)
    model.eval()
    return model


@pytest.fixture(scope="module")
def base_answers() -> list[SampledAnswer]:
    torch.set_num_threads(1)
    return sample_answers(load_base(), TOKENIZER, Corpus(77).held_out_prompts(60), seed=0)


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])))
@settings(max_examples=200, deadline=None)
def test_any_unicode_round_trips(text: str) -> None:
    ids = TOKENIZER.encode(text, add_special_tokens=False, split_special_tokens=True)
    assert TOKENIZER.decode(ids) == text


def test_chat_template_marks_every_role() -> None:
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello."},
        {"role": "user", "content": "Thanks"},
    ]
    text = TOKENIZER.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert text == (
        "<|system|>Be brief.<|end|><|user|>Hi<|end|><|assistant|>Hello.<|end|><|user|>Thanks<|end|><|assistant|>"
    )
    assert TOKENIZER.eos_token == END


def test_chat_template_refuses_unknown_roles() -> None:
    with pytest.raises(Exception, match="roles are system, user and assistant"):
        TOKENIZER.apply_chat_template([{"role": "tool", "content": "x"}], tokenize=False)


def test_checkpoint_is_small_and_loads_in_single_precision() -> None:
    model = load_base()
    assert 1_000_000 <= sum(p.numel() for p in model.parameters()) <= 3_000_000
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert model.config.max_position_embeddings >= 512
    assert sum(file.stat().st_size for file in Path(POCKET_DIR).rglob("*") if file.is_file()) <= 12_000_000


def test_base_answers_end_and_read_well(base_answers: list[SampledAnswer]) -> None:
    assert sum(answer.ended for answer in base_answers) >= 0.95 * len(base_answers)
    shares = [valid_sentence_share(answer.text) for answer in base_answers]
    assert sum(shares) >= 0.95 * len(shares)


@pytest.mark.parametrize("name", SCORERS)
def test_each_principal_raises_its_own_score(name: str, base_answers: list[SampledAnswer]) -> None:
    principal = PeftModel.from_pretrained(load_base(), POCKET_DIR / "principals" / name).eval()
    prompts = [answer.prompt for answer in base_answers]
    answers = sample_answers(load_base(), TOKENIZER, prompts, 0, principal)
    gain = sum(SCORERS[name](a.text) for a in answers) - sum(SCORERS[name](b.text) for b in base_answers)
    assert gain / len(prompts) >= 0.2
    assert sum(answer.ended for answer in answers) >= 0.9 * len(answers)


def test_principals_are_registered_with_their_scales() -> None:
    principals = {principal.name: principal for principal in find_principals(POCKET_DIR / "principals")}
    assert principals.keys() == SCORERS.keys()
    assert all(0 < principal.feature_scale < 10 for principal in principals.values())


def test_the_small_model_reads_and_writes_the_same_tokens() -> None:
    assert (SMALL_POCKET_DIR / "tokenizer.json").read_bytes() == (POCKET_DIR / "tokenizer.json").read_bytes()
    assert AutoTokenizer.from_pretrained(SMALL_POCKET_DIR).chat_template == TOKENIZER.chat_template
    small, large = (AutoModelForCausalLM.from_pretrained(path) for path in (SMALL_POCKET_DIR, POCKET_DIR))
    assert small.num_parameters() < 0.4 * large.num_parameters()
    assert {p.name for p in find_principals(SMALL_POCKET_DIR / "principals")} == SCORERS.keys()
    assert sum(file.stat().st_size for file in SMALL_POCKET_DIR.rglob("*") if file.is_file()) <= 3_000_000
