"""A server that is told to stop, while clients come, stay and vanish. `benchmarks/vanishing.py` sends more of them."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from tests.conftest import Command
from tests.serving.vanishing_clients import Tally, storm

pytest.importorskip("starlette", reason="the extra serve is not installed")
pytest.importorskip("uvicorn", reason="the extra serve is not installed")
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM that a program can handle")

LIMIT = 60  # seconds for a server to start, and to end


def stormed(run: Path, photos: Path, told: signal.Signals, count: int) -> tuple[Tally, int]:
    """What became of the requests to a server that is told to stop after most of them, and its exit code."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "regraft", "serve", str(run), "--port", str(port)]
    server = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        until = time.monotonic() + LIMIT
        while not _ready(port):
            assert server.poll() is None
            assert time.monotonic() < until
            time.sleep(0.05)
        bodies = [path.read_bytes() for path in sorted(photos.rglob("*.jpg"))[:20]]
        tally = storm(port, server.pid, bodies, count, stop_at=count * 4 // 5, told=told)
        return tally, server.wait(LIMIT)
    finally:
        server.kill()
        server.wait()


def _ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/v2/health/ready", timeout=5):
            return True
    except OSError:
        return False


def test_whoever_stays_is_answered_although_others_vanish_and_the_server_is_told_to_stop(
    photos: Path, regraft: Command, tmp_path: Path
) -> None:
    regraft("train", photos, "--out", "run")
    tally, code = stormed(tmp_path / "run", photos, signal.SIGTERM, 300)
    assert tally.answers["before"]["200"] > 50
    assert tally.vanished.total() > 30
    assert tally.lost == 0, tally
    assert code in {0, -signal.SIGTERM, 128 + signal.SIGTERM}

    killed, code = stormed(tmp_path / "run", photos, signal.SIGKILL, 100)
    assert killed.lost > 0, "the clients do not see that a server is killed"
    assert code == -signal.SIGKILL
