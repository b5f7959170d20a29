# ruff: noqa: E501 (requests, one a line)
"""Clients that send rubbish, too much, or hardly anything: the server answers none of them with 5xx, and goes on."""

from __future__ import annotations

import io
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from regraft.serving.connections import HEAD
from tests.serving.servers import RUN, Served, read_all, served

pytest.importorskip("uvicorn", reason="needs the extra serve")

HOST = b"Host: localhost\r\n"
NAMES = (
    b"..", b"%2e%2e%2f%2e%2e%2fetc%2fpasswd", b"../../etc/passwd", b"%00", b"a%00b", b"%ff%fe", b"%c3%28", b"%", b"%zz", b"%0d%0aX:1",
    b"%1b%5b31m", b"run-schema-2%2f1", b"run-schema-2/..", b"\xff\xfe", b"a" * 5000, b"%F0%9F%92%A9", b"?version=", b"run-schema-2?version=-1",
    b"run-schema-2?version=99999999999999999999999", b"run-schema-2?version=%00", b"run-schema-2?version=1&version=2",
)  # fmt: skip


def post(path: bytes, body: bytes = b"x", *headers: bytes) -> bytes:
    lines = (b"POST " + path + b" HTTP/1.1", b"Host: localhost", b"Content-Length: %d" % len(body), *headers)
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def form(body: bytes, boundary: bytes = b"b") -> bytes:
    return post(b"/predict", body, b"Content-Type: multipart/form-data; boundary=" + boundary)


def part(headers: bytes, data: bytes = b"x") -> bytes:
    return b"--b\r\n" + headers + b"\r\n\r\n" + data + b"\r\n"


def bomb(kind: str) -> bytes:
    with io.BytesIO() as file:
        Image.new("1", (20_000, 20_000)).save(file, kind)
        return file.getvalue()


