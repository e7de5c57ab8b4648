"""How other commands on this machine find the servers that `cage up` started."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

FILE = "running.json"
KEY_FILE = "demo-key"
OPERATOR_KEY_FILE = "operator-key"


@dataclass(frozen=True)
class Running:
    """Addresses of a running system; the file that holds them is readable by its owner alone."""

    database_url: str
    redis_url: str
    api_url: str


@contextlib.contextmanager
def announced(data_dir: Path, running: Running) -> Iterator[None]:
    """Leave the addresses in the data directory for as long as the context lasts."""
    path = data_dir / FILE
    path.touch(mode=0o600)
    path.write_text(json.dumps(asdict(running)))
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def find_running(data_dir: Path) -> Running | None:
    """The system that runs on this data directory, if one left its addresses."""
    try:
        return Running(**json.loads((data_dir / FILE).read_text()))
    except (OSError, ValueError, TypeError):
        return None


def adopt_running(data_dir: Path) -> None:
    """Use the running system's servers, unless the environment names others."""
    running = find_running(data_dir)
    if running is not None:
        os.environ.setdefault("CAGE_DATABASE_URL", running.database_url)
        os.environ.setdefault("CAGE_REDIS_URL", running.redis_url)
