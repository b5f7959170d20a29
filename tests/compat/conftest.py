"""Old commands, run as their users run them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Old = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def old(tmp_path: Path, cache: Path) -> Old:
    """Run an old command as a process, in the test's folder."""

    def run(name: str, *arguments: str | Path, code: int = 0) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", f"regraft.compat.{name}", *map(str, arguments)]
        settings = {key: value for key, value in os.environ.items() if key != "KERAS_BACKEND"}
        settings["REGRAFT_CACHE"] = str(cache)
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, encoding="utf-8", env=settings, check=False)
        assert done.returncode == code, done.stderr
        assert "Traceback" not in done.stderr
        return done

    return run
