"""The browser that pages are measured, photographed and tested with: Chromium as the system has it."""

from __future__ import annotations

import os
import shutil

CHROMIUM_FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
HOW_TO_INSTALL = "Chromium is missing: install it (Debian: apt install chromium) or name its path in CAGE_CHROMIUM"

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def find_chromium() -> str | None:
    """Path of the browser: what CAGE_CHROMIUM names, else the first that is installed; None without any."""
    return os.environ.get("CAGE_CHROMIUM") or next(filter(None, map(shutil.which, _NAMES)), None)
