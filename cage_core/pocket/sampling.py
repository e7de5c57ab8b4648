"""Batched sampling from the base, or from one principal alone, for training data and for measurement."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from transformers import DynamicCache, PreTrainedTokenizerBase

MIN_P = 0.02
LONGEST_ANSWER_TOKENS = 120


@dataclass(frozen=True)
class SampledAnswer:
    """One sampled answer.

    Attributes:
        tokens: length without the end token.
        ended: whether it ended by itself, with the end token among the first LONGEST_ANSWER_TOKENS.
        kl_nats: mean over its tokens, the end token included, of KL(policy || base), both on the kept candidates.
    """

    prompt: str
    text: str
    tokens: int
    ended: bool
    kl_nats: float


class _Stream:
    """One model's cached pass over a batch of growing sequences."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._cache = DynamicCache()

    def log_probs(self, ids: Tensor, attention: Tensor) -> Tensor:
        """Next-token log-probabilities, [rows, vocabulary], after the new tokens `ids` [rows, new]."""
        positions = (attention.cumsum(-1) - 1).clamp(min=0)[:, -ids.shape[1] :]
        logits: Tensor = self._model(
            input_ids=ids, attention_mask=attention, position_ids=positions, past_key_values=self._cache
        ).logits
        return logits[:, -1].float().log_softmax(-1)


@torch.inference_mode()
def sample_answers(
    base: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    seed: int,
    principal: nn.Module | None = None,
    batch_size: int = 64,
) -> list[SampledAnswer]:
    """Sample one answer a prompt at temperature 1 among tokens with base probability >= MIN_P of the largest.

    Args:
        principal: when given, the policy is base * exp(q) on those tokens, q = log principal - log base.
    """
    generator = torch.Generator().manual_seed(seed)
    answers: list[SampledAnswer] = []
    for start in range(0, len(prompts), batch_size):
        batch = prompts[start : start + batch_size]
        answers += _sample_batch(base, tokenizer, batch, generator, principal)
    return answers


def _sample_batch(
    base: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    generator: torch.Generator,
    principal: nn.Module | None,
) -> list[SampledAnswer]:
    ids, attention = _encode_prompts(tokenizer, prompts)
    streams = [_Stream(base)] + ([] if principal is None else [_Stream(principal)])
    alive = torch.ones(len(prompts), dtype=torch.bool)
    kl_sum = torch.zeros(len(prompts))
    rows: list[list[int]] = [[] for _ in prompts]
    for _ in range(LONGEST_ANSWER_TOKENS):
        base_log_probs, *others = [stream.log_probs(ids, attention) for stream in streams]
        base_policy = _keep(base_log_probs, base_log_probs)
        policy = _keep(others[0] if others else base_log_probs, base_log_probs)
        kl = (policy.exp() * (policy - base_policy).nan_to_num(nan=0.0)).sum(-1)
        kl_sum += kl * alive
        ids = torch.multinomial(policy.exp(), 1, generator=generator)
        attention = torch.cat([attention, torch.ones_like(ids)], dim=1)
        alive &= ids[:, 0] != tokenizer.eos_token_id
        for row in alive.nonzero()[:, 0].tolist():
            rows[row].append(int(ids[row, 0]))
        if not alive.any():
            break
    return [
        SampledAnswer(
            prompt=prompt,
            text=cast(str, tokenizer.decode(row)),
            tokens=len(row),
            ended=not cut,
            kl_nats=(total / (len(row) + (not cut))).item(),
        )
        for prompt, row, cut, total in zip(prompts, rows, alive.tolist(), kl_sum, strict=True)
    ]


def _keep(log_probs: Tensor, base_log_probs: Tensor) -> Tensor:
    """Log-policy on the plausible tokens: the others get -inf, the rest is normalised."""
    limit = base_log_probs.amax(-1, keepdim=True) + torch.log(torch.tensor(MIN_P))
    return log_probs.masked_fill(base_log_probs < limit, -torch.inf).log_softmax(-1)


def _encode_prompts(tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
    """(ids, attention), each [prompts, tokens], padded on the left."""
    encoded = [
        cast(
            list[int],
            tokenizer.apply_chat_template(
                [{"role": "user", "content": prompt}], add_generation_prompt=True, return_dict=False
            ),
        )
        for prompt in prompts
    ]
    width = max(map(len, encoded))
    pad = tokenizer.pad_token_id
    ids = torch.tensor([[pad] * (width - len(row)) + row for row in encoded])
    attention = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in encoded])
    return ids, attention
