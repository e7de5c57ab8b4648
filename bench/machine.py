"""The machine and the versions a figure was measured with."""

from __future__ import annotations

import platform
from datetime import UTC, datetime
from pathlib import Path

import torch


def machine() -> dict[str, str]:
    """Processor, system, versions and date, for the head of a results file."""
    return {
        "processor": _processor(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "date": datetime.now(UTC).date().isoformat(),
    }


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or "unknown"
