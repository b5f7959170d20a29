"""What one request and all requests together may take: bytes, and the time in which a body arrives.

In: each request. Out: the same request, whose body ends in an HTTP error where it exceeds a limit.
Why: bodies wait in memory, so that without limits a few clients could take all memory and all connections.
Surprise: an answer that is sent before the end of the body closes the connection, but only after the rest of the body
was read and thrown away for up to `DRAIN_SECONDS`. Otherwise the client would see a broken connection, and no answer.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus

from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from regraft.foundation.documents import MEBIBYTE

BODY = 64 * MEBIBYTE
"""The most bytes of a body."""

ALL_BODIES = 256 * MEBIBYTE
"""The most bytes of the bodies of all requests that are not answered yet."""

BODY_SECONDS = 60.0
"""The longest time in which a body arrives, in seconds."""

DRAIN_SECONDS = 2.0
"""The longest time in which the rest of a body is read after the answer, in seconds."""

RETRY = {"Retry-After": "1"}
"""The header of an answer to a request that the client may send again, with the seconds to wait."""


class Limits:
    """An ASGI application that limits the bodies of requests, and gives the requests to the application inside.

    Args:
        app: the application inside. Its `receive` raises HTTPException: 408, 413 or 429.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        length = _length(scope)
        body = _Body(self, receive, ended=length == 0)
        try:
            await (self._refusal(body, length or 0) or self._app)(scope, body, _Answer(body, send))
        finally:
            self._bytes -= body.reserved

    def _refusal(self, body: _Body, length: int) -> JSONResponse | None:
        """Reserve room for a body of a known length; return the answer where it is too long, or there is no room."""
        if length > BODY:
            return _error(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, _TOO_LARGE)
        if not self.reserve(length):
            return _error(HTTPStatus.TOO_MANY_REQUESTS, _BUSY, RETRY)
        body.reserved = length
        return None

    def reserve(self, count: int) -> bool:
        """Reserve room for ``count`` more bytes, and return whether there is so much room."""
        if self._bytes and self._bytes + count > ALL_BODIES:
            return False
        self._bytes += count
        return True


class _Body:
    """The `receive` of a request, which counts the bytes and the time of its body.

    Attributes:
        reserved: the number of bytes that are reserved for the body.
        ended: whether the whole body has arrived, or the client has gone.
    """

    def __init__(self, limits: Limits, receive: Receive, ended: bool) -> None:
        self.reserved = 0
        self.ended = ended
        self._limits, self._receive = limits, receive
        self._deadline = asyncio.get_running_loop().time() + BODY_SECONDS
        self._read = 0

    def reserve(self, count: int) -> None:
        """Reserve room for ``count`` more bytes. Raises HTTPException 429 where there is no room."""
        if not self._limits.reserve(count):
            raise HTTPException(HTTPStatus.TOO_MANY_REQUESTS, _BUSY, RETRY)
        self.reserved += count

    async def __call__(self) -> Message:
        """Return the next part of the body. Raises HTTPException 408, 413, 429."""
        if self.ended:
            return await self._receive()
        try:
            async with asyncio.timeout_at(self._deadline):
                message = await self._receive()
        except TimeoutError as error:
            raise HTTPException(HTTPStatus.REQUEST_TIMEOUT, "the body of the request arrives too slowly") from error
        self.ended = not message.get("more_body", False)
        self._read += len(message.get("body", b""))
        if self._read > BODY:
            raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, _TOO_LARGE)
        if self._read > self.reserved:
            self.reserve(self._read - self.reserved)
        return message

    async def drain(self) -> None:
        """Read the rest of the body and throw it away, for at most `DRAIN_SECONDS`."""
        try:
            async with asyncio.timeout(DRAIN_SECONDS):
                while not self.ended:
                    self.ended = not (await self._receive()).get("more_body", False)
        except TimeoutError:
            pass


class _Answer:
    """The `send` of a request, which closes the connection after an answer that was sent before the end of the body."""

    def __init__(self, body: _Body, send: Send) -> None:
        self._body, self._send = body, send
        self._early = False

    async def __call__(self, message: Message) -> None:
        """Send a part of the answer."""
        if message["type"] == "http.response.start":
            self._early = not self._body.ended and message["status"] >= HTTPStatus.BAD_REQUEST
            if self._early:
                message["headers"] = [*message.get("headers", ()), (b"connection", b"close")]
            await self._send(message)
        elif self._early and not message.get("more_body", False):
            await self._send({**message, "more_body": True})
            await self._body.drain()
            await self._send({"type": "http.response.body"})
        else:
            await self._send(message)


_TOO_LARGE = f"the body of the request has more than {BODY:,} bytes"
_BUSY = "the server is busy; send the request again"


def _length(scope: Scope) -> int | None:
    """Return the length of a request's body in bytes, 0 without a body; None where it is not known before its end."""
    headers: dict[bytes, bytes] = dict(scope["headers"])
    if b"transfer-encoding" in headers:
        return None
    found = headers.get(b"content-length", b"0")
    return int(found) if found.isdigit() else None


def _error(status: int, text: str, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"error": text}, status, headers)
