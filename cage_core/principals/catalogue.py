"""What a principal is, and where its files lie."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cage_core.errors import InvalidModel

_NAME = re.compile(r"[a-z][a-z0-9_-]{0,62}")


@dataclass(frozen=True)
class AdapterSource:
    """The base plus a LoRA adapter: adapter_config.json and adapter_model.safetensors lie beside the manifest."""


@dataclass(frozen=True)
class PromptSource:
    """The base under a directive that stands in front of the conversation."""

    directive: str


@dataclass(frozen=True)
class ModelSource:
    """A smaller tuned model against its own base (weak-to-strong); checkpoint directories, same tokenizer."""

    tuned: Path
    base: Path


@dataclass(frozen=True)
class LexicalSource:
    """Fixed scores of tokens, nats; each text is one token of the model."""

    scores: Mapping[str, float]


Source = AdapterSource | PromptSource | ModelSource | LexicalSource
KINDS = {AdapterSource: "adapter", PromptSource: "prompt", ModelSource: "model", LexicalSource: "lexical"}


@dataclass(frozen=True)
class Principal:
    """An objective that bids for tokens: its reward for a token is a log-ratio to the base.

    Attributes:
        name: unique among the principals of one engine; lower case.
        source: where the reward comes from.
        feature_scale: standard deviation of the answer feature over ordinary answers, nats; features are divided
            by it, so that a learner sees all principals on one scale.
        path: directory with `principal.json` and whatever the source needs.
    """

    name: str
    source: Source
    description: str
    feature_scale: float
    path: Path

    @property
    def kind(self) -> str:
        """The source's kind, as the manifest names it."""
        return KINDS[type(self.source)]


def read_principal(path: Path) -> Principal:
    """Read one principal's directory.

    Raises:
        InvalidModel: the manifest is missing or says something that cannot be served.
    """
    manifest_path = path / "principal.json"
    if not manifest_path.is_file():
        raise InvalidModel(f"{path} lacks principal.json; `cage principals train` makes a principal's directory")
    try:
        manifest = json.loads(manifest_path.read_text())
        principal = Principal(
            name=str(manifest["name"]),
            source=_source(manifest, path),
            description=str(manifest.get("description", "")),
            feature_scale=float(manifest["feature_scale"]),
            path=path,
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidModel(f"{manifest_path} is not a principal's manifest: {error!r}") from error
    if not _NAME.fullmatch(principal.name):
        raise InvalidModel(f"{manifest_path}: name {principal.name!r} must match {_NAME.pattern}")
    if not 0 < principal.feature_scale < float("inf"):
        raise InvalidModel(f"{manifest_path}: feature_scale must be a positive number")
    return principal


def _source(manifest: Mapping[str, Any], path: Path) -> Source:
    kind = manifest["kind"]
    if kind == "adapter":
        return AdapterSource()
    if kind == "prompt":
        return PromptSource(str(manifest["directive"]))
    if kind == "model":
        return ModelSource((path / manifest["tuned"]).resolve(), (path / manifest["base"]).resolve())
    if kind == "lexical":
        return LexicalSource({str(text): float(score) for text, score in manifest["scores"].items()})
    raise InvalidModel(f"{path}: kind {kind!r} is not served; known kinds: {', '.join(KINDS.values())}")


def find_principals(*roots: Path) -> tuple[Principal, ...]:
    """All principals in the given directories, by name; a root that does not exist holds none.

    Raises:
        InvalidModel: a directory is unusable, or two principals share a name.
    """
    found: dict[str, Principal] = {}
    for root in roots:
        directories = sorted(p for p in root.iterdir() if p.is_dir()) if root.is_dir() else []
        for principal in map(read_principal, directories):
            if principal.name in found:
                raise InvalidModel(
                    f"two principals are named {principal.name!r}: {found[principal.name].path} and "
                    f"{principal.path}; rename or remove one"
                )
            found[principal.name] = principal
    return tuple(found[name] for name in sorted(found))
