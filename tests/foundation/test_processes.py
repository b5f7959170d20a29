"""Functions in processes of their own: results, errors, deaths, and what such a process may import."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

import pytest

from regraft.errors import BackboneError, DataError, ExportError
from regraft.foundation import processes
from regraft.foundation.processes import call, run, stop_all
from regraft.foundation.signals import Terminated


def answer(**job: object) -> object:
    """For the processes that the tests start."""
    print("talk on stdout must not mix with the answer")
    return {"job": job, "backend": os.environ.get("KERAS_BACKEND")}


def fail(kind: str) -> None:
    if kind == "ours":
        raise DataError("the photos are gone")
    if kind == "library":
        raise ValueError("line one\nline two")
    os.kill(os.getpid(), getattr(signal, kind))
    time.sleep(30)


def sleep(marker: str) -> None:
    Path(marker).write_text(str(os.getpid()))
    time.sleep(60)


def leave_a_process(marker: str) -> str:
    """What a library may do: a process that goes on, with a copy of every pipe."""
    if (left := os.fork()) == 0:
        time.sleep(30)
        os._exit(0)
    Path(marker).write_text(str(left))
    return "done"


def imported() -> list[str]:
    import openvino  # noqa: F401

    return [name for name in sys.modules if name.startswith("openvino_telemetry") and sys.modules[name]]


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes of the tests import this module from the project's folder, which is also the working folder."""
    monkeypatch.setattr(processes, "_import_path", lambda: [str(Path(__file__).parents[2]), *sys.path])


HERE = "tests.foundation.test_processes"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_process_that_is_left_behind_keeps_nobody_waiting(tmp_path: Path) -> None:
    ending = run(f"{HERE}:leave_a_process", {"marker": str(tmp_path / "pid")}, {}, seconds=20)
    os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)
    assert ending.failure == ""
    assert ending.result == "done"


def test_no_process_of_ours_loads_a_telemetry_client() -> None:
    assert call(f"{HERE}:imported", {}, "it failed") == []


def test_a_result_comes_back_whatever_is_printed() -> None:
    found = call(f"{HERE}:answer", {"text": "한글 \x1b", "number": 1.5}, "it failed", keras="torch")
    assert found == {"job": {"text": "한글 \x1b", "number": 1.5}, "backend": "torch"}


def test_a_large_job_and_a_large_answer() -> None:
    assert len(call(f"{HERE}:answer", {"text": "x" * 3_000_000}, "it failed")["job"]["text"]) == 3_000_000


def test_an_error_of_ours_keeps_its_type() -> None:
    with pytest.raises(DataError, match=r"^reading failed: the photos are gone$"):
        call(f"{HERE}:fail", {"kind": "ours"}, "reading failed")


def test_an_error_of_a_library_is_one_line_of_the_wanted_type() -> None:
    with pytest.raises(ExportError, match=r"^it failed: ValueError: line one line two$"):
        call(f"{HERE}:fail", {"kind": "library"}, "it failed", raises=ExportError)


@pytest.mark.parametrize("name", ["SIGILL", "SIGSEGV", "SIGKILL", "SIGBUS"])
def test_a_death_by_a_signal_names_it(name: str) -> None:
    with pytest.raises(BackboneError, match=f"^it failed: its process died of {name}$"):
        call(f"{HERE}:fail", {"kind": name}, "it failed")


def test_a_process_that_takes_too_long_is_killed(tmp_path: Path) -> None:
    ending = run(f"{HERE}:sleep", {"marker": str(tmp_path / "pid")}, {}, seconds=2)
    assert (ending.failure, ending.signal) == ("no end after 2 s", "")


def test_an_interruption_stops_the_process(tmp_path: Path) -> None:
    marker = tmp_path / "pid"

    def interrupt(*_: object) -> None:
        raise Terminated

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 2)
    try:
        with pytest.raises(Terminated):
            run(f"{HERE}:sleep", {"marker": str(marker)}, {})
    finally:
        signal.signal(signal.SIGALRM, before)
    assert not _alive(int(marker.read_text()))


def test_nothing_is_left_running_when_the_caller_is_killed(tmp_path: Path) -> None:
    marker = tmp_path / "pid"
    script = f"from regraft.foundation.processes import run; run('{HERE}:sleep', {{'marker': {str(marker)!r}}}, {{}})"
    root = str(Path(__file__).parents[2])
    child = {**os.environ, "PYTHONPATH": root}
    with subprocess.Popen([sys.executable, "-c", script], cwd=tmp_path, env=child) as caller:
        _wait_for(marker.is_file)
        caller.kill()
    _wait_for(lambda: not _alive(int(marker.read_text())))


def test_stop_all_without_processes_does_nothing() -> None:
    stop_all()


def _alive(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


def _wait_for(condition: object, seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)


NAMES = ("numpy", "json", "keras", "openvino", "typing", "PIL", "pyarrow", "safetensors", "tensorboard", "argparse")


@pytest.fixture
def trap(tmp_path: Path) -> Path:
    """A working folder with modules that leave a mark where they are imported."""
    folder = tmp_path / "trap"
    folder.mkdir()
    for name in NAMES:
        (folder / f"{name}.py").write_text(
            f"open({str(folder)!r} + '/executed-{name}', 'w').close()\nraise SystemExit('a trap')\n"
        )
    return folder


def _script(name: str) -> str:
    path = Path(sysconfig.get_path("scripts")) / name
    if not path.is_file():
        pytest.skip(f"the command {name} is not installed beside this Python")
    return str(path)


@pytest.mark.parametrize(
    "program",
    ["regraft", "-m regraft", "regraft-make-image-classifier"],
)
def test_a_module_in_the_working_folder_is_not_executed(program: str, trap: Path, photos: Path, cache: Path) -> None:
    begin = [sys.executable, "-m", "regraft"] if program == "-m regraft" else [_script(program)]
    commands = [
        [*begin, "train", str(photos), "--effort", "quick", "--resolution", "96", "--out", "run"],  # builds a graph
        [*begin, "export", "run", "--format", "openvino"],
        [*begin, "info"],
    ]
    if program == "regraft-make-image-classifier":
        module = ["--tfhub_module", "efficientnet_lite0", "--image_size", "96"]
        commands = [[*begin, "--image_dir", str(photos), *module, "--labels_output_file", "labels.txt"]]
    for command in commands:
        done = subprocess.run(command, cwd=trap, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0, done.stderr
    assert [path.name for path in trap.glob("executed-*")] == []
