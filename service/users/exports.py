"""Answers that hold a connection to PostgreSQL for as long as their reader takes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Generator
from typing import Annotated

from anyio import CancelScope
from fastapi import Depends
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool
from starlette.types import Receive, Scope, Send

EXPORTS_AT_ONCE = 2
"""The others wait, without a connection."""
EXPORT_SECONDS = 600.0
"""Who has not read it by then is cut off."""


async def _take_a_place() -> AsyncIterator[None]:
    yield


ExportPlace = Annotated[None, Depends(_take_a_place, scope="request", max_concurrency=EXPORTS_AT_ONCE)]


class Export(StreamingResponse):
    """A JSON document, piece by piece; whatever becomes of its reader, what the pieces come from is closed."""

    def __init__(self, pieces: Generator[str]) -> None:
        headers = {"Content-Disposition": 'attachment; filename="user.json"', "Cache-Control": "no-store"}
        super().__init__(pieces, media_type="application/json", headers=headers)
        self._pieces = pieces

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it.

        Raises:
            TimeoutError: its reader took too long.
        """
        try:
            async with asyncio.timeout(EXPORT_SECONDS):
                await super().__call__(scope, receive, send)
        finally:
            with CancelScope(shield=True):
                await run_in_threadpool(self._pieces.close)
