from pathlib import Path

import pytest
import torch

from cage_core.engine import LanguageModel
from cage_core.principals.catalogue import find_principals
from tests.checkpoints import make_adapter, make_checkpoint


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    path = make_checkpoint(tmp_path_factory.mktemp("models") / "evaluated")
    for seed, (name, rank) in enumerate({"calm": 4, "brisk": 2}.items()):
        make_adapter(path, path / "principals" / name, seed=seed, rank=rank)
    return path


@pytest.fixture(scope="session")
def model(checkpoint: Path) -> LanguageModel:
    return LanguageModel(checkpoint, find_principals(checkpoint / "principals"))
