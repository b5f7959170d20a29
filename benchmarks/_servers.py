"""Servers as the benchmarks run them: started as processes, watched in /proc, loaded by wrk. For Linux."""

from __future__ import annotations

import base64
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

BOUNDARY = "a-boundary-that-no-photo-holds"
LOAD = Path(__file__).parent / "peers" / "load.lua"


class Server(NamedTuple):
    """How a server is started and asked: ``{port}`` and other fields are filled into its command.

    ``body`` is what it takes: jpeg (the photo itself), form (a form with the photo in the field ``field``), or v2
    (JSON of the Open Inference Protocol, with the photo in base64).
    """

    name: str
    command: tuple[str, ...]
    ready: str
    path: str
    body: str
    field: str = "photo"


class Body(NamedTuple):
    """One request's body and its content type."""

    content_type: str
    data: bytes


class Watched:
    """A running server: the CPU seconds and memory of its process and of all that it started."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, start_seconds: float) -> None:
        self.process, self.port, self.start_seconds = process, port, start_seconds

    def cpu_seconds(self) -> float:
        """User and system seconds so far, of ended children too."""
        ticks = sum(sum(map(int, fields[11:15])) for fields in self._family())
        return ticks / os.sysconf("SC_CLK_TCK")

    def resident_mib(self) -> float:
        """Resident memory in MiB; pages that processes share count for each of them."""
        pages = sum(int(fields[21]) for fields in self._family())
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20

    def _family(self) -> list[list[str]]:
        """The fields of /proc/PID/stat after the name, of the process and its descendants."""
        found = dict(_processes())
        family = {self.process.pid}
        while more := {pid for pid, fields in found.items() if int(fields[1]) in family} - family:
            family |= more
        return [fields for pid, fields in found.items() if pid in family]


def _processes() -> Iterator[tuple[int, list[str]]]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                yield int(entry.name), (entry / "stat").read_text().rpartition(")")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue  # it ended just now


def free_port() -> int:
    """A port that nobody listens on, nor on the two after it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def serving(server: Server, log: Path, env: dict[str, str] | None = None, **fields: str | Path) -> Iterator[Watched]:
    """Start the server, wait until it says that it is ready, and end it with all that it started."""
    port = free_port()
    command = [part.format(port=port, **fields) for part in server.command]
    began = time.perf_counter()
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=output, env={**os.environ, **(env or {})}, start_new_session=True
        )
    try:
        wait_until_ready(process, f"http://127.0.0.1:{port}{server.ready}", log)
        yield Watched(process, port, time.perf_counter() - began)
    finally:
        end(process)


def wait_until_ready(process: subprocess.Popen[bytes], url: str, log: Path, limit: float = 180) -> None:
    """Ask every 5 ms until the answer is 200."""
    until = time.monotonic() + limit
    while process.poll() is None and time.monotonic() < until:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            time.sleep(0.005)
    sys.exit(f"the server is not ready: {url}\n{log.read_text(errors='replace')[-2000:]}")


def end(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM, and after 10 s SIGKILL to all that is left of the session."""
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(10)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def body_of(server: Server, photo: bytes) -> Body:
    """The request's body that carries the photo to the server."""
    if server.body == "form":
        head = (
            f'Content-Disposition: form-data; name="{server.field}"; filename="photo.jpg"\r\nContent-Type: image/jpeg'
        )
        data = f"--{BOUNDARY}\r\n{head}\r\n\r\n".encode() + photo + f"\r\n--{BOUNDARY}--\r\n".encode()
        return Body(f"multipart/form-data; boundary={BOUNDARY}", data)
    if server.body == "v2":
        encoded = base64.b64encode(photo).decode()
        tensor = {"name": "photo", "shape": [1, 1], "datatype": "BYTES", "data": [encoded]}
        document = {"inputs": [{**tensor, "parameters": {"content_type": "base64"}}]}
        return Body("application/json", json.dumps(document).encode())
    return Body("image/jpeg", photo)


def write_bodies(server: Server, photos: Sequence[bytes], folder: Path) -> str:
    """Write the bodies as wrk reads them, once, and return their content type."""
    bodies = [body_of(server, photo) for photo in photos]
    if not folder.exists():
        folder.mkdir(parents=True)
        for number, body in enumerate(bodies):
            (folder / str(number)).write_bytes(body.data)
    return bodies[0].content_type


def load(watched: Watched, server: Server, bodies: Path, content_type: str, connections: int, seconds: int) -> Any:
    """Load the server with wrk, and return wrk's figures with ``cpu_s``: CPU seconds of the server meanwhile."""
    url = f"http://127.0.0.1:{watched.port}{server.path}"
    before = watched.cpu_seconds()
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "60s", "-s", str(LOAD), url, "--"]
    done = subprocess.run([*command, str(bodies), content_type], capture_output=True, text=True, check=True)
    cpu = watched.cpu_seconds() - before
    return {**json.loads(done.stdout.splitlines()[-1]), "cpu_s": cpu}
