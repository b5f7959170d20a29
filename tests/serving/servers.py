"""A real server, as a process: `regraft serve` with runs and exports that need no training."""

from __future__ import annotations

import http.client
import json
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

GOLDEN = Path(__file__).parents[1] / "golden"
RUN = GOLDEN / "run-schema-2"
EXPORT = GOLDEN / "exports" / "openvino"


@dataclass
class Served:
    """A server that runs: its process, its port, and the lines on its stderr."""

    process: subprocess.Popen[str]
    port: int
    address: str
    lines: list[str]
    _reader: threading.Thread = field(repr=False)

    def ask(
        self, method: str, path: str, body: bytes | None = None, **headers: str
    ) -> tuple[int, dict[str, str], bytes]:
        """Send one request on a connection of its own, and return status, headers and body of the answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
            answer = connection.getresponse()
            return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()
        finally:
            connection.close()

    def predict(self, photo: bytes, path: str = "/predict") -> Any:
        """Return the answer to a photo. Fails where the status is another than 200."""
        status, _, body = self.ask("POST", path, photo)
        assert status == 200, body
        return json.loads(body)

    def send(self, data: bytes, timeout: float = 60) -> bytes:
        """Send bytes on a connection of its own, and return all that comes back until the server closes it."""
        with socket.create_connection(("127.0.0.1", self.port), timeout) as connection:
            connection.sendall(data)
            return read_all(connection)

    def stop(self, seconds: float = 30) -> int:
        """Send SIGTERM, and return the exit code."""
        self.process.terminate()
        code = self.process.wait(seconds)
        self._reader.join(10)
        return code


def read_all(connection: socket.socket) -> bytes:
    """Read until the other side closes or resets the connection."""
    found = b""
    try:
        while part := connection.recv(65536):
            found += part
    except ConnectionError:
        pass
    return found


@contextmanager
def served(cache: Path, *arguments: str | Path) -> Iterator[Served]:
    """Run ``regraft serve`` with a free port until the end of the block."""
    command = [sys.executable, "-m", "regraft", "serve", *map(str, arguments), "--port", "0"]
    environment = {**os.environ, "REGRAFT_CACHE": str(cache), "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, encoding="utf-8")
    lines: list[str] = []
    is_up = threading.Event()

    def read() -> None:
        assert process.stderr
        for line in process.stderr:
            lines.append(line.rstrip("\n"))
            if "http://" in line:
                is_up.set()
        is_up.set()

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        assert is_up.wait(120), "the server does not start"
        found = next((m for line in lines if (m := re.search(r"http://\S+:(\d+)/\S*", line))), None)
        assert found, lines
        yield Served(process, int(found[1]), found[0], lines, reader)
    finally:
        process.kill()
        process.wait()
        reader.join(10)
        if process.stderr:
            process.stderr.close()


@contextmanager
def served_at(cache: Path, *arguments: str | Path) -> Iterator[str]:
    """Run a server as `served` does, and give its address without the slash at the end."""
    with served(cache, *arguments) as server:
        yield f"http://127.0.0.1:{server.port}"
