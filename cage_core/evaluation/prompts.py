"""Prompts of a user's own, from a file."""

from __future__ import annotations

import json
from pathlib import Path

from cage_core.errors import CageError


class InvalidPrompts(CageError, ValueError):
    """Prompts cannot be used: which line, what is wrong, and what to do."""


def read_prompts(path: Path) -> list[str]:
    """Read one prompt a line: plain text, or JSON objects with a "prompt" where the name ends in .jsonl.

    Raises:
        InvalidPrompts: the file is missing, empty, not UTF-8, or a line holds no prompt.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise InvalidPrompts(f"{path} cannot be read ({error.strerror}); give the path of a text file") from error
    except UnicodeDecodeError as error:
        raise InvalidPrompts(f"{path} is not UTF-8 (byte {error.start}); save it as UTF-8") from error
    lines = [(number, line.strip()) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]
    if not lines:
        raise InvalidPrompts(f"{path} holds no prompts; write one a line")
    if path.suffix != ".jsonl":
        return [line for _, line in lines]
    return [_prompt_of(line, f"{path}, line {number}") for number, line in lines]


def _prompt_of(line: str, place: str) -> str:
    try:
        prompt = json.loads(line)["prompt"]
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidPrompts(f'{place}: no {{"prompt": "…"}} ({error!r}); write one such object a line') from error
    if not isinstance(prompt, str) or not prompt.strip():
        raise InvalidPrompts(f"{place}: the prompt must be a text that is not empty")
    return prompt
