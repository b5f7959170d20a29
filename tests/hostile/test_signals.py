"""Commands that are told to stop, and processes of theirs that die."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.hostile.conftest import Hostile


def _children(pid: int) -> list[int]:
    return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _wait_for_child(process: subprocess.Popen[bytes]) -> int:
    end = time.monotonic() + 20
    while time.monotonic() < end:
        if children := _children(process.pid):
            return children[0]
        time.sleep(0.02)
    raise AssertionError("the command started no process of its own")


def _gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def _wait_until_gone(pid: int) -> None:
    end = time.monotonic() + 10
    while not _gone(pid):
        assert time.monotonic() < end, "the child goes on without its caller"
        time.sleep(0.05)


def test_a_signal_after_the_work_is_done_changes_nothing(tmp_path: Path) -> None:
    script = (
        "import os, signal, sys; from regraft.foundation import signals as _signals\n"
        "_signals.stop_on_signals(lambda: os._exit(1)); _signals.settle()\n"
        "os.kill(os.getpid(), signal.SIGTERM); sys.exit(0)"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 143), ("SIGINT", 130), ("SIGHUP", 143)])
def test_a_signal_stops_the_command_and_its_children_at_once(
    name: str, code: int, hostile: Hostile, photos: Path, tmp_path: Path
) -> None:
    if signal.getsignal(getattr(signal, name)) is signal.SIG_IGN:
        pytest.skip(f"these tests were started with {name} ignored, as by nohup, and so are the commands")
    child = 0
    late = 0.0

    def stop(process: subprocess.Popen[bytes]) -> None:
        nonlocal child, late
        child = _wait_for_child(process)
        start = time.monotonic()
        os.kill(process.pid, getattr(signal, name))
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        late = time.monotonic() - start

    hostile(
        "train", photos, "--effort", "quick", "--out", "run", code=code, says="stopped; what was computed is kept",
        environment={"REGRAFT_CACHE": str(tmp_path / "cold")}, while_running=stop,
    )  # fmt: skip
    _wait_until_gone(child)  # one that was only just started ends when it finds its caller gone
    assert late < 1.5
    assert not (tmp_path / "run").exists()


def test_a_command_under_nohup_outlives_its_terminal(hostile: Hostile, photos: Path, tmp_path: Path) -> None:
    program = ("-c", "import signal, sys; signal.signal(signal.SIGHUP, signal.SIG_IGN); sys.argv[0] = 'regraft'; "
               "from regraft.cli.verbs import main; sys.exit(main())")  # fmt: skip

    def hang_up(process: subprocess.Popen[bytes]) -> None:
        time.sleep(1)
        os.kill(process.pid, signal.SIGHUP)

    hostile(
        "train", photos, "--effort", "quick", "--out", "run", code=0, program=program, while_running=hang_up, limit=60
    )
    assert (tmp_path / "run" / "manifest.json").is_file()


def test_a_killed_command_leaves_no_process_behind(hostile: Hostile, photos: Path, tmp_path: Path) -> None:
    child = 0

    def kill(process: subprocess.Popen[bytes]) -> None:
        nonlocal child
        child = _wait_for_child(process)
        os.kill(process.pid, signal.SIGKILL)

    cold = {"REGRAFT_CACHE": str(tmp_path / "cold")}
    hostile("train", photos, "--out", "run", code=-9, environment=cold, while_running=kill)
    _wait_until_gone(child)


@pytest.mark.parametrize("name", ["SIGKILL", "SIGSEGV", "SIGILL"])
def test_a_child_that_dies_is_one_line_that_names_the_signal(
    name: str, hostile: Hostile, photos: Path, tmp_path: Path
) -> None:
    """The first child of a cold command builds the backbone's graph."""

    def strike(process: subprocess.Popen[bytes]) -> None:
        os.kill(_wait_for_child(process), getattr(signal, name))

    hostile(
        "train", photos, "--effort", "quick", "--out", "run", says=f"cannot be built: its process died of {name}",
        environment={"REGRAFT_CACHE": str(tmp_path / "cold")}, while_running=strike,
    )  # fmt: skip
