"""Principals from below: the small pocket model, tuned for each objective, against its own base (weak to strong)."""

from __future__ import annotations

from pathlib import Path

from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from cage_core.pocket import SMALL_POCKET_DIR
from cage_core.principals.catalogue import ModelSource, Principal, read_principal

_PREFIX = "small-"


def small(objective: str) -> str:
    """Name of the principal that guides from the small model."""
    return _PREFIX + objective


def objective_of(principal: str) -> str:
    """Whose wish a principal carries, whatever model speaks for it."""
    return principal.removeprefix(_PREFIX)


def is_small(principal: str) -> bool:
    """Whether the small model speaks for it."""
    return principal.startswith(_PREFIX)


def small_principal(name: str, folder: Path) -> Principal:
    """The small model's principal, its adapter merged into a checkpoint of its own under `folder`."""
    adapter = read_principal(SMALL_POCKET_DIR / "principals" / objective_of(name))
    tuned = folder / name
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(SMALL_POCKET_DIR), adapter.path)
    model.merge_and_unload().save_pretrained(tuned)
    AutoTokenizer.from_pretrained(SMALL_POCKET_DIR).save_pretrained(tuned)
    return Principal(name, ModelSource(tuned, SMALL_POCKET_DIR), adapter.description, adapter.feature_scale, tuned)
