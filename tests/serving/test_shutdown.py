"""The end of a server: what it has accepted is answered, it ends in order, and a second signal ends it at once."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.serving.servers import RUN, Served, read_all, served

pytest.importorskip("uvicorn", reason="needs the extra serve")

posix_only = pytest.mark.skipif(os.name != "posix", reason="needs signals")


@pytest.fixture(scope="module")
def photo(photos: Path) -> bytes:
    return (photos / "circle" / "000.jpg").read_bytes()


def request(photo: bytes) -> bytes:
    return b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(photo) + photo


def connect(server: Served) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), 60)


def answers(connections: list[socket.socket]) -> list[bytes]:
    """The status line of what each connection received until its end."""
    found = [read_all(one).partition(b"\r\n")[0] for one in connections]
    for one in connections:
        one.close()
    return found


def read_answer(connection: socket.socket) -> bytes:
    """One whole answer on a connection that stays open."""
    found = b""
    while b"\r\n\r\n" not in found:
        found += connection.recv(65536)
    head, _, body = found.partition(b"\r\n\r\n")
    length = next(int(line.split(b":")[1]) for line in head.splitlines() if line.lower().startswith(b"content-length"))
    while len(body) < length:
        body += connection.recv(65536)
    return head


@posix_only
def test_every_request_that_arrived_is_answered(warm_cache: Path, photo: bytes) -> None:
    with served(warm_cache, RUN) as server:
        kept = connect(server)  # a connection that has had an answer before
        kept.sendall(request(photo))
        assert read_answer(kept).startswith(b"HTTP/1.1 200")
        half = connect(server)
        half.sendall(request(photo)[:-10])
        idle = connect(server)
        time.sleep(0.3)
        os.kill(server.process.pid, signal.SIGSTOP)  # the server reads none of this before it is told to stop
        waiting = [connect(server) for _ in range(40)]
        for one in (kept, *waiting):
            one.sendall(request(photo))
        os.kill(server.process.pid, signal.SIGTERM)
        os.kill(server.process.pid, signal.SIGCONT)
        time.sleep(0.5)
        half.sendall(photo[-10:])
        assert answers([kept, half, *waiting]) == [b"HTTP/1.1 200 OK"] * 42
        assert answers([idle]) == [b""]
        assert server.process.wait(30) == 0
        with pytest.raises(ConnectionRefusedError):
            connect(server)


@posix_only
def test_a_body_that_never_ends_does_not_hold_the_server_up(warm_cache: Path, photo: bytes) -> None:
    with served(warm_cache, RUN) as server, connect(server) as endless:
        endless.sendall(request(photo)[:-1])
        time.sleep(0.3)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(60) == 0


@posix_only
def test_a_second_signal_ends_the_server_at_once(warm_cache: Path, photo: bytes) -> None:
    with served(warm_cache, RUN) as server, connect(server) as endless:
        endless.sendall(request(photo)[:-1])
        time.sleep(0.3)
        server.process.send_signal(signal.SIGINT)
        time.sleep(1)
        assert server.process.poll() is None
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(9) == 130


@posix_only
def test_a_thread_that_works_on_does_not_hold_the_server_up(warm_cache: Path) -> None:
    program = f"""
import sys, time
from concurrent.futures import ThreadPoolExecutor
import regraft.serving.running
from regraft.__main__ import main
regraft.serving.running.LATEST_SECONDS = 2
ThreadPoolExecutor(1).submit(time.sleep, 60)
sys.argv = ["regraft", "serve", {str(RUN)!r}, "--port", "0"]
sys.exit(main())
"""
    environment = {**os.environ, "REGRAFT_CACHE": str(warm_cache)}
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, encoding="utf-8") as process:
        try:
            assert process.stderr
            assert any("http://" in line for line in process.stderr)
            process.terminate()
            assert process.wait(20) == 0
        finally:
            process.kill()
