"""Direct preference optimisation of a LoRA adapter, with soft labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from peft import PeftModel
from torch import Tensor
from torch.nn import functional

from cage_core.principals.likelihood import EncodedAnswer, sequence_log_likelihood

_LARGEST_GRADIENT_NORM = 1.0


@dataclass(frozen=True)
class EncodedPair:
    """Two answers as tokens, and the probability with which the first one shall be preferred."""

    chosen: EncodedAnswer
    rejected: EncodedAnswer
    label: float


@dataclass(frozen=True)
class TrainingSettings:
    """How a principal is trained, and what it is called.

    Attributes:
        name: lower-case letters, digits, - and _; unique among the principals of one engine.
        description: one sentence for people who choose among principals.
        rank: of the LoRA matrices on every linear layer but the output layer.
        beta: strength of the tie to the base; the likelihood ratio that a pair asks for falls with it.
        longest_tokens: most tokens of a prompt and its answer together.
    """

    name: str
    description: str = ""
    rank: int = 8
    learning_rate: float = 1e-3
    epochs: int = 3
    batch_pairs: int = 16
    beta: float = 0.5
    longest_tokens: int = 1024
    seed: int = 0


def optimise(
    model: PeftModel,
    pairs: Sequence[EncodedPair],
    settings: TrainingSettings,
    progress: Callable[[int, int, float], None],
) -> tuple[int, float]:
    """Fit the adapter in place; returns (steps, smoothed loss in nats)."""
    # Similar lengths share a batch: padding is wasted work.
    pairs = sorted(pairs, key=lambda pair: len(pair.chosen.ids) + len(pair.rejected.ids))
    batches = [pairs[i : i + settings.batch_pairs] for i in range(0, len(pairs), settings.batch_pairs)]
    references = [base_log_ratios(model, batch) for batch in batches]
    steps = settings.epochs * len(batches)
    trainable = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(trainable, lr=settings.learning_rate, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, settings.learning_rate, steps, pct_start=0.1)
    smoothed = 0.0
    model.train()
    order = [i for _ in range(settings.epochs) for i in torch.randperm(len(batches)).tolist()]
    for step, index in enumerate(order, start=1):
        ratio = _policy_log_ratios(model, batches[index]) - references[index]
        labels = torch.tensor([pair.label for pair in batches[index]], device=ratio.device)
        loss = functional.binary_cross_entropy_with_logits(settings.beta * ratio, labels)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trainable, _LARGEST_GRADIENT_NORM)
        optimiser.step()
        schedule.step()
        smoothed = loss.item() if step == 1 else 0.9 * smoothed + 0.1 * loss.item()
        progress(step, steps, smoothed)
    model.eval()
    return steps, smoothed


def _policy_log_ratios(model: PeftModel, pairs: Sequence[EncodedPair]) -> Tensor:
    """log p(chosen) - log p(rejected) of each pair, [pairs], nats."""
    answers = [pair.chosen for pair in pairs] + [pair.rejected for pair in pairs]
    chosen, rejected = sequence_log_likelihood(model, answers).chunk(2)
    return chosen - rejected


@torch.no_grad()
def log_ratios(model: PeftModel, pairs: Sequence[EncodedPair], batch_pairs: int = 16) -> Tensor:
    """Of each pair, with the adapter: log p(chosen) - log p(rejected), [pairs], nats."""
    parts = range(0, len(pairs), batch_pairs)
    return torch.cat([_policy_log_ratios(model, pairs[i : i + batch_pairs]) for i in parts])


def base_log_ratios(model: PeftModel, pairs: Sequence[EncodedPair]) -> Tensor:
    """The same without the adapter."""
    with model.disable_adapter():
        return log_ratios(model, pairs)
