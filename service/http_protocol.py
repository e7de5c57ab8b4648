"""HTTP below the application: requests that never become one get the error form too, and no more time than others."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from service.errors import error_body

LARGEST_HEADERS_BYTES = 64 * 1024
_LINGER_SECONDS = 1.0


class PatientProtocol(H11Protocol):
    """uvicorn's, which has no patience limit of its own: closes connections whose request does not arrive in time."""

    arrival_seconds = 20.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the clock of the first request."""
        super().connection_made(transport)
        self._deadline: asyncio.TimerHandle | None = None
        self._refused = False
        self._start_clock()

    def data_received(self, data: bytes) -> None:
        """Stop the clock when the headers are whole; start it with the first byte of a further request."""
        if self._refused:
            return
        known = self.scope
        super().data_received(data)
        if self.scope is not known:
            self._stop_clock()
        elif self._deadline is None and (self.cycle is None or self.cycle.response_complete):
            self._start_clock()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clock."""
        self._stop_clock()
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        """Start the clock of a body that is refused but still arriving: it is thrown away, not for ever."""
        super().on_response_complete()
        if self.conn.their_state is h11.SEND_BODY and self._deadline is None:
            self._start_clock()

    def send_400_response(self, msg: str) -> None:
        """What is no HTTP, or too much of it, in the one error form."""
        if self.conn.our_state is h11.IDLE:
            self._refuse(
                400, error_body(f"{msg} Headers may have {LARGEST_HEADERS_BYTES} bytes.", "invalid_request_error")
            )
        else:
            self.transport.close()

    def _start_clock(self) -> None:
        self._deadline = self.loop.call_later(self.arrival_seconds, self._end)

    def _stop_clock(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _end(self) -> None:
        self._deadline = None
        if self.transport.is_closing():
            return
        if self.conn.our_state is h11.IDLE and self.conn.trailing_data[0]:
            message = f"the headers did not arrive within {self.arrival_seconds:g} s; send the request at once"
            self._refuse(408, error_body(message, "invalid_request_error", code="headers_too_slow"))
        else:
            self.transport.close()

    def _refuse(self, status: int, body: dict[str, Any]) -> None:
        content = json.dumps(body).encode()
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(content)).encode()),
            (b"connection", b"close"),
        ]
        for event in (h11.Response(status_code=status, headers=headers), h11.Data(data=content), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        self._refused = True
        # Closing while something is unread resets the connection, and the client might never see the answer.
        self.transport.write_eof()
        self.loop.call_later(_LINGER_SECONDS, self.transport.close)


def protocol(arrival_seconds: float) -> type[H11Protocol]:
    """The protocol with a patience of so many seconds; for `uvicorn.Config(http=…)`."""
    return type("Protocol", (PatientProtocol,), {"arrival_seconds": arrival_seconds})
