"""Progress as plain lines, readable in a terminal and in a log file."""

from __future__ import annotations

import sys
import time

_SECONDS_BETWEEN_LINES = 10.0


def say(line: str) -> None:
    """Write one line at once, also when the output is a file."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


class ProgressLines:
    """Callable (step, steps, loss) that prints a line every ten seconds and at the end."""

    def __init__(self, label: str) -> None:
        """Args: label: what is being trained."""
        self._label = label
        self._started = self._printed = time.monotonic()

    def __call__(self, step: int, steps: int, loss: float) -> None:
        now = time.monotonic()
        if now - self._printed < _SECONDS_BETWEEN_LINES and step < steps:
            return
        self._printed = now
        left_seconds = (now - self._started) / step * (steps - step)
        say(f"{self._label}: step {step}/{steps}, loss {loss:.4f}, {left_seconds:.0f} s left")
