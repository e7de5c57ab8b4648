"""Train the pocket model and its four principals: ``python -m cage_core.pocket.train --seed 0 --out DIR``.

``--size small --tokenizer cage_core/pocket/weights`` makes the smaller one, which reads and writes the same tokens.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from tempfile import mkdtemp

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

from cage_core.pocket.base_training import (
    CONTEXT_TOKENS,
    SHAPES,
    BaseSettings,
    held_out_perplexity,
    train_base,
)
from cage_core.pocket.checkpoint import write_base
from cage_core.pocket.corpus import Corpus, Dialogue
from cage_core.pocket.preferences import preference_pairs, repetition_pairs, write_pairs
from cage_core.pocket.progress import ProgressLines, say
from cage_core.pocket.record import record_base, record_principals
from cage_core.pocket.sampling import SampledAnswer, sample_answers
from cage_core.pocket.scorers import SCORERS
from cage_core.pocket.tokenizer import train_tokenizer
from cage_core.principals.training import TrainingSettings, read_pairs, train_principal

DESCRIPTIONS = {
    "detail": "Concrete answers: numbers, reasons and examples.",
    "brevity": "Short answers that come to the point.",
    "caution": "Answers that name risks and when to ask a professional.",
    "warmth": "Friendly and encouraging answers.",
}
_VOCABULARY = 2048
_TOKENIZER_DIALOGUES = 6000
_PERPLEXITY_DIALOGUES = 300
_ANSWERS_EACH = 6


def _texts(dialogue: Dialogue) -> list[str]:
    turns = [text for turn in dialogue.turns for text in (turn.question, turn.answer)]
    return [dialogue.system, *turns] if dialogue.system else turns


def _new_tokenizer(seed: int) -> PreTrainedTokenizerFast:
    sample = Corpus(seed + 1)
    texts = [text for _ in range(_TOKENIZER_DIALOGUES) for text in _texts(sample.dialogue())]
    return train_tokenizer(texts, _VOCABULARY, CONTEXT_TOKENS)


def make_base(out: Path, seed: int, settings: BaseSettings, tokenizer_of: Path | None = None) -> None:
    """Train a base model into `out`, with the tokenizer of another checkpoint or one trained for it."""
    started = time.monotonic()
    tokenizer = _new_tokenizer(seed) if tokenizer_of is None else PreTrainedTokenizerFast.from_pretrained(tokenizer_of)
    torch.manual_seed(seed)
    write_base(train_base(tokenizer, Corpus(seed), settings, ProgressLines("base")), tokenizer, out)
    model, _ = _load(out)
    perplexity = held_out_perplexity(model, tokenizer, Corpus(seed + 2), _PERPLEXITY_DIALOGUES)
    record_base(out, model.num_parameters(), perplexity, time.monotonic() - started)
    say(f"base: held-out perplexity {perplexity:.3f}")


def sample_base(out: Path, seed: int, prompts: int) -> list[SampledAnswer]:
    """Several answers of the base to each of many training prompts."""
    model, tokenizer = _load(out)
    questions = Corpus(seed + 3).prompts(prompts)
    repeated = [question for question in dict.fromkeys(questions) for _ in range(_ANSWERS_EACH)]
    return sample_answers(model, tokenizer, repeated, seed)


def make_principals(out: Path, pairs_dir: Path, seed: int, prompts: int, epochs: int) -> None:
    """Sample answers of the base, write preference pairs, and train one principal for each scorer."""
    started = time.monotonic()
    answers = sample_base(out, seed, prompts)
    say(f"principals: {len(answers)} answers sampled, pairs go to {pairs_dir}")
    reports = {}
    for name, scorer in SCORERS.items():
        pairs_path = pairs_dir / f"{name}.jsonl"
        pairs = preference_pairs(answers, scorer)
        write_pairs([*pairs, *repetition_pairs(pairs, seed)], pairs_path)
        settings = TrainingSettings(name, DESCRIPTIONS[name], epochs=epochs, seed=seed)
        target = out / "principals" / name
        reports[name] = train_principal(out, read_pairs(pairs_path), settings, target, ProgressLines(name))
        say(f"{name}: {reports[name]}")
    record_principals(out, reports, time.monotonic() - started)


def _load(out: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32)
    model.eval()
    return model, AutoTokenizer.from_pretrained(out)


def main() -> None:
    """Train everything and write it to the output directory."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="directory of the checkpoint")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--size", choices=SHAPES, default="pocket")
    parser.add_argument("--tokenizer", type=Path, help="checkpoint whose tokenizer is used (default: train one)")
    parser.add_argument("--steps", type=int, default=BaseSettings.steps, help="optimiser steps of the base")
    parser.add_argument("--keep-base", action="store_true", help="train only the principals of the base in --out")
    parser.add_argument("--prompts", type=int, default=400, help="prompts that preference pairs are drawn from")
    parser.add_argument("--epochs", type=int, default=2, help="passes over the pairs for each principal")
    parser.add_argument("--pairs-dir", type=Path, help="where preference pairs go (default: a new directory)")
    arguments = parser.parse_args()
    # Two threads are slower than one on a model of this size as soon as anything else runs.
    torch.set_num_threads(1)
    pairs_dir = arguments.pairs_dir or Path(mkdtemp(prefix="pocket-pairs-"))
    if not arguments.keep_base:
        settings = BaseSettings(SHAPES[arguments.size], steps=arguments.steps)
        make_base(arguments.out, arguments.seed, settings, arguments.tokenizer)
    make_principals(arguments.out, pairs_dir, arguments.seed, arguments.prompts, arguments.epochs)
    say(f"done: {arguments.out}")


if __name__ == "__main__":
    main()
