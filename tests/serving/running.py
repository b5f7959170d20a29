"""A server in a process of its own, with models that need no training."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

GOLDEN = Path(__file__).parents[1] / "golden"
RUN = GOLDEN / "run-schema-2"
"""A run on drawn shapes, with novelty."""

COLOURS = GOLDEN / "exports" / "openvino"
"""An export that knows no novelty."""


@dataclass(frozen=True)
class Reply:
    """The status, headers and body of an answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def ask(url: str, body: Any = None, headers: dict[str, str] | None = None, method: str | None = None) -> Reply:
    """Send a request: a body that is no bytes as JSON."""
    data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(url, data, headers or {}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=60) as found:
            return Reply(found.status, {k.lower(): v for k, v in found.headers.items()}, found.read())
    except urllib.error.HTTPError as error:
        return Reply(error.code, {k.lower(): v for k, v in error.headers.items()}, error.read())


@contextmanager
def served(cache: Path, *arguments: str | Path) -> Iterator[str]:
    """Run `regraft serve` until the end of the block, and yield its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "regraft", "serve", *map(str, arguments), "--port", str(port)]
    environment = {**os.environ, "REGRAFT_CACHE": str(cache)}
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, encoding="utf-8") as process:
        try:
            url = f"http://127.0.0.1:{port}"
            wait_for(f"{url}/v2/health/ready", process)
            yield url
        finally:
            process.terminate()
            process.communicate(timeout=60)


def wait_for(url: str, process: subprocess.Popen[str]) -> None:
    """Wait until a server answers 200."""
    for _ in range(1200):
        if process.poll() is not None:
            raise AssertionError(f"the server has ended: {process.stderr and process.stderr.read()}")
        try:
            if ask(url).status == 200:
                return
        except OSError:
            pass
        time.sleep(0.1)
    raise AssertionError(f"{url} does not answer")
