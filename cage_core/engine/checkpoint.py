"""Loading checkpoint directories in Hugging Face format, with messages that name what is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging as transformers_logging

from cage_core.checkpoints import check_checkpoint
from cage_core.errors import InvalidModel


def load_causal_model(path: Path, device: torch.device) -> Any:
    """The causal language model of a checkpoint directory, frozen: float32 on a CPU, bfloat16 elsewhere.

    Raises:
        InvalidModel: it is incomplete, is no causal language model, or does not fit into the device's memory.
    """
    check_checkpoint(path)
    transformers_logging.disable_progress_bar()
    dtype = torch.float32 if device.type == "cpu" else torch.bfloat16
    try:
        config = AutoConfig.from_pretrained(path, local_files_only=True)
        model: Any = AutoModelForCausalLM.from_pretrained(path, config=config, dtype=dtype, local_files_only=True)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise InvalidModel(f"{path} cannot be loaded as a causal language model: {error}") from error
    num_bytes = sum(p.numel() * p.element_size() for p in model.parameters())
    try:
        return model.to(device).eval().requires_grad_(False)
    except torch.OutOfMemoryError as error:
        raise InvalidModel(
            f"{path} needs {num_bytes / 2**30:.1f} GiB on {device}, which has not that much free: {error}"
        ) from error


def load_tokenizer(path: Path) -> Any:
    """The tokenizer of a checkpoint directory.

    Raises:
        InvalidModel: it is missing or unreadable.
    """
    check_checkpoint(path)
    try:
        return AutoTokenizer.from_pretrained(path, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        raise InvalidModel(f"{path}: the tokenizer cannot be loaded: {error}") from error
