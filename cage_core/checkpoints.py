"""What a checkpoint directory in Hugging Face format must hold; to look takes no torch."""

from __future__ import annotations

import json
from pathlib import Path

from cage_core.errors import InvalidModel


def check_checkpoint(path: Path) -> None:
    """See that a checkpoint directory is complete, without loading it.

    Raises:
        InvalidModel: it is not there, or lacks a file.
    """
    if not path.is_dir():
        raise InvalidModel(f"model directory {path} does not exist; set CAGE_MODEL to a checkpoint directory")
    index = path / "model.safetensors.index.json"
    shards = set(json.loads(index.read_text())["weight_map"].values()) if index.is_file() else {"model.safetensors"}
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json", *sorted(shards)):
        if not (path / name).is_file():
            raise InvalidModel(f"model directory {path} lacks {name}; copy the whole checkpoint there")
