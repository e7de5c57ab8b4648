"""The frozen language model with all its principals, as one batched forward pass."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging as transformers_logging

from cage_core.engine.cache import SlotCache
from cage_core.errors import InvalidDecodeRequest, InvalidModel
from cage_core.principals.adapters import AdapterRouting, install_adapters, read_adapter
from cage_core.principals.catalogue import Principal

BASE_ROW = 0


class LanguageModel:
    """Base model and principals; a row of a forward pass is either the base or one principal.

    Attributes:
        name: what clients ask for; the directory's name unless given.
        context_tokens: longest prompt plus answer.
    """

    def __init__(
        self, path: Path, principals: Sequence[Principal], *, name: str | None = None, device: str = "cpu"
    ) -> None:
        """Load a checkpoint directory in Hugging Face format and its principals.

        Raises:
            InvalidModel: a file is missing or does not fit; the message names it.
        """
        check_checkpoint(path)
        self.name = name or path.name
        self.principals = tuple(principals)
        self.device = torch.device(device)
        dtype = torch.float32 if self.device.type == "cpu" else torch.bfloat16
        transformers_logging.disable_progress_bar()
        try:
            self._tokenizer: Any = AutoTokenizer.from_pretrained(path, local_files_only=True)
            config = AutoConfig.from_pretrained(path, local_files_only=True)
            model: Any = AutoModelForCausalLM.from_pretrained(
                path, config=config, dtype=dtype, attn_implementation="sdpa", local_files_only=True
            )
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            raise InvalidModel(f"{path} cannot be loaded as a causal language model: {error}") from error
        if not self._tokenizer.chat_template:
            raise InvalidModel(f"{path}: tokenizer_config.json has no chat_template; add one")
        self.context_tokens: int = config.max_position_embeddings
        self.num_layers: int = config.num_hidden_layers
        self._model = model.to(self.device).eval().requires_grad_(False)
        adapters = [(p.name, read_adapter(p.path)) for p in self.principals]
        self._routing: AdapterRouting | None = install_adapters(self._model, adapters) if adapters else None
        self._row_of_principal = {p.name: index + 1 for index, p in enumerate(self.principals)}
        self.end_tokens = _end_tokens(self._model, self._tokenizer, path)

    def new_cache(self, num_rows: int) -> SlotCache:
        """Key-value memory for `num_rows` rows of the whole context."""
        return SlotCache(self.num_layers, num_rows, self.context_tokens)

    def row_kinds(self, principals: Iterable[str]) -> tuple[int, ...]:
        """What each row of a request computes: the base first, then its principals in order.

        Raises:
            InvalidDecodeRequest: a principal is not loaded.
        """
        names = tuple(principals)
        unknown = [name for name in names if name not in self._row_of_principal]
        if unknown:
            known = ", ".join(self._row_of_principal) or "none"
            raise InvalidDecodeRequest(f"unknown principal {unknown[0]!r}; loaded principals: {known}")
        return (BASE_ROW, *(self._row_of_principal[name] for name in names))

    def feature_scales(self, principals: Iterable[str]) -> tuple[float, ...]:
        """Feature scale of each named principal, nats."""
        scales = {p.name: p.feature_scale for p in self.principals}
        return tuple(scales[name] for name in principals)

    @torch.inference_mode()
    def next_log_probs(
        self,
        cache: SlotCache,
        first_row: int,
        row_kinds: Tensor,
        tokens: Tensor,
        positions: Tensor,
        last: Tensor,
    ) -> Tensor:
        """Run rows first_row.. of the cache over new tokens.

        Args:
            row_kinds: [rows] as `row_kinds` gives them.
            tokens, positions: [rows, tokens]; a row may end in padding.
            last: [rows] index of each row's last real token.
        Returns:
            [rows, vocabulary] log-probabilities of the token after it, nats, float32.
        """
        if self._routing is not None:
            self._routing.assign(row_kinds)
        cache.aim(first_row, positions)
        reach = torch.arange(int(positions.max()) + 1, device=positions.device)
        mask = reach[None, None, None] <= positions[:, None, :, None]
        # The base model without its head, so that prompts cost the head one token a row.
        hidden = self._model.base_model(
            input_ids=tokens,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
        ).last_hidden_state
        final = hidden[torch.arange(len(last), device=last.device), last]
        logits: Tensor = self._model.get_output_embeddings()(final)
        return logits.float().log_softmax(-1)

    def encode_chat(self, messages: Sequence[Mapping[str, str]]) -> tuple[int, ...]:
        """Tokens of a conversation, ready for the assistant's answer.

        Args:
            messages: {"role": "system" | "user" | "assistant", "content": text}, oldest first.
        Raises:
            InvalidDecodeRequest: the model's chat template refuses the conversation.
        """
        try:
            text = self._tokenizer.apply_chat_template(
                [{**m, "content": self._plain(m["content"])} for m in messages],
                tokenize=False,
                add_generation_prompt=True,
            )
        except Exception as error:  # templates are programs of the checkpoint: they raise what they like
            raise InvalidDecodeRequest(f"the model's chat template refuses these messages: {error}") from error
        return tuple(self._tokenizer.encode(text, add_special_tokens=False))

    def _plain(self, text: str) -> str:
        """`text` without the tokenizer's control tokens, so that no message can close its own turn."""
        before = None
        while before != text:
            before = text
            for token in self._tokenizer.all_special_tokens:
                text = text.replace(token, "")
        return text

    def decode(self, tokens: Sequence[int]) -> str:
        """Text of tokens, special tokens left out."""
        text: str = self._tokenizer.decode(list(tokens), skip_special_tokens=True)
        return text


def check_checkpoint(path: Path) -> None:
    """See that a checkpoint directory is complete, without loading it.

    Raises:
        InvalidModel: it is not there, or lacks a file.
    """
    if not path.is_dir():
        raise InvalidModel(f"model directory {path} does not exist; set CAGE_MODEL to a checkpoint directory")
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        if not (path / name).is_file():
            raise InvalidModel(f"model directory {path} lacks {name}; copy the whole checkpoint there")
    index = path / "model.safetensors.index.json"
    if index.is_file():
        shards = sorted(set(json.loads(index.read_text())["weight_map"].values()))
    else:
        shards = ["model.safetensors"]
    for name in shards:
        if not (path / name).is_file():
            raise InvalidModel(f"model directory {path} lacks {name}; copy the whole checkpoint there")


def _end_tokens(model: Any, tokenizer: Any, path: Path) -> frozenset[int]:
    """Tokens that end an answer: the generation config's, else the tokenizer's."""
    configured = model.generation_config.eos_token_id
    if configured is None:
        configured = tokenizer.eos_token_id
    if configured is None:
        raise InvalidModel(f"{path} names no end-of-sequence token; set eos_token_id in generation_config.json")
    return frozenset(configured if isinstance(configured, list) else [configured])
