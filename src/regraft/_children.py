"""The child processes that threads of this process wait for, so that whoever ends it can end them."""

from __future__ import annotations

import subprocess

running: set[subprocess.Popen[str]] = set()


def stop_children() -> None:
    """End all child processes that are running."""
    for process in list(running):
        process.kill()
