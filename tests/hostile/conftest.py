"""What every hostile case asks of a command: its own answer, in bounded time and memory, and never a traceback."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

SECONDS = 10.0
"""The longest that a rejected command may take. A case that computes features or builds a graph gives its own limit."""

MEBIBYTES = 1024
"""The most memory that a command may take in the base install."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a command ended.

    Attributes:
        code: the exit code; negative for the number of the signal that ended it.
        stdout: what it wrote there.
        stderr: what it wrote there.
        mebibytes: the peak of its resident memory, without that of its child processes.
    """

    code: int
    stdout: str
    stderr: str
    mebibytes: int

    @property
    def error(self) -> str:
        """The one line of stderr that begins with ``regraft:``. Raises AssertionError where there is not just one."""
        lines = [line for line in self.stderr.splitlines() if re.match(r"regraft[a-z-]*: ", line)]
        assert len(lines) == 1, f"wanted one line of error, found {lines}\n{self.stderr}"
        return lines[0]


@contextlib.contextmanager
def watched(pid: int) -> Iterator[list[int]]:
    """Within it the list's one number is the peak of a process's memory so far in MiB; 0 where there is no ``/proc``.

    What `os.wait4` tells is of no use: a child begins with the memory of the process that started it.
    """
    status, peak, done = Path(f"/proc/{pid}/status"), [0], threading.Event()

    def watch() -> None:
        while not done.wait(0.01):
            with contextlib.suppress(OSError):
                found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text())
                peak[0] = max(peak[0], int(found[1]) // 1024 if found else 0)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield peak
    finally:
        done.set()
        thread.join()


def run_hostile(
    *arguments: str | Path,
    cwd: Path,
    program: tuple[str, ...] = ("-m", "regraft"),
    limit: float = SECONDS,
    environment: Mapping[str, str] | None = None,
    stdin: bytes = b"",
    stdout: int | None = None,
    while_running: Callable[[subprocess.Popen[bytes]], None] | None = None,
) -> Outcome:
    """Run a command in ``cwd`` and check what holds for every case.

    Args:
        arguments: what follows the program.
        cwd: the working folder.
        program: arguments of Python that name the program.
        limit: seconds after which the command counts as hanging.
        environment: variables beside those of this process.
        stdin: what the command can read.
        stdout: an open file descriptor in place of a captured one, such as that of ``/dev/full``.
        while_running: called once the process runs, for instance to send it a signal.
    """
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err, tempfile.TemporaryFile() as given:
        given.write(stdin)
        given.seek(0)
        process = subprocess.Popen(
            [sys.executable, *program, *map(str, arguments)],
            cwd=cwd,
            env={**os.environ, **(environment or {})},
            stdin=given,
            stdout=out if stdout is None else stdout,
            stderr=err,
            start_new_session=True,
        )
        late = threading.Event()

        def give_up() -> None:
            late.set()
            os.killpg(process.pid, signal.SIGKILL)

        timer = threading.Timer(limit, give_up)
        timer.start()
        try:
            with watched(process.pid) as peak:
                if while_running is not None:
                    while_running(process)
                process.wait()
        finally:
            timer.cancel()
        out.seek(0)
        err.seek(0)
        outcome = Outcome(
            process.returncode,
            out.read().decode("utf-8", "replace"),
            err.read().decode("utf-8", "replace"),
            peak[0],
        )
    told = f"{' '.join(map(str, arguments))}\n{outcome.stdout[-2000:]}\n{outcome.stderr[-4000:]}"
    assert not late.is_set(), f"no end after {limit} s: {told}"
    assert "Traceback" not in outcome.stderr, told
    assert "\x1b" not in outcome.stderr + outcome.stdout, f"a raw escape character: {told!r}"
    assert outcome.mebibytes <= MEBIBYTES, f"{outcome.mebibytes} MiB: {told}"
    return outcome


Hostile = Callable[..., Outcome]


@pytest.fixture
def hostile(tmp_path: Path, cache: Path) -> Hostile:
    """`run_hostile` in the test's own folder, with the exit code (1 unless given) and the error's text checked.

    ``says`` is a regular expression that the one line of error must match; None where no error is expected.
    """

    def run(*arguments: str | Path, code: int = 1, says: str | None = None, **more: object) -> Outcome:
        outcome = run_hostile(*arguments, **{"cwd": tmp_path, **more})  # type: ignore[arg-type]
        told = f"{' '.join(map(str, arguments))}\n{outcome.stdout[-2000:]}\n{outcome.stderr[-4000:]}"
        assert outcome.code == code, f"exit code {outcome.code}, wanted {code}: {told}"
        if says is not None:
            assert re.search(says, outcome.error), f"wanted {says!r}: {told}"
        return outcome

    return run
