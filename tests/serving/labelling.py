"""A run on drawn photos, some of them with wrong labels, and a server of it that can be killed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.conftest import SHAPES, draw_folder

WRONG = ("000.jpg", "001.jpg", "002.jpg", "003.jpg")
"""The circles that are in the folder of the squares, as "round 000.jpg" and so on."""


def prepare(folder: Path, warm_cache: Path) -> Path:
    """Draw photos, train a run of them, and return the folder: runs/shapes, photos, unlabelled, cache."""
    shutil.copytree(warm_cache, folder / "cache", ignore=shutil.ignore_patterns("features"))
    draw_folder(folder / "photos", dict.fromkeys(SHAPES, 20))
    for name in WRONG:
        (folder / "photos" / "circle" / name).rename(folder / "photos" / "Square" / f"round {name}")
    draw_folder(folder / "drawn", dict.fromkeys(SHAPES, 4), seed=77)
    (folder / "unlabelled").mkdir()
    for label in SHAPES:
        for photo in (folder / "drawn" / label).iterdir():
            photo.rename(folder / "unlabelled" / f"{label}-{photo.name}")
    command = [sys.executable, "-m", "regraft", "train", "photos", "--out", "runs/shapes", "--effort", "quick"]
    subprocess.run(command, cwd=folder, env=environment(folder), check=True, timeout=300, capture_output=True)
    return folder


def environment(folder: Path) -> dict[str, str]:
    return {**os.environ, "REGRAFT_CACHE": str(folder / "cache")}


def copy_of(folder: Path, to: Path) -> Path:
    """A copy of a prepared folder, whose run knows the photos at their old place."""
    shutil.copytree(folder / "runs", to / "runs", ignore=shutil.ignore_patterns("corrections.csv", "shapes-*"))
    (to / "cache").symlink_to(folder / "cache")
    (to / "unlabelled").symlink_to(folder / "unlabelled")
    return to


@dataclass
class Server:
    """A server of the run in a prepared folder, in a process of its own."""

    folder: Path
    port: int = 0
    process: Any = field(default=None, repr=False)

    def __enter__(self) -> Server:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait(60)

    def start(self) -> None:
        command = [sys.executable, "-m", "regraft", "serve", "runs/shapes", "--unlabelled", "unlabelled"]
        command += ["--port", str(self.port)]
        with (self.folder / "server.log").open("w") as log:
            self.process = subprocess.Popen(command, cwd=self.folder, env=environment(self.folder), stderr=log)
        for _ in range(1200):
            text = (self.folder / "server.log").read_text()
            if "http://127.0.0.1:" in text:
                self.port = int(text.partition("http://127.0.0.1:")[2].split("/")[0].split()[0])
                if self.is_ready():
                    return
            assert self.process.poll() is None, text
            time.sleep(0.1)
        raise AssertionError("the server does not become ready")

    def is_ready(self) -> bool:
        try:
            return self.ask("/readyz")[0] == 200
        except OSError:
            return False

    def kill(self) -> None:
        """End the server as a power cut does."""
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait(60)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def ask(self, path: str, body: Any = None, headers: dict[str, str] | None = None) -> tuple[int, Any]:
        """The status and the JSON of an answer; a body makes the request a POST."""
        data = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        given = {"X-Regraft": "1", "Content-Type": "application/json"} if headers is None else headers
        request = urllib.request.Request(self.url + path, data, given)
        try:
            with urllib.request.urlopen(request, timeout=120) as found:
                status, text = found.status, found.read()
        except urllib.error.HTTPError as error:
            status, text = error.code, error.read()
        try:
            return status, json.loads(text)
        except ValueError:
            return status, text

    def wait(self, path: str) -> Any:
        """The answer to a question that the server needs time for."""
        for _ in range(1200):
            status, found = self.ask(path)
            if status != 202:
                assert status == 200, found
                return found
            time.sleep(0.2)
        raise AssertionError(f"{path} has no answer")

    def retrained(self) -> Any:
        """What the server trains, once it is done."""
        for _ in range(1200):
            found = self.ask("/page/retrain")[1]
            if found["state"] != "training":
                return found
            time.sleep(0.2)
        raise AssertionError("the training does not end")
