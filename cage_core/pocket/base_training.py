"""Training of the pocket base model on the generated corpus."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

from cage_core.pocket.corpus import Corpus, Dialogue

CONTEXT_TOKENS = 768
_IGNORED = -100
_BATCHES_PER_BUCKET = 16


@dataclass(frozen=True)
class ModelShape:
    """Widths and depth of a Llama-architecture model."""

    hidden: int
    intermediate: int
    layers: int
    heads: int


SHAPES = {
    "pocket": ModelShape(hidden=160, intermediate=480, layers=4, heads=5),
    # A third of the size, to guide the larger one from below (weak-to-strong).
    "small": ModelShape(hidden=96, intermediate=288, layers=3, heads=3),
}


@dataclass(frozen=True)
class BaseSettings:
    """Size and length of the base training.

    Attributes:
        batch_dialogues: dialogues per optimiser step.
        peak_rate: learning rate after warm-up; falls as a cosine to a twentieth of it.
        decay: weight decay of the matrices.
    """

    shape: ModelShape = SHAPES["pocket"]
    steps: int = 2700
    batch_dialogues: int = 32
    peak_rate: float = 4e-3
    decay: float = 0.05
    warmup_steps: int = 100


def build_model(tokenizer: PreTrainedTokenizerBase, shape: ModelShape) -> LlamaForCausalLM:
    """A fresh Llama-architecture model."""
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=shape.hidden,
        intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.heads,
        max_position_embeddings=CONTEXT_TOKENS,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return LlamaForCausalLM(config)


def encode_dialogue(tokenizer: PreTrainedTokenizerBase, dialogue: Dialogue) -> tuple[list[int], list[int]]:
    """Token ids of a dialogue, and the same with everything but the answers masked out."""
    messages = [{"role": "system", "content": dialogue.system}] if dialogue.system else []
    for turn in dialogue.turns:
        messages += [
            {"role": "user", "content": turn.question},
            {"role": "assistant", "content": turn.answer},
        ]
    encoded = cast(
        dict[str, list[int]],
        tokenizer.apply_chat_template(messages, return_dict=True, return_assistant_tokens_mask=True),
    )
    ids, mask = encoded["input_ids"], encoded["assistant_masks"]
    return ids, [token if kept else _IGNORED for token, kept in zip(ids, mask, strict=True)]


def _batches(
    tokenizer: PreTrainedTokenizerBase, corpus: Corpus, batch_dialogues: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Endless (ids, targets), each [dialogues, tokens]; dialogues of similar length share a batch."""
    pad = tokenizer.pad_token_id
    order = torch.Generator().manual_seed(0)
    while True:
        pool = [encode_dialogue(tokenizer, corpus.dialogue()) for _ in range(batch_dialogues * _BATCHES_PER_BUCKET)]
        pool.sort(key=lambda encoded: len(encoded[0]))
        for start in torch.randperm(_BATCHES_PER_BUCKET, generator=order).tolist():
            batch = pool[start * batch_dialogues : (start + 1) * batch_dialogues]
            width = max(len(ids) for ids, _ in batch)
            yield (
                torch.tensor([ids + [pad] * (width - len(ids)) for ids, _ in batch]),
                torch.tensor([targets + [_IGNORED] * (width - len(targets)) for _, targets in batch]),
            )


def answer_loss(model: PreTrainedModel, ids: Tensor, targets: Tensor) -> Tensor:
    """Mean negative log-likelihood per answer token, nats; the output layer runs on answer positions only."""
    hidden = model.model(input_ids=ids).last_hidden_state[:, :-1]
    kept = targets[:, 1:] != _IGNORED
    return functional.cross_entropy(model.lm_head(hidden[kept]), targets[:, 1:][kept])


def _rate(step: int, settings: BaseSettings) -> float:
    if step < settings.warmup_steps:
        return (step + 1) / settings.warmup_steps
    progress = (step - settings.warmup_steps) / max(1, settings.steps - settings.warmup_steps)
    return 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * progress))


def train_base(
    tokenizer: PreTrainedTokenizerBase,
    corpus: Corpus,
    settings: BaseSettings,
    progress: Callable[[int, int, float], None],
) -> LlamaForCausalLM:
    """Train from scratch; reports (step, steps, smoothed loss in nats per token)."""
    model = build_model(tokenizer, settings.shape)
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": settings.decay}, {"params": vectors, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, lr=settings.peak_rate, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: _rate(step, settings))
    smoothed = math.nan
    model.train()
    for step, (ids, targets) in zip(
        range(settings.steps), _batches(tokenizer, corpus, settings.batch_dialogues), strict=False
    ):
        loss = answer_loss(model, ids, targets)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        smoothed = loss.item() if math.isnan(smoothed) else 0.95 * smoothed + 0.05 * loss.item()
        progress(step + 1, settings.steps, smoothed)
    model.eval()
    return model


def held_out_perplexity(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, corpus: Corpus, dialogues: int
) -> float:
    """Perplexity per answer token on topic questions in held-out phrasings."""
    losses, counts = [], []
    with torch.inference_mode():
        for _ in range(dialogues):
            ids, targets = encode_dialogue(tokenizer, corpus.held_out_dialogue())
            counts.append(sum(target != _IGNORED for target in targets))
            losses.append(answer_loss(model, torch.tensor([ids]), torch.tensor([targets])).item())
    return math.exp(sum(n * loss for n, loss in zip(counts, losses, strict=True)) / sum(counts))
