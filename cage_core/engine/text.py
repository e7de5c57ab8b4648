"""Tokens to text, as a stream: whole characters only, and no stop text."""

from __future__ import annotations

from collections.abc import Callable, Sequence

_INCOMPLETE = "�"


class TextStream:
    """Turns one answer's tokens into text deltas.

    A delta is held back while its last character is incomplete, or while it could be the beginning of a stop text.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str], stop: Sequence[str]) -> None:
        self._decode = decode
        self._stop = tuple(stop)
        self._tokens: list[int] = []
        self._read_from = 0
        self._text_before = ""
        self._pending = ""
        self.text = ""
        self.stopped = False

    def push(self, token: int) -> str:
        """Add a token; return the text that can be shown now. Sets `stopped` when a stop text is complete."""
        self._tokens.append(token)
        text = self._decode(self._tokens[self._read_from :])
        if text.endswith(_INCOMPLETE):
            return ""
        self._pending += text[len(self._text_before) :]
        # The last token stays in the decoding window: some tokenizers join a word to the one before it.
        self._read_from = len(self._tokens) - 1
        self._text_before = self._decode(self._tokens[self._read_from :])
        return self._release()

    def finish(self) -> str:
        """The rest of the text, once no token follows."""
        if self.stopped:
            return ""
        tail = self._decode(self._tokens[self._read_from :])[len(self._text_before) :]
        return self._show(self._pending + tail)

    def _release(self) -> str:
        found = [at for at in map(self._pending.find, self._stop) if at >= 0]
        if found:
            self.stopped = True
            return self._show(self._pending[: min(found)])
        held = max((_overlap(self._pending, stop) for stop in self._stop), default=0)
        return self._show(self._pending[: len(self._pending) - held], self._pending[len(self._pending) - held :])

    def _show(self, text: str, pending: str = "") -> str:
        self._pending = pending
        self.text += text
        return text


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that begins `stop`."""
    longest = min(len(text), len(stop) - 1)
    return next((n for n in range(longest, 0, -1) if text.endswith(stop[:n])), 0)
