"""Likelihood of answers under a causal language model, and the answer feature of a principal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from peft import PeftModel
from torch import Tensor
from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class EncodedAnswer:
    """Token ids of a prompt followed by an answer; the answer starts at `start` and ends with the end token."""

    ids: tuple[int, ...]
    start: int


def encode_answer(tokenizer: PreTrainedTokenizerBase, prompt: str, answer: str) -> EncodedAnswer:
    """Encode one exchange with the tokenizer's chat template, or plainly where it has none."""
    if tokenizer.chat_template:
        messages = [{"role": "user", "content": prompt}]
        text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        head = tokenizer(text, add_special_tokens=False)["input_ids"]
    else:
        head = tokenizer(prompt + "\n")["input_ids"]
    body = tokenizer(answer, add_special_tokens=False)["input_ids"]
    end = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
    return EncodedAnswer((*head, *body, *end), len(head))


def _padded(answers: Sequence[EncodedAnswer], device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """(ids, attention mask, answer mask), each [answers, tokens], padded on the right."""
    width = max(len(answer.ids) for answer in answers)
    ids = torch.zeros(len(answers), width, dtype=torch.long)
    attention = torch.zeros_like(ids)
    is_answer = torch.zeros_like(ids, dtype=torch.bool)
    for row, answer in enumerate(answers):
        ids[row, : len(answer.ids)] = torch.tensor(answer.ids)
        attention[row, : len(answer.ids)] = 1
        is_answer[row, answer.start : len(answer.ids)] = True
    return ids.to(device), attention.to(device), is_answer.to(device)


def _answer_log_probs(model: torch.nn.Module, ids: Tensor, attention: Tensor, is_answer: Tensor) -> Tensor:
    """Log-probabilities over the vocabulary at every answer token of the batch, [answer tokens, vocabulary]."""
    logits: Tensor = model(input_ids=ids, attention_mask=attention, use_cache=False).logits[:, :-1]
    return logits[is_answer[:, 1:]].float().log_softmax(-1)


def _per_answer(values: Tensor, is_answer: Tensor) -> Tensor:
    """Sum of per-token values within each answer: [answer tokens] -> [answers]."""
    rows = is_answer[:, 1:].nonzero()[:, 0]
    return torch.zeros(len(is_answer), device=values.device).index_add(0, rows, values)


def sequence_log_likelihood(model: torch.nn.Module, answers: Sequence[EncodedAnswer]) -> Tensor:
    """Log-likelihood of each answer given its prompt, end token included: [answers], nats."""
    ids, attention, is_answer = _padded(answers, next(model.parameters()).device)
    log_probs = _answer_log_probs(model, ids, attention, is_answer)
    tokens = ids[:, 1:][is_answer[:, 1:]]
    return _per_answer(log_probs.gather(-1, tokens[:, None])[:, 0], is_answer)


@torch.inference_mode()
def answer_features(model: PeftModel, answers: Sequence[EncodedAnswer]) -> Tensor:
    """Feature of each answer: mean over its tokens of q(token) - E_base[q], q = log principal - log base.

    Returns:
        [answers], nats per token.
    """
    ids, attention, is_answer = _padded(answers, next(model.parameters()).device)
    principal = _answer_log_probs(model, ids, attention, is_answer)
    with model.disable_adapter():
        base = _answer_log_probs(model, ids, attention, is_answer)
    reward = principal - base
    tokens = ids[:, 1:][is_answer[:, 1:]]
    advantage = reward.gather(-1, tokens[:, None])[:, 0] - (base.exp() * reward).sum(-1)
    return _per_answer(advantage, is_answer) / is_answer[:, 1:].sum(-1)


def chunks(answers: Sequence[EncodedAnswer], size: int) -> Iterator[Sequence[EncodedAnswer]]:
    """Consecutive slices of at most `size` answers."""
    return (answers[i : i + size] for i in range(0, len(answers), size))