FILE = b'Content-Disposition: form-data; name="f"; filename="x"'
CORPUS: dict[str, bytes] = {
    **{f"name {name[:30]!r}": post(b"/predict/" + name) for name in NAMES},
    "no http": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),
    "nul bytes": bytes(1000),
    "http/0.9": b"GET /\r\n",
    "http/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "http/3.7": b"GET /livez HTTP/3.7\r\n" + HOST + b"\r\n",
    "an unknown method": b"BREW /predict HTTP/1.1\r\n" + HOST + b"\r\n",
    "connect": b"CONNECT localhost:1 HTTP/1.1\r\n" + HOST + b"\r\n",
    "options *": b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\n",
    "an absolute url": b"GET http://evil.example/livez HTTP/1.1\r\n" + HOST + b"\r\n",
    "a url with a broken host": b"GET http://[::1/livez HTTP/1.1\r\n" + HOST + b"\r\n",
    "no host": b"GET /livez HTTP/1.1\r\n\r\n",
    "two hosts": b"GET /livez HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n",
    "a nul in a header": b"GET /livez HTTP/1.1\r\n" + HOST + b"X: a\x00b\r\n\r\n",
    "a header without a colon": b"GET /livez HTTP/1.1\r\n" + HOST + b"rubbish\r\n\r\n",
    "bytes in a header": b"GET /livez HTTP/1.1\r\n" + HOST + b"Origin: \xff\xfe\r\nX-\xc3\xa9: 1\r\n\r\n",
    "a huge header": b"GET /livez HTTP/1.1\r\n" + HOST + b"X: " + b"a" * (8 * HEAD) + b"\r\n\r\n",
    "many headers": b"GET /livez HTTP/1.1\r\n" + HOST + b"X: a\r\n" * 50_000 + b"\r\n",
    "a huge path": b"GET /" + b"a" * (8 * HEAD) + b" HTTP/1.1\r\n" + HOST + b"\r\n",
    "a head without an end": b"GET /livez HTTP/1.1\r\n" + HOST + b"X: a\r\n",
    "two lengths": b"POST /predict HTTP/1.1\r\n" + HOST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    "a negative length": b"POST /predict HTTP/1.1\r\n" + HOST + b"Content-Length: -1\r\n\r\n",
    "a huge length": b"POST /predict HTTP/1.1\r\n" + HOST + b"Content-Length: 99999999999999999999999\r\n\r\n",
    "a length and chunks": b"POST /predict HTTP/1.1\r\n" + HOST + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks of rubbish": b"POST /predict HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nab\r\n0\r\n\r\n",
    "a huge chunk": b"POST /predict HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nab",
    "a chunk with an endless extension": b"POST /predict HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n1;" + b"a" * (8 * HEAD),
    "endless trailers": b"POST /predict HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n" + b"X: a\r\n" * 100_000,
    "an unknown transfer encoding": b"POST /predict HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: gzip\r\n\r\nab",
    "a body in pieces that ends early": b"POST /predict HTTP/1.1\r\n" + HOST + b"Content-Length: 100\r\n\r\nab",
    "a websocket": b"GET /predict HTTP/1.1\r\n" + HOST + b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n\r\n",
    "http/2 upgrade": b"GET /livez HTTP/1.1\r\n" + HOST + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n\r\n",
    "a thousand requests in one piece": (b"GET /livez HTTP/1.1\r\n" + HOST + b"\r\n") * 1000,
    "a form without a boundary": post(b"/predict", b"x", b"Content-Type: multipart/form-data"),
    "a form with an empty boundary": form(b"x", b""),
    "a form with a huge boundary": form(b"x", b"a" * 5000),
    "a form of rubbish": form(b"\xff\x00" * 1000),
    "a form without an end": form(part(FILE)),
    "a form of a thousand parts": form(part(FILE) * 1000 + b"--b--\r\n"),
    "a form of a thousand fields": form(part(b'Content-Disposition: form-data; name="f"') * 1000 + b"--b--\r\n"),
    "a part without a name": form(part(b"Content-Type: image/jpeg") + b"--b--\r\n"),
    "a part with a huge header": form(part(b"X: " + b"a" * 100_000 + b"\r\n" + FILE) + b"--b--\r\n"),
    "a part with a thousand headers": form(part(b"X: a\r\n" * 1000 + FILE) + b"--b--\r\n"),
    "a file name of bytes": form(part(b'Content-Disposition: form-data; name="f"; filename="\xff\x00\x1b[31m/../"') + b"--b--\r\n"),
    "an empty file": form(part(FILE, b"") + b"--b--\r\n"),
    "a wrong charset": post(b"/predict", part(FILE) + b"--b--\r\n", b"Content-Type: multipart/form-data; boundary=b; charset=\xff"),
    "a png bomb": post(b"/predict", bomb("PNG")),
    "a tiff bomb": post(b"/predict", bomb("TIFF")[:1000]),
    "a gif that ends early": post(b"/predict", b"GIF89a\xff\xff\xff\xff\xff\x00\x00,"),
    "a jpeg that ends early": post(b"/predict", b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01" + bytes(50)),
    "an svg": post(b"/predict", b"<svg xmlns='http://www.w3.org/2000/svg' width='1e9' height='1e9'/>"),
    "a postscript file": post(b"/predict", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"),
    "a compressed body": post(b"/predict", b"\x1f\x8b" + bytes(100), b"Content-Encoding: gzip"),
    "expect of something": post(b"/predict", b"x", b"Expect: 200-maybe"),
    "a bearer of bytes": post(b"/predict", b"x", b"Authorization: Bearer \xff\xff"),
    "an origin that is no url": post(b"/predict", b"x", b"Origin: http://[::1"),
}  # fmt: skip


@pytest.fixture(scope="module")
def server(warm_cache: Path) -> Iterator[Served]:
    """A server whose log must show no failure at its end."""
    with served(warm_cache, RUN) as found:
        yield found
        assert found.stop() == 0
        others = [line for line in found.lines if not line.startswith(("{", "warning: ")) and "http://" not in line]
        assert not others, "something else than the log writes to stderr"
        assert not [line for line in found.lines if "Traceback" in line or "Exception" in line]
        assert not [line for line in found.lines if not line.isprintable()]


@pytest.mark.parametrize("name", CORPUS)
def test_rubbish_is_no_failure_of_the_server(server: Served, name: str) -> None:
    with socket.create_connection(("127.0.0.1", server.port), 30) as connection:
        try:
            connection.sendall(CORPUS[name])
            connection.shutdown(socket.SHUT_WR)
        except OSError:  # the server has closed the connection before the end
            pass
        answer = read_all(connection)
    assert not answer or answer.startswith((b"HTTP/1.1 2", b"HTTP/1.1 4")), answer[:200]
    assert b"Traceback" not in answer
    assert server.ask("GET", "/livez")[0] == 200


def test_a_request_with_two_hosts_is_refused(server: Served) -> None:
    with socket.create_connection(("127.0.0.1", server.port), 30) as connection:
        connection.sendall(b"GET /livez HTTP/1.1\r\nHost: evil.example\r\n" + HOST + b"Connection: close\r\n\r\n")
        assert read_all(connection).startswith(b"HTTP/1.1 400")


def test_connections_without_a_request_are_closed_and_hold_nobody_up(server: Served) -> None:
    silent = [socket.create_connection(("127.0.0.1", server.port), 60) for _ in range(100)]
    for i, one in enumerate(silent):
        one.sendall(b"GET /livez HTTP/1.1\r\nX: "[: i % 25])
    assert server.ask("GET", "/livez")[0] == 200
    for one in silent:
        assert b"200" not in read_all(one)
        one.close()


def test_clients_that_vanish_hold_nothing_up(server: Served, photos: Path) -> None:
    photo = (photos / "circle" / "000.jpg").read_bytes()
    whole = post(b"/predict", photo)
    for i in range(60):
        with socket.create_connection(("127.0.0.1", server.port), 60) as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0" + bytes(4))  # close by a reset
            connection.sendall(whole[: len(whole) * (i % 3 + 1) // 3])
    assert server.predict(photo)["top"]


def test_a_full_queue_is_429_and_memory_stays_bounded(server: Served, photos: Path) -> None:
    photo = (photos / "circle" / "000.jpg").read_bytes()
    parts = b"".join(part(FILE, photo) for _ in range(200)) + b"--b--\r\n"
    data = form(parts)
    connections = [socket.create_connection(("127.0.0.1", server.port), 120) for _ in range(8)]
    for one in connections:
        one.sendall(data)
    heads = [one.recv(65536) for one in connections]
    for one in connections:
        one.close()
    busy = [head for head in heads if head.startswith(b"HTTP/1.1 429")]
    assert busy
    assert all(b"retry-after: 1" in head.lower() for head in busy)
    assert all(head.startswith((b"HTTP/1.1 200", b"HTTP/1.1 429")) for head in heads)
    time.sleep(0.1)
    assert server.predict(photo)["top"]
