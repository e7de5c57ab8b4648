"""LoRA adapters of several principals inside one batched forward pass.

All adapters of a layer are concatenated along their rank, and a mask lets each row of the batch see its own
adapter only. Two thin matrix products serve any mix of rows, shapes stay the same whoever is in the batch, and
the base weights are read once. Cost grows with the sum of ranks, which is small beside the layer's width.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from cage_core.errors import InvalidModel

_PREFIX = "base_model.model."


@dataclass(frozen=True)
class Adapter:
    """One LoRA adapter, as PEFT stores it.

    Attributes:
        down: module path -> A, [rank, inputs].
        up: module path -> B times its scale, [outputs, rank].
    """

    rank: int
    down: dict[str, Tensor]
    up: dict[str, Tensor]


def read_adapter(path: Path) -> Adapter:
    """Read a PEFT LoRA checkpoint: adapter_config.json and adapter_model.safetensors.

    Raises:
        InvalidModel: a file is missing, or the adapter uses something that a batched forward cannot serve.
    """
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        if not (path / name).is_file():
            raise InvalidModel(f"{path} lacks {name}; save the adapter with PEFT's save_pretrained")
    try:
        config = json.loads((path / "adapter_config.json").read_text())
        _check_config(config, path)
        rank = int(config["r"])
        scale = config["lora_alpha"] / (rank**0.5 if config.get("use_rslora") else rank)
        tensors = load_file(path / "adapter_model.safetensors")
    except (ValueError, KeyError, TypeError, OSError, SafetensorError) as error:
        raise InvalidModel(f"{path} is not a PEFT adapter that can be read: {error!r}") from error
    down: dict[str, Tensor] = {}
    up: dict[str, Tensor] = {}
    for key, tensor in tensors.items():
        module, _, part = key.removeprefix(_PREFIX).rpartition(".lora_")
        if part == "A.weight":
            down[module] = tensor.float()
        elif part == "B.weight":
            up[module] = tensor.float() * scale
        else:
            raise InvalidModel(f"{path}: weight {key!r} is not a LoRA matrix of a linear layer")
    if not down or down.keys() != up.keys():
        raise InvalidModel(f"{path}: every adapted module needs both lora_A and lora_B")
    return Adapter(rank, down, up)


def _check_config(config: dict[str, object], path: Path) -> None:
    unsupported = {
        "use_dora": bool(config.get("use_dora")),
        "bias": config.get("bias", "none") != "none",
        "modules_to_save": bool(config.get("modules_to_save")),
        "rank_pattern": bool(config.get("rank_pattern")),
        "alpha_pattern": bool(config.get("alpha_pattern")),
    }
    if config.get("peft_type") != "LORA":
        raise InvalidModel(f"{path}: peft_type {config.get('peft_type')!r} is not served; only LORA is")
    if used := [name for name, used in unsupported.items() if used]:
        raise InvalidModel(f"{path}: {', '.join(used)} is not served; retrain the adapter as plain LoRA")


class AdapterRouting:
    """Which adapter each row of the current forward pass uses; shared by all adapted layers.

    Attributes:
        ranks: rank of each adapter, in order.
    """

    def __init__(self, ranks: Sequence[int], device: torch.device, dtype: torch.dtype) -> None:
        self.ranks = tuple(ranks)
        total = sum(ranks)
        self._mask_of_adapter = torch.zeros(len(ranks) + 1, total, device=device, dtype=dtype)
        start = 0
        for index, rank in enumerate(ranks):
            self._mask_of_adapter[index + 1, start : start + rank] = 1
            start += rank
        self.mask = self._mask_of_adapter[:1, None]

    def assign(self, adapters: Tensor) -> None:
        """Set the adapter of every row of the next forward pass.

        Args:
            adapters: [rows] integers; 0 is the plain base, i + 1 the i-th adapter.
        """
        self.mask = self._mask_of_adapter[adapters][:, None]


class AdaptedLinear(nn.Module):
    """A linear layer plus the adapters of all principals, each row seeing its own."""

    def __init__(self, base: nn.Module, down: Tensor, up: Tensor, routing: AdapterRouting) -> None:
        """Args: down: [ranks, inputs]. up: [outputs, ranks]."""
        super().__init__()
        self.base = base
        self.register_buffer("down", down, persistent=False)
        self.register_buffer("up", up, persistent=False)
        self._routing = routing

    def adapters(self) -> list[tuple[Tensor, Tensor]]:
        """A [rank, inputs] and scaled B [outputs, rank] of each adapter."""
        downs = self.get_buffer("down").split(self._routing.ranks)
        ups = self.get_buffer("up").split(self._routing.ranks, dim=1)
        return list(zip(downs, ups, strict=True))

    def forward(self, inputs: Tensor) -> Tensor:
        """[rows, tokens, inputs] -> [rows, tokens, outputs]."""
        inner = functional.linear(inputs, self.get_buffer("down")) * self._routing.mask
        output: Tensor = self.base(inputs)
        return output + functional.linear(inner, self.get_buffer("up"))


def install_adapters(model: nn.Module, adapters: Sequence[tuple[str, Adapter]]) -> AdapterRouting:
    """Replace every adapted linear layer of `model` by one that carries all adapters.

    Args:
        adapters: (principal name, adapter); their order defines the indices of `AdapterRouting.assign`.
    Raises:
        InvalidModel: an adapter names a module that the model lacks, or its shapes do not fit.
    """
    reference = next(model.parameters())
    routing = AdapterRouting([a.rank for _, a in adapters], reference.device, reference.dtype)
    for path in sorted({module for _, adapter in adapters for module in adapter.down}):
        base = _linear_at(model, path, adapters)
        outputs, inputs = _shape(base)
        downs, ups = [], []
        for name, adapter in adapters:
            down = adapter.down.get(path, torch.zeros(adapter.rank, inputs))
            up = adapter.up.get(path, torch.zeros(outputs, adapter.rank))
            if down.shape != (adapter.rank, inputs) or up.shape != (outputs, adapter.rank):
                raise InvalidModel(
                    f"principal {name!r} does not fit the base model: {path} maps {inputs} to {outputs}, "
                    f"the adapter {tuple(down.shape)} and {tuple(up.shape)}; was it trained on another base?"
                )
            downs.append(down)
            ups.append(up)
        adapted = AdaptedLinear(base, torch.cat(downs), torch.cat(ups, dim=1), routing)
        parent, _, child = path.rpartition(".")
        setattr(model.get_submodule(parent), child, adapted.to(reference.device, reference.dtype))
    return routing


def _linear_at(model: nn.Module, path: str, adapters: Sequence[tuple[str, Adapter]]) -> nn.Module:
    try:
        return model.get_submodule(path)
    except AttributeError as error:
        names = [name for name, adapter in adapters if path in adapter.down]
        raise InvalidModel(
            f"principal {names[0]!r} adapts {path}, which the base model lacks; was it trained on another base?"
        ) from error


def _shape(linear: nn.Module) -> tuple[int, int]:
    """(outputs, inputs) of a linear layer; GPT-2's Conv1D stores its weight transposed."""
    weight = linear.get_parameter("weight")
    rows, columns = weight.shape
    return (rows, columns) if isinstance(linear, nn.Linear) else (columns, rows)
