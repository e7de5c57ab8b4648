"""Preference pairs: what a principal learns its objective from."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

from cage_core.errors import CageError

_TEXTS = ("prompt", "chosen", "rejected")


class InvalidPairs(CageError, ValueError):
    """Preference pairs cannot be used: which line, what is wrong, and what to do."""


@dataclass(frozen=True)
class PreferencePair:
    """Two answers to one prompt, the first one preferred.

    Attributes:
        margin: strength of the preference in score units, at least 0; None when only the order is known.
    """

    prompt: str
    chosen: str
    rejected: str
    margin: float | None = None


def read_pairs(path: Path) -> list[PreferencePair]:
    """Read a JSONL file with one ``{"prompt", "chosen", "rejected", "margin" (optional)}`` a line.

    Raises:
        InvalidPairs: the file is missing, empty, not UTF-8, or a line is not a pair.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise InvalidPairs(f"{path} cannot be read ({error.strerror}); give the path of a JSONL file") from error
    except UnicodeDecodeError as error:
        raise InvalidPairs(f"{path} is not UTF-8 (byte {error.start}); save it as UTF-8") from error
    # Not splitlines(): it also splits at U+2028 and its like, which JSON strings may contain.
    lines = enumerate(text.split("\n"), start=1)
    pairs = [_parse_line(line, f"{path}, line {number}") for number, line in lines if line.strip()]
    if not pairs:
        raise InvalidPairs(f"{path} holds no pairs; write one JSON object with {', '.join(_TEXTS)} a line")
    return pairs


def _parse_line(line: str, place: str) -> PreferencePair:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise InvalidPairs(f"{place}: not JSON ({error}); write one JSON object a line") from error
    if not isinstance(row, dict):
        raise InvalidPairs(f'{place}: a {type(row).__name__}, not an object; write {{"prompt": …}} on the line')
    if unknown := sorted(row.keys() - {*_TEXTS, "margin"}):
        raise InvalidPairs(f"{place}: unknown field {unknown[0]!r}; known: {', '.join(_TEXTS)}, margin")
    for field in _TEXTS:
        if not isinstance(row.get(field), str) or not row[field].strip():
            raise InvalidPairs(f"{place}: {field!r} must be a text that is not empty; add it")
    if row["chosen"] == row["rejected"]:
        raise InvalidPairs(f"{place}: chosen and rejected are the same; remove the line or change one of them")
    return PreferencePair(row["prompt"], row["chosen"], row["rejected"], _margin(row.get("margin"), place))


def _margin(value: object, place: str) -> float | None:
    if value is None:
        return None
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or value < 0:  # type: ignore[operator, arg-type]
        raise InvalidPairs(
            f"{place}: margin {value!r} must be a finite number, at least 0; swap chosen and rejected if it is negative"
        )
    return float(value)  # type: ignore[arg-type]
