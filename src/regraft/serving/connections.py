"""Connections of clients that send no request, or an endless one: closed in time.

In: the bytes of a connection. Out: uvicorn's requests, or the end of the connection.
Why: uvicorn sets no limit to the time and the bytes that the head of a request takes; a few clients could take all
memory and all connections with heads that never end.
Surprise: bytes are counted that belong to no body: those of heads, trailers, and the sizes of chunks.
"""

from __future__ import annotations

from asyncio import TimerHandle, Transport
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD = 65536
"""The most bytes of the head of a request."""

HEAD_SECONDS = 10.0
"""The longest time in which a connection is opened and the head of a request arrives, in seconds."""


class Connection(HttpToolsProtocol):
    """A connection of a client, which is closed where a head takes too long or is too large."""

    _timer: TimerHandle | None = None
    _outside_bodies = 0

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        """Wait for the head of the first request."""
        super().connection_made(transport)
        self._wait_for_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no longer."""
        self._wait_no_longer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Give the bytes to the parser, and close the connection where too many of them belong to no body."""
        self._outside_bodies += len(data)
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self._outside_bodies > HEAD:
            self.send_400_response(f"wanted a head of at most {HEAD} bytes")
        elif self._timer is None and (self.cycle is None or self.cycle.response_complete):
            self._wait_for_head()

    def eof_received(self) -> bool:  # type: ignore[override]
        """Keep the connection of a client that sends nothing more until its request is answered, if it is complete."""
        if self.cycle is None or self.cycle.response_complete or self.cycle.more_body:
            return False
        self.cycle.keep_alive = False
        return True

    def on_headers_complete(self) -> None:
        """Wait no longer, and begin to answer the request."""
        self._wait_no_longer()
        self._outside_bodies = 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Take a part of a body."""
        self._outside_bodies = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Take the end of a request."""
        self._outside_bodies = 0
        super().on_message_complete()

    def _wait_for_head(self) -> None:
        self._timer = self.loop.call_later(HEAD_SECONDS, self._too_slow)

    def _wait_no_longer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _too_slow(self, *_: Any) -> None:
        if not self.transport.is_closing():
            self.transport.close()
