"""No colour where nobody sees it, and none where NO_COLOR asks for none (https://no-color.org)."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import Command, draw_folder

COLOUR = re.compile(rb"\x1b\[(?:\d+;)*(?:3[0-9]|4[0-9]|9[0-7]|10[0-7])(?:;\d+)*m")
"""A sequence that sets the colour of letters or of their background."""


def at_a_terminal(folder: Path, environment: dict[str, str], *arguments: str) -> bytes:
    """What a command writes to a terminal, on stdout and stderr together."""
    pty = pytest.importorskip("pty", reason="this system has no pseudo-terminals")
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "regraft", *arguments]
    whole = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "80", **environment}
    with subprocess.Popen(command, cwd=folder, env=whole, stdin=theirs, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        found = b""
        while piece := _read(ours):
            found += piece
    os.close(ours)
    assert process.returncode == 0, found
    return found


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # Linux says so where the other side is closed
        return b""


@pytest.fixture
def place(tmp_path: Path, cache: Path) -> Path:
    draw_folder(tmp_path / "photos", {"circle": 12, "Square": 12})
    return tmp_path


TRAIN = ("train", "photos", "--effort", "quick", "--overwrite", "--out", "run")


def test_the_progress_bar_has_colours_at_a_terminal_and_none_with_no_color(place: Path) -> None:
    assert COLOUR.search(at_a_terminal(place, {"NO_COLOR": ""}, *TRAIN))  # empty counts as not set
    (place / "cache" / "features").rename(place / "features")
    plain = at_a_terminal(place, {"NO_COLOR": "1"}, *TRAIN)
    assert b"\x1b[" in plain  # the bar is there, and moves
    assert not COLOUR.search(plain)


def test_help_has_no_colour_with_no_color(tmp_path: Path) -> None:
    """Python 3.14 colours help by itself."""
    assert not COLOUR.search(at_a_terminal(tmp_path, {"NO_COLOR": "1"}, "train", "--help"))


def test_a_pipe_gets_no_colours_and_json_stays_json(
    place: Path, regraft: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = regraft(*TRAIN)
    assert "\x1b" not in done.stdout + done.stderr
    monkeypatch.setenv("FORCE_COLOR", "1")
    forced = regraft(*TRAIN, "--json")
    assert json.loads(forced.stdout)["run"] == "run"
    assert "\x1b" not in forced.stdout + forced.stderr
