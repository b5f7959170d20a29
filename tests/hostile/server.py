"""A web server that misbehaves, one answer after another, on a real port."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Self

Say = Callable[["Request"], None]


class Request:
    """One request: what was asked, and a way to answer with any bytes."""

    def __init__(
        self, line: str, headers: dict[str, str], send: Callable[[bytes], None], gone: threading.Event
    ) -> None:
        self.line = line
        self.headers = headers
        self.send = send
        self.gone = gone

    def answer(self, body: bytes = b"", status: str = "200 OK", **headers: str | None) -> None:
        """A plain answer; ``None`` leaves a header out."""
        given: dict[str, str | None] = {"Content_Length": str(len(body)), "Connection": "close", **headers}
        lines = [f"{name.replace('_', '-')}: {value}" for name, value in given.items() if value is not None]
        self.send("\r\n".join([f"HTTP/1.1 {status}", *lines, "", ""]).encode() + body)


class Server(socketserver.ThreadingTCPServer):
    """Answers the first request by the first of ``answers``, and so on; the last one answers all that follow."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, *answers: Say) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers = list(answers)
        self.asked: list[Request] = []
        self.gone = threading.Event()
        self.port = self.server_address[1]

    def url(self, path: str = "/x.tgz") -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def handle_error(self, *_: object) -> None:
        """A client that hangs up is what many tests want."""

    @contextmanager
    def running(self) -> Iterator[Self]:
        thread = threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self.gone.set()
            self.shutdown()
            thread.join()
            self.server_close()


class _Handler(socketserver.StreamRequestHandler):
    server: Server

    def handle(self) -> None:
        line = self.rfile.readline().decode("latin-1").strip()
        headers = {}
        while raw := self.rfile.readline().strip():
            name, _, value = raw.decode("latin-1").partition(":")
            headers[name.strip()] = value.strip()
        request = Request(line, headers, self._send, self.server.gone)
        number = len(self.server.asked)
        self.server.asked.append(request)
        with suppress(OSError):
            self.server.answers[min(number, len(self.server.answers) - 1)](request)

    def _send(self, data: bytes) -> None:
        self.wfile.write(data)
        self.wfile.flush()


def body(data: bytes = b"", status: str = "200 OK", **headers: str | None) -> Say:
    """Answer with these bytes."""
    return lambda request: request.answer(data, status, **headers)


def raw(data: bytes) -> Say:
    """Answer with these bytes and nothing else, headers included."""
    return lambda request: request.send(data)


def cut(data: bytes, after: int, **headers: str | None) -> Say:
    """Promise all of ``data``, and hang up after so many bytes."""
    return lambda request: request.answer(data[:after], "200 OK", **{"Content_Length": str(len(data)), **headers})


def dripping(start: bytes, drop: bytes = b"a", pause: float = 0.1) -> Say:
    """Send ``start`` and then a drop at a time, without end."""

    def say(request: Request) -> None:
        request.send(start)
        while not request.gone.wait(pause):
            request.send(drop)

    return say


def flooding(start: bytes, piece: bytes) -> Say:
    """Send ``start`` and then pieces as fast as they go, without end."""

    def say(request: Request) -> None:
        request.send(start)
        while not request.gone.is_set():
            request.send(piece)

    return say
