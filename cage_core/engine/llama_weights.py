"""A Llama-shaped model's weights in the order in which the compiled loops read them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cage_core.engine.llama_kernels import CHUNK_TOKENS, PANEL, Array, Projection, Weights, Work
from cage_core.principals.adapters import AdaptedLinear

_QKV = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")
_GATE_UP = ("mlp.gate_proj", "mlp.up_proj")
_OUT = ("self_attn.o_proj",)
_DOWN = ("mlp.down_proj",)


def pack(model: Any, context_tokens: int, ranks: Sequence[int]) -> Weights:
    """Copies of a Llama model's weights and of the adapters installed in it.

    Args:
        ranks: of the adapters, in order.
    """
    body, positions = model.model, torch.arange(context_tokens)[None]
    cosines, sines = body.rotary_emb(model.lm_head.weight, positions)
    half = cosines.shape[-1] // 2
    norms = [[layer.input_layernorm.weight, layer.post_attention_layernorm.weight] for layer in body.layers]
    return Weights(
        embedding=_array(body.embed_tokens.weight),
        norms=np.stack([np.stack([_array(norm) for norm in pair]) for pair in norms]),
        last_norm=_array(body.norm.weight),
        epsilon=float(model.config.rms_norm_eps),
        qkv=_projection(body.layers, _QKV, ranks),
        out=_projection(body.layers, _OUT, ranks),
        gate_up=_projection(body.layers, _GATE_UP, ranks),
        down=_projection(body.layers, _DOWN, ranks),
        head=_panels(model.lm_head.weight),
        cosines=_array(cosines[0, :, :half]),
        sines=_array(sines[0, :, :half]),
    )


def _projection(layers: Any, names: Sequence[str], ranks: Sequence[int]) -> Projection:
    """The named projections of every layer, side by side."""
    modules: list[list[Any]] = [[layer.get_submodule(name) for name in names] for layer in layers]
    weights: list[list[Any]] = [
        [(m.base if isinstance(m, AdaptedLinear) else m).weight for m in row] for row in modules
    ]
    ends = np.cumsum([0, *(len(weight) for weight in weights[0])])
    rank = max(ranks, default=0)
    into = torch.zeros(len(modules), len(ranks), len(names) * rank, int(weights[0][0].shape[1]))
    up = torch.zeros(len(modules), len(ranks), rank, int(ends[-1]))
    for layer, row in enumerate(modules):
        for part, module in enumerate(row):
            adapters = module.adapters() if isinstance(module, AdaptedLinear) else []
            for adapter, (down, above) in enumerate(adapters):
                into[layer, adapter, part * rank : part * rank + len(down)] = down
                up[layer, adapter, : len(down), ends[part] : ends[part + 1]] = above.T
    base = np.stack([_panels(torch.cat(row)) for row in weights])
    return Projection(base, _array(into), _array(up), ends.astype(np.int64))


def _panels(weight: Tensor) -> Array:
    """[outputs, inputs] -> [panels, inputs, PANEL], filled up with zeros."""
    outputs, inputs = weight.shape
    num_panels = -(-outputs // PANEL)
    filled = torch.zeros(num_panels * PANEL, inputs)
    filled[:outputs] = weight
    return _array(filled.reshape(num_panels, PANEL, inputs).transpose(1, 2))


def working_memory(weights: Weights) -> Work:
    """What one forward pass writes on the way."""
    qkv, out, gate_up, down = (
        projection.base.shape[1] * PANEL for projection in (weights.qkv, weights.out, weights.gate_up, weights.down)
    )
    hidden, attended, gated = (p.base.shape[2] for p in (weights.qkv, weights.out, weights.down))
    logits = weights.head.shape[0] * PANEL
    widest_inner = max(p.into.shape[2] for p in (weights.qkv, weights.out, weights.gate_up, weights.down))
    context = len(weights.cosines)

    def rows(width: int) -> Array:
        return np.zeros((CHUNK_TOKENS, width), np.float32)

    return Work(
        stream=rows(hidden),
        normed=rows(hidden),
        qkv=rows(qkv),
        attended=rows(attended),
        gate_up=rows(gate_up),
        gated=rows(gated),
        branch=rows(max(out, down)),
        logits=rows(logits),
        inner=np.zeros(widest_inner, np.float32),
        scores=np.zeros(context, np.float32),
        powers=np.zeros(max(context, logits, gated), np.float32),
    )


def _array(tensor: Tensor) -> Array:
    array: Array = np.ascontiguousarray(tensor.detach().numpy(), dtype=np.float32)
    return array
