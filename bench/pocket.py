"""What each pocket principal does to answers, alone: ``python -m bench.pocket``.

100 held-out prompts, temperature 1, tokens with base probability of at least 0.02 of the largest. Writes
``bench/results/pocket.json`` and ``bench/results/pocket.md``.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from bench.machine import machine
from cage_core.pocket import POCKET_DIR
from cage_core.pocket.base_training import held_out_perplexity
from cage_core.pocket.corpus import Corpus
from cage_core.pocket.quality import is_on_topic, repeats_itself, valid_sentence_share
from cage_core.pocket.sampling import SampledAnswer, sample_answers
from cage_core.pocket.scorers import SCORERS

_RESULTS = Path(__file__).parent / "results"
_PROMPTS = 100
_SEED = 1000
_PERPLEXITY_DIALOGUES = 300
_SAMPLES_SHOWN = 3


@dataclass(frozen=True)
class Figure:
    """Mean over prompts and its standard error."""

    mean: float
    standard_error: float


@dataclass(frozen=True)
class PolicyFigures:
    """What one policy's answers are like; shares in [0, 1]."""

    scores: dict[str, Figure]
    gain: dict[str, Figure]
    kl_nats_per_token: Figure
    answer_tokens: Figure
    ended_share: float
    valid_sentence_share: float
    repeating_share: float
    on_topic_share: float
    samples: list[dict[str, str]]


def _figure(values: Sequence[float]) -> Figure:
    return Figure(statistics.mean(values), statistics.stdev(values) / len(values) ** 0.5)


def _measure(answers: Sequence[SampledAnswer], base: Sequence[SampledAnswer]) -> PolicyFigures:
    scores = {name: [scorer(a.text) for a in answers] for name, scorer in SCORERS.items()}
    base_scores = {name: [scorer(a.text) for a in base] for name, scorer in SCORERS.items()}
    gains = {n: [x - y for x, y in zip(scores[n], base_scores[n], strict=True)] for n in scores}
    return PolicyFigures(
        scores={name: _figure(values) for name, values in scores.items()},
        gain={name: _figure(values) for name, values in gains.items()},
        kl_nats_per_token=_figure([a.kl_nats for a in answers]),
        answer_tokens=_figure([a.tokens for a in answers]),
        ended_share=statistics.mean(a.ended for a in answers),
        valid_sentence_share=statistics.mean(valid_sentence_share(a.text) for a in answers),
        repeating_share=statistics.mean(repeats_itself(a.text) for a in answers),
        on_topic_share=statistics.mean(is_on_topic(a.prompt, a.text) for a in answers),
        samples=[{"prompt": a.prompt, "answer": a.text} for a in answers[:_SAMPLES_SHOWN]],
    )


def _table(policies: Mapping[str, PolicyFigures], perplexity: float, here: Mapping[str, str]) -> str:
    lines = [
        "# Pocket principals, each alone",
        "",
        f"{_PROMPTS} held-out prompts, temperature 1, min-p 0.02; mean ± standard error. Held-out perplexity of the "
        f"base: {perplexity:.3f}. Ended: within 120 tokens. Valid: share of sentences that are word for word "
        "of the corpus. Repeats: answers that say a sentence twice. On topic: about what was asked; half of the "
        "questions are free wordings that the training never saw.",
        f"{here['processor']}, 1 thread, Python {here['python']}, torch {here['torch']}, {here['date']}.",
        "",
        f"| policy | {' | '.join(SCORERS)} | own gain | KL/token | tokens | ended | valid | repeats | on topic |",
        "|---" * (len(SCORERS) + 8) + "|",
    ]
    for name, p in policies.items():
        scores = " | ".join(_plus_minus(p.scores[s]) for s in SCORERS)
        gain = _plus_minus(p.gain[name]) if name in SCORERS else ""
        lines.append(
            f"| {name} | {scores} | {gain} | {_plus_minus(p.kl_nats_per_token, 3)} | "
            f"{p.answer_tokens.mean:.0f} | {p.ended_share:.0%} | {p.valid_sentence_share:.1%} | "
            f"{p.repeating_share:.0%} | {p.on_topic_share:.0%} |"
        )
    for name, p in policies.items():
        lines += ["", f"## {name}", ""]
        lines += [f"- **{s['prompt']}** {s['answer']}" for s in p.samples]
    return "\n".join(lines) + "\n"


def _plus_minus(figure: Figure, digits: int = 2) -> str:
    return f"{figure.mean:.{digits}f} ± {figure.standard_error:.{digits}f}"


def main() -> None:
    """Measure, write the results, and print them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=POCKET_DIR)
    parser.add_argument("--out", type=Path, default=_RESULTS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    started = time.monotonic()
    tokenizer = AutoTokenizer.from_pretrained(arguments.model)
    base = AutoModelForCausalLM.from_pretrained(arguments.model, dtype=torch.float32).eval()
    prompts = Corpus(_SEED).held_out_prompts(_PROMPTS)
    perplexity = held_out_perplexity(base, tokenizer, Corpus(_SEED + 1), _PERPLEXITY_DIALOGUES)
    base_answers = sample_answers(base, tokenizer, prompts, _SEED, batch_size=_PROMPTS)
    policies = {"base": _measure(base_answers, base_answers)}
    for name in SCORERS:
        copy = AutoModelForCausalLM.from_pretrained(arguments.model, dtype=torch.float32)
        principal = PeftModel.from_pretrained(copy, arguments.model / "principals" / name).eval()
        answers = sample_answers(base, tokenizer, prompts, _SEED, principal, batch_size=_PROMPTS)
        policies[name] = _measure(answers, base_answers)
    here = machine()
    figures = {name: asdict(policy) for name, policy in policies.items()}
    seconds = time.monotonic() - started
    result = {"machine": here, "seconds": seconds, "held_out_perplexity": perplexity, "policies": figures}
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "pocket.json").write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n")
    table = _table(policies, perplexity, here)
    (arguments.out / "pocket.md").write_text(table)
    print(table)


if __name__ == "__main__":
    main()
