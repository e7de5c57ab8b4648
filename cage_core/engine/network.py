"""One neural network of the decoder: rows of tokens in, next-token log-probabilities out."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from cage_core.engine.cache import SlotCache
from cage_core.engine.static_step import StaticStep
from cage_core.principals.adapters import AdapterRouting

PLAIN = 0
"""Adapter number of a row that uses no adapter."""


class Network:
    """A causal language model, with or without adapters, over a cache whose rows belong to different requests.

    Attributes:
        context_tokens: longest sequence of a row.
    """

    def __init__(
        self, model: Any, device: torch.device, longest_tokens: int, routing: AdapterRouting | None = None
    ) -> None:
        """Args: model: any causal language model of transformers. longest_tokens: cap on the context."""
        config = model.config.get_text_config()
        self.context_tokens: int = min(config.max_position_embeddings, longest_tokens)
        self.vocabulary_size: int = config.vocab_size
        self._num_layers: int = config.num_hidden_layers
        self._model = model
        self._device = device
        self._routing = routing
        self._layer_types: set[str] | None = set(getattr(config, "layer_types", None) or ()) or None
        self._sliding_window: int | None = getattr(config, "sliding_window", None)
        self._additive_masks = config._attn_implementation == "eager"
        self._step = StaticStep(self.one_token, self.context_tokens, device) if device.type == "cuda" else None

    def new_cache(self, num_rows: int) -> SlotCache:
        """Key-value memory for `num_rows` rows of the whole context."""
        return SlotCache(self._num_layers, num_rows, self.context_tokens)

    @torch.inference_mode()
    def next_log_probs(
        self, cache: SlotCache, first_row: int, adapters: Tensor, tokens: Tensor, positions: Tensor, last: Tensor
    ) -> Tensor:
        """Run rows first_row.. of the cache over new tokens.

        Args:
            adapters: [rows] adapter of each row, `PLAIN` for none.
            tokens, positions: [rows, tokens]; a row may end in padding.
            last: [rows] index of each row's last real token.
        Returns:
            [rows, vocabulary] log-probabilities of the token after it, nats, float32.
        """
        if self._step is not None and first_row == 0 and tokens.shape[1] == 1:
            return self._step.next_log_probs(cache, adapters, tokens, positions)
        self._route(adapters.to(self._device))
        reach = int(positions.max()) + 1
        positions = positions.to(self._device)
        cache.aim(first_row, positions, reach)
        cache.note_length(reach)
        # Prompts are long and the vocabulary is large: the head runs at the rows' last tokens only.
        ends, end_of_row = last.unique(return_inverse=True)
        logits: Tensor = self._model(
            input_ids=tokens.to(self._device),
            attention_mask=self._masks(positions, reach),
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=ends.to(self._device),
        ).logits
        rows = torch.arange(len(last), device=self._device)
        return logits[rows, end_of_row.to(self._device)].float().log_softmax(-1)

    def one_token(self, cache: SlotCache, reach: int, adapters: Tensor, tokens: Tensor, positions: Tensor) -> Tensor:
        """The first rows of the cache over one token each, in fixed shapes and without waiting for the device.

        Args:
            reach: how many positions of each row are read; above the largest position.
            adapters, tokens, positions: [rows], [rows, 1], [rows, 1] on the network's device.
        Returns:
            [rows, vocabulary] log-probabilities, nats, float32.
        """
        self._route(adapters)
        cache.aim(0, positions, reach)
        logits: Tensor = self._model(
            input_ids=tokens,
            attention_mask=self._masks(positions, reach),
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
        ).logits
        return logits[:, -1].float().log_softmax(-1)

    def _route(self, adapters: Tensor) -> None:
        if self._routing is not None:
            self._routing.assign(adapters)

    def _masks(self, positions: Tensor, reach: int) -> Any:
        """Who attends to whom, [rows, 1, tokens, reach]; by layer type where a model mixes attention kinds."""
        read = torch.arange(reach, device=positions.device)
        causal = read <= positions[:, None, :, None]
        if self._sliding_window is None:
            return self._as_mask(causal)
        sliding = causal & (read > positions[:, None, :, None] - self._sliding_window)
        if self._layer_types is None:
            return self._as_mask(sliding)
        return {"full_attention": self._as_mask(causal), "sliding_attention": self._as_mask(sliding)}

    def _as_mask(self, allowed: Tensor) -> Tensor:
        if not self._additive_masks:
            return allowed
        dtype: torch.dtype = self._model.dtype
        return torch.zeros(allowed.shape, dtype=dtype, device=allowed.device).masked_fill_(
            ~allowed, torch.finfo(dtype).min
        )
