"""Training a principal: LoRA from preference pairs, on any causal language model.

Direct preference optimisation (Rafailov et al. 2023, arXiv 2305.18290, eq. 7) against the frozen base, with one
deviation: the label of a pair is soft. A margin m asks for a preference probability of sigmoid(4 m), and a pair
without margin for 0.9 instead of 1. Hard labels reward an ever growing likelihood ratio, which a summed
log-likelihood most easily gets by collapsing to very short answers; a soft label is met at a finite ratio.
"""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from cage_core.errors import CageError, InvalidModel
from cage_core.principals.likelihood import answer_features, chunks, encode_answer
from cage_core.principals.pairs import InvalidPairs, PreferencePair, read_pairs
from cage_core.principals.preference_optimisation import (
    EncodedPair,
    TrainingSettings,
    base_log_ratios,
    log_ratios,
    optimise,
)

__all__ = [
    "InvalidPairs",
    "PreferencePair",
    "TrainingDiverged",
    "TrainingReport",
    "TrainingSettings",
    "read_pairs",
    "train_principal",
]

_NAME = re.compile(r"[a-z][a-z0-9_-]{0,62}")
_FEWEST_PAIRS = 8
_MARGIN_SHARPNESS = 4.0
_LABEL_WITHOUT_MARGIN = 0.9
_HELD_OUT_SHARE = 0.1
_SMALLEST_SCALE = 1e-6


class TrainingDiverged(CageError):
    """The optimisation left the finite numbers."""


@dataclass(frozen=True)
class TrainingReport:
    """What the training did, measured on pairs that it did not see.

    Attributes:
        held_out_margin_nats: mean implicit reward of chosen over rejected, beta times the log-likelihood ratio.
        held_out_accuracy: share of held-out pairs whose chosen answer gained more than the rejected one.
        feature_scale: standard deviation of the answer feature over held-out answers, nats per token.
    """

    pairs: int
    held_out_pairs: int
    steps: int
    loss: float
    held_out_margin_nats: float
    held_out_accuracy: float
    feature_scale: float
    seconds: float


def train_principal(
    model_dir: Path,
    pairs: Sequence[PreferencePair],
    settings: TrainingSettings,
    out_dir: Path,
    progress: Callable[[int, int, float], None],
) -> TrainingReport:
    """Train a LoRA adapter from pairs and write it, with its ``principal.json``, to `out_dir`.

    Args:
        model_dir: Hugging Face causal language model; frozen.
        progress: called after every step with (step, steps, smoothed loss in nats).
    Raises:
        InvalidPairs: too few pairs, an unusable name, or a pair that is too long.
        InvalidModel: `model_dir` holds no model.
        TrainingDiverged: the weights are no longer finite; nothing is written.
    """
    if not _NAME.fullmatch(settings.name):
        raise InvalidPairs(f"name {settings.name!r} must match {_NAME.pattern}; choose another name")
    if len(pairs) < _FEWEST_PAIRS:
        raise InvalidPairs(f"{len(pairs)} pairs are too few; give at least {_FEWEST_PAIRS}, better some hundred")
    if not (model_dir / "config.json").is_file():
        raise InvalidModel(f"{model_dir} lacks config.json; give the directory of a Hugging Face model")
    started = time.monotonic()
    encoded = _encode_pairs(model_dir, pairs, settings)
    with torch.random.fork_rng():
        torch.manual_seed(settings.seed)
        model = _with_adapter(model_dir, settings)
        training, held_out = _split(pairs, encoded)
        steps, loss = optimise(model, training, settings, progress)
    margins = settings.beta * (log_ratios(model, held_out) - base_log_ratios(model, held_out))
    scale = _feature_scale(model, held_out)
    _write(model, model_dir, settings, scale, out_dir)
    return TrainingReport(
        pairs=len(training),
        held_out_pairs=len(held_out),
        steps=steps,
        loss=loss,
        held_out_margin_nats=margins.mean().item(),
        held_out_accuracy=(margins > 0).float().mean().item(),
        feature_scale=scale,
        seconds=time.monotonic() - started,
    )


def _encode_pairs(model_dir: Path, pairs: Sequence[PreferencePair], settings: TrainingSettings) -> list[EncodedPair]:
    tokenizer = AutoTokenizer.from_pretrained(model_dir)
    encoded = []
    for number, pair in enumerate(pairs, start=1):
        chosen, rejected = (encode_answer(tokenizer, pair.prompt, text) for text in (pair.chosen, pair.rejected))
        longest = max(len(chosen.ids), len(rejected.ids))
        if longest > settings.longest_tokens:
            raise InvalidPairs(
                f"pair {number} has {longest} tokens, more than {settings.longest_tokens}; shorten or remove it"
            )
        encoded.append(EncodedPair(chosen, rejected, _label(pair.margin)))
    return encoded


def _split(
    pairs: Sequence[PreferencePair], encoded: Sequence[EncodedPair]
) -> tuple[list[EncodedPair], list[EncodedPair]]:
    """(training, held out): pairs to one prompt stay together, but for one prompt that may lie on the border."""
    prompts = list(dict.fromkeys(pair.prompt for pair in pairs))
    rank = dict(zip(prompts, torch.randperm(len(prompts)).tolist(), strict=True))
    order = sorted(range(len(pairs)), key=lambda i: rank[pairs[i].prompt])
    held_out_count = max(2, round(_HELD_OUT_SHARE * len(pairs)))
    return [encoded[i] for i in order[held_out_count:]], [encoded[i] for i in order[:held_out_count]]


def _label(margin: float | None) -> float:
    if margin is None:
        return _LABEL_WITHOUT_MARGIN
    return torch.sigmoid(torch.tensor(_MARGIN_SHARPNESS * margin)).item()


def _with_adapter(model_dir: Path, settings: TrainingSettings) -> PeftModel:
    base: PreTrainedModel = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    config = LoraConfig(
        r=settings.rank, lora_alpha=2 * settings.rank, target_modules="all-linear", task_type="CAUSAL_LM"
    )
    base.to(device=device)  # type: ignore[call-arg]
    return cast(PeftModel, get_peft_model(base, config))


def _feature_scale(model: PeftModel, pairs: Sequence[EncodedPair]) -> float:
    answers = [answer for pair in pairs for answer in (pair.chosen, pair.rejected)]
    features = torch.cat([answer_features(model, part) for part in chunks(answers, 32)])
    scale = features.double().std().item()
    if not math.isfinite(scale):
        raise TrainingDiverged("training diverged; lower the learning rate, or look for extreme margins in the pairs")
    # A principal that equals the base has features of zero; the floor keeps the scale a divisor.
    return max(scale, _SMALLEST_SCALE)


def _write(model: PeftModel, model_dir: Path, settings: TrainingSettings, scale: float, out_dir: Path) -> None:
    # The directory's name, not its path: an adapter must not carry the layout of the disk it was made on.
    model.peft_config["default"].base_model_name_or_path = model_dir.name
    # The vocabulary never changes here; left to decide by itself, PEFT asks the network for the base's config.
    model.save_pretrained(str(out_dir), save_embedding_layers=False)
    (out_dir / "README.md").unlink(missing_ok=True)
    manifest = {
        "name": settings.name,
        "kind": "adapter",
        "description": settings.description,
        "feature_scale": scale,
    }
    (out_dir / "principal.json").write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
