"""What a principal is, and where its files lie."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from cage_core.errors import InvalidModel

_NAME = re.compile(r"[a-z][a-z0-9_-]{0,62}")


@dataclass(frozen=True)
class Principal:
    """An objective that bids for tokens with its own model of the next token.

    Attributes:
        name: unique among the principals of one engine; lower case.
        kind: how its next-token model is made; "adapter" is the base plus a LoRA adapter.
        feature_scale: standard deviation of the answer feature over ordinary answers, nats; features are divided
            by it, so that a learner sees all principals on one scale.
        path: directory with `principal.json` and the principal's weights.
    """

    name: str
    kind: str
    description: str
    feature_scale: float
    path: Path


def read_principal(path: Path) -> Principal:
    """Read one principal's directory.

    Raises:
        InvalidModel: a file is missing or says something that cannot be served.
    """
    manifest_path = path / "principal.json"
    if not manifest_path.is_file():
        raise InvalidModel(f"{path} lacks principal.json; a principal's directory is made by `cage principals train`")
    try:
        manifest = json.loads(manifest_path.read_text())
        principal = Principal(
            name=manifest["name"],
            kind=manifest["kind"],
            description=manifest.get("description", ""),
            feature_scale=float(manifest["feature_scale"]),
            path=path,
        )
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidModel(f"{manifest_path} is not a principal's manifest: {error!r}") from error
    _check(principal, manifest_path)
    return principal


def _check(principal: Principal, manifest_path: Path) -> None:
    if not isinstance(principal.name, str) or not _NAME.fullmatch(principal.name):
        raise InvalidModel(f"{manifest_path}: name {principal.name!r} must match {_NAME.pattern}")
    if principal.kind != "adapter":
        raise InvalidModel(f"{manifest_path}: kind {principal.kind!r} is not served; known kinds: adapter")
    if not 0 < principal.feature_scale < float("inf"):
        raise InvalidModel(f"{manifest_path}: feature_scale must be a positive number")


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
                    f"two principals are named {principal.name!r}: {found[principal.name].path} and {principal.path}; "
                    "rename or remove one"
                )
            found[principal.name] = principal
    return tuple(found[name] for name in sorted(found))
