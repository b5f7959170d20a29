"""How every command begins and ends: its streams, its exit code, and an error as one line."""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TextIO

from regraft import _console
from regraft._arguments import UsageError
from regraft._signals import Terminated, settle, stop_on_signals, was_stopped
from regraft.errors import RegraftError, explain

STOPPED, TERMINATED = 130, 143
"""The exit codes after Ctrl-C, and after SIGTERM or SIGHUP, as shells have them."""

_LONGEST = 2000
"""The most characters of an error that are shown: an argument that is wrong may be very long."""


def run_command(
    prog: str,
    job: Callable[[], int],
    stopped: Callable[[], str],
    words: Mapping[str, str] | None = None,
    own_process: bool = True,
) -> int:
    """Run a command and return its exit code: 0 done, 1 the user must mend something, 2 wrong usage.

    130 and 143 tell that Ctrl-C or SIGTERM stopped it.

    Args:
        prog: the command's name, which begins the line of an error.
        job: does the work and returns an exit code.
        stopped: what to say to a user who stopped it.
        words: what errors advise to type, and what stands for it in this command.
        own_process: whether the process is this command's: it then handles signals, and ends at once when stopped.
    """
    if not _open_streams(own_process):
        _tell(prog, "stdout is closed; send it somewhere, for example: > /dev/null")
        return 1
    if own_process:
        stop_on_signals(lambda: _end_at_once(prog, stopped()))
    try:
        code, message = _outcome(job, words or {})
    except BaseException as error:
        if not was_stopped() and not isinstance(error, KeyboardInterrupt):
            raise
        code, message = STOPPED, stopped()
    if (kind := was_stopped()) and code:  # whatever error it is that a library made of it
        code, message = TERMINATED if kind is Terminated else STOPPED, stopped()
    settle()
    _tell(prog, message)
    if code in (STOPPED, TERMINATED) and own_process:
        # Threads that compile a network in C++ cannot be waited for, and may not outlive the interpreter.
        os._exit(code)
    return code


def _end_at_once(prog: str, message: str) -> None:
    with suppress(OSError):
        os.write(2, _line(prog, message).encode())
    os._exit(TERMINATED if was_stopped() is Terminated else STOPPED)


def _outcome(job: Callable[[], int], words: Mapping[str, str]) -> tuple[int, str]:
    """Do the work, and return the exit code and the error's message, empty where there is none."""
    try:
        try:
            code = job()
        except SystemExit as error:  # help was asked for
            code = int(error.code or 0)
        sys.stdout.flush()
    except UsageError as error:
        return 2, str(error)
    except RegraftError as error:
        message = str(error)
        for ours, theirs in words.items():
            message = message.replace(ours, theirs)
        return 1, message
    except _StdoutError as error:
        _lead_nowhere(sys.stdout)  # the interpreter would try once more when it ends
        if error.errno == errno.EPIPE:  # the reader of our output has had enough, as `head` does
            return 0, ""
        return 1, f"stdout cannot be written: {explain(error)}"
    except Exception as error:
        told = explain(error)
        if told is None:
            raise
        return 1, told
    return code, ""


class _StdoutError(OSError):
    """Stdout cannot be written."""


class _Stdout(io.TextIOWrapper):
    """A stdout whose errors can be told from those of files."""

    def write(self, text: str) -> int:
        with _of_stdout():
            return super().write(text)

    def flush(self) -> None:
        with _of_stdout():
            super().flush()


@contextmanager
def _of_stdout() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _StdoutError(error.errno, error.strerror) from error


def _open_streams(own_process: bool) -> bool:
    """Make stdout and stderr take any text, and return whether there is a stdout.

    A stream that was closed leads to nowhere from now on: else the next file that is opened would take its number,
    and be written to by whatever prints.
    """
    given = sys.stdout is not None
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is None:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # file names need not be UTF-8, nor terminals
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
    if own_process and type(sys.stdout) is io.TextIOWrapper:
        by_line = sys.stdout.line_buffering
        sys.stdout = _Stdout(sys.stdout.buffer, "utf-8", "backslashreplace", line_buffering=by_line)
    return given


def _tell(prog: str, message: str) -> None:
    """Print an error as one line, if there is one, and flush stderr."""
    try:
        sys.stderr.write(_line(prog, message) if message else "")
        sys.stderr.flush()
    except OSError:  # there is nobody to tell
        _lead_nowhere(sys.stderr)


def _line(prog: str, message: str) -> str:
    line = _console.printable(" ".join(message.split()))
    if len(line) > _LONGEST:
        line = f"{line[: _LONGEST - 100]} … {line[-98:]}"
    return f"{prog}: {line}\n"


def _lead_nowhere(stream: TextIO) -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
