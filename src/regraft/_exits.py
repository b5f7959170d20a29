"""How a command ends: what went wrong as one line on stderr, and the exit code.

Shared by `regraft` and the classic commands.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from typing import IO, Any

from regraft import _console
from regraft._arguments import UsageError
from regraft.errors import RegraftError, explain

STOPPED = "stopped; what was computed is kept, and the same command goes on from there"


def run_command(
    prog: str, job: Callable[[], int], stopped: str = STOPPED, words: Mapping[str, str] | None = None
) -> int:
    """Run a command to its end.

    Args:
        prog: the program's name, which begins the line of error.
        job: what the command does; its result is the exit code.
        stopped: what to say after Ctrl-C.
        words: what errors advise to type, and what stands for it in this command.

    Returns:
        The exit code: 0 done, 1 the user must mend something, 2 wrong usage, 130 stopped.
    """
    _fill_closed_streams()
    if sys.stdout is None:
        return _fail(prog, "stdout is closed, so there is nowhere to print; leave >&- out", 1)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # file names need not be UTF-8, nor terminals
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
    _console.turn_on()
    code, message = _ended(job, stopped)
    try:
        sys.stdout.flush()
    except BrokenPipeError:  # the reader of our output has had enough, as `head` does
        _silence(sys.stdout)
        code = code if message else 0
    except OSError as error:
        _silence(sys.stdout)
        code, message = code or 1, f"stdout cannot be written: {explain(error)}"
    for ours, theirs in (words or {}).items():
        message = message.replace(ours, theirs)
    return _fail(prog, message, code) if message else code


def _ended(job: Callable[[], int], stopped: str) -> tuple[int, str]:
    """Run ``job``; return the exit code, and the line of error or nothing. A fault in regraft is raised."""
    try:
        return job(), ""
    except UsageError as error:
        return 2, str(error)
    except RegraftError as error:
        return 1, str(error)
    except SystemExit as error:  # help was asked for
        return int(error.code or 0), ""
    except KeyboardInterrupt:
        return 130, stopped
    except BrokenPipeError:
        _silence(sys.stdout)
        return 0, ""
    except Exception as error:
        reason = explain(error)
        if reason is None:
            raise
        return 1, reason


def _fill_closed_streams() -> None:
    """Put the null device where stdin or stderr is closed, or the next file to be opened would take its place."""
    if sys.stdin is None:
        sys.stdin = open(os.devnull, encoding="utf-8")  # noqa: SIM115, PTH123 (to stay open)
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123


def _silence(stream: IO[Any]) -> None:
    """Send what a stream still holds nowhere: Python would try to write it again as it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _fail(prog: str, message: str, code: int) -> int:
    try:
        sys.stderr.write(f"{prog}: {_console.printable(' '.join(message.split()))}\n")
        sys.stderr.flush()
    except OSError:  # stderr is full too; the exit code still tells
        _silence(sys.stderr)
    return code
