"""What every answer gets, also one of an error: security headers, a line in the log, and no traceback.

In: each request, before all else. Out: its answer, and one line of JSON on stderr.
Why: no route may forget a header, and an unexpected error must reach the log and not the client.
Surprise: the log has the template of the path, such as ``/predict/{name}``, and never the text that the client sent.
"""

from __future__ import annotations

import traceback
from datetime import UTC, datetime
from http import HTTPStatus
from time import perf_counter

from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from regraft.foundation import console

CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "media-src blob:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
"""The Content-Security-Policy of an answer that has none of its own."""

HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(self)"),
)
"""The other security headers of every answer."""


GONE = 499
"""The status in the log for a client that has gone before the end of its request, as other servers log it."""


class Envelope:
    """The outermost ASGI application: it completes and logs the answers of the application inside.

    Args:
        app: the application inside.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        answer = _Answer(scope, send)
        try:
            await self._app(scope, receive, answer)
        except ClientDisconnect:  # nobody is there for an answer
            answer.status = answer.status or GONE
        except Exception:
            for line in traceback.format_exc().splitlines():
                console.warn(line)
            if not answer.status:
                response = JSONResponse({"error": "the server failed"}, HTTPStatus.INTERNAL_SERVER_ERROR)
                await response(scope, receive, answer)
            else:
                raise
        finally:
            answer.log()


class _Answer:
    """The `send` of a request, which completes the headers of its answer, and counts its bytes.

    Attributes:
        status: the status of the answer; 0 before it has begun.
    """

    def __init__(self, scope: Scope, send: Send) -> None:
        self.status = 0
        self._scope, self._send = scope, send
        self._began, self._bytes = perf_counter(), 0

    async def __call__(self, message: Message) -> None:
        """Send a part of the answer."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = list(message.get("headers", ()))
            if not any(name == b"content-security-policy" for name, _ in headers):
                headers.append((b"content-security-policy", CSP.encode()))
            if self._scope["app"].state.stopping:
                headers.append((b"connection", b"close"))
            message["headers"] = [*headers, *HEADERS]
        else:
            self._bytes += len(message.get("body", b""))
        await self._send(message)

    def log(self) -> None:
        """Write one line about the request and its answer, if there is a log."""
        scope, log = self._scope, self._scope["app"].state.log
        if log is None:
            return
        line = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "method": scope["method"],
            "path": getattr(scope.get("route"), "path", None),
            "status": self.status,
            "seconds": round(perf_counter() - self._began, 4),
            "bytes": self._bytes,
            "model": scope.get("model"),
            "client": (scope.get("client") or [None])[0],
        }
        log.add(line)
