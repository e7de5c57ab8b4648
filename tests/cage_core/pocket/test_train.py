"""The training command at toy length: a base from nothing, and principals for the bundled base."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from cage_core.pocket import POCKET_DIR
from cage_core.pocket.base_training import BaseSettings
from cage_core.pocket.progress import ProgressLines
from cage_core.pocket.train import make_base
from cage_core.principals.catalogue import find_principals


def test_base_is_an_ordinary_checkpoint_and_its_seed_decides_it(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    for name in ("one", "two"):
        make_base(tmp_path / name, 0, BaseSettings(steps=2, batch_dialogues=8))
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "one")
    assert model.config.vocab_size == len(AutoTokenizer.from_pretrained(tmp_path / "one"))
    for file in ("model.safetensors", "tokenizer.json"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_command_trains_principals_and_records_how(tmp_path: Path) -> None:
    out = tmp_path / "weights"
    shutil.copytree(POCKET_DIR, out, ignore=shutil.ignore_patterns("principals", "README.md"))
    command = [sys.executable, "-m", "cage_core.pocket.train", "--keep-base", "--out", str(out)]
    short = ["--prompts", "6", "--epochs", "1", "--pairs-dir", str(tmp_path / "pairs")]
    subprocess.run([*command, *short], check=True, capture_output=True, timeout=100)
    assert [p.name for p in find_principals(out / "principals")] == ["brevity", "caution", "detail", "warmth"]
    record = json.loads((out / "training.json").read_text())
    assert record["principals"]["command"] == (
        "python -m cage_core.pocket.train --keep-base --out DIR --prompts 6 --epochs 1 --pairs-dir DIR"
    )
    assert record["principals"]["command"] in (out / "README.md").read_text()


def test_progress_prints_the_last_step(capsys: pytest.CaptureFixture[str]) -> None:
    progress = ProgressLines("base")
    progress(1, 2, 0.75)
    progress(2, 2, 0.5)
    assert capsys.readouterr().out == "base: step 2/2, loss 0.5000, 0 s left\n"
