"""Run a command: open its streams, print an error as one line, and return the exit code."""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TextIO

from regraft.cli.arguments import UsageError
from regraft.errors import RegraftError, Spelling, explain, spelled
from regraft.foundation import console
from regraft.foundation.signals import Terminated, settle, stop_on_signals, was_stopped

FLAGS = Spelling(flags=True, names={"from_run": "--from"})
"""The spelling of options in messages of the `regraft` command, such as ``--overwrite``."""

STOPPED, TERMINATED = 130, 143
"""The exit codes after Ctrl-C (SIGINT), and after SIGTERM or SIGHUP, as shells use them: 128 + the signal's number."""

_MOST_CHARACTERS = 2000
"""The largest length of an error message that is printed in full; a message may quote a very long argument."""


def run_command(
    prog: str,
    job: Callable[[], int],
    stopped: Callable[[], str],
    spelling: Spelling = FLAGS,
    own_process: bool = True,
) -> int:
    """Run a command and return its exit code.

    The exit code is 0 for success, 1 for an error that the user can correct, 2 for wrong usage, 130 after Ctrl-C, and
    143 after SIGTERM or SIGHUP.

    Args:
        prog: the name of the command, with which an error message begins.
        job: the function that does the work and returns an exit code.
        stopped: the function that returns the message for a user who stopped the command.
        spelling: the spelling of options in the messages of this command.
        own_process: whether the process belongs to this command. The command then handles signals, and ends the process
            at once when it is stopped.
    """
    try:  # Ctrl-C may also come before the signals are handled
        if not _open_streams(own_process):
            _tell(prog, "stdout is closed; send it somewhere, for example: > /dev/null")
            return 1
        if own_process:
            stop_on_signals(lambda: _end_at_once(prog, stopped()))
        with spelled(spelling):
            code, message = _outcome(job)
    except BaseException as error:
        if not was_stopped() and not isinstance(error, KeyboardInterrupt):
            raise
        code, message = STOPPED, stopped()
    if (kind := was_stopped()) and code:  # a library may have turned the signal into an error of its own
        code, message = TERMINATED if kind is Terminated else STOPPED, stopped()
    settle()
    _tell(prog, message)
    if code in (STOPPED, TERMINATED) and own_process:
        # C++ threads that compile a network cannot be waited for, and must not outlive the interpreter.
        os._exit(code)
    return code


def _end_at_once(prog: str, message: str) -> None:
    """Print a message on stderr and end the process, without the clean-up of the interpreter."""
    with suppress(OSError):
        os.write(2, _line(prog, message).encode())
    os._exit(TERMINATED if was_stopped() is Terminated else STOPPED)


def _outcome(job: Callable[[], int]) -> tuple[int, str]:
    """Do the work of a command, and return its exit code and its error message, which is empty without an error."""
    try:
        try:
            code = job()
        except SystemExit as error:  # argparse raises it after it has printed help
            code = int(error.code or 0)
        sys.stdout.flush()
    except UsageError as error:
        return 2, str(error)
    except RegraftError as error:
        return 1, str(error)
    except _StdoutError as error:
        _redirect_to_null(sys.stdout)  # else the interpreter would fail again when it flushes stdout at its end
        if error.errno == errno.EPIPE:  # the reader closed the pipe, as `head` does: no error
            return 0, ""
        return 1, f"stdout cannot be written: {explain(error)}"
    except Exception as error:
        reason = explain(error)
        if reason is None:
            raise
        return 1, reason
    return code, ""


class _StdoutError(OSError):
    """The error that stdout cannot be written, as opposed to a file."""


class _Stdout(io.TextIOWrapper):
    """A stdout that raises `_StdoutError` for its errors, so that they differ from errors of files."""

    def write(self, text: str) -> int:
        with _of_stdout():
            return super().write(text)

    def flush(self) -> None:
        with _of_stdout():
            super().flush()


@contextmanager
def _of_stdout() -> Iterator[None]:
    """Turn an OSError into a `_StdoutError`."""
    try:
        yield
    except OSError as error:
        raise _StdoutError(error.errno, error.strerror) from error


def _open_streams(own_process: bool) -> bool:
    """Make stdout and stderr accept any text, and return whether there was a stdout.

    A standard stream that was closed is opened on the null device. Otherwise the next file that is opened would get the
    number of the closed stream, and printed text would be written into this file.
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
        if hasattr(stream, "reconfigure"):  # file names may hold bytes that are not UTF-8; terminals may not use UTF-8
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
    if own_process and type(sys.stdout) is io.TextIOWrapper:
        by_line = sys.stdout.line_buffering
        sys.stdout = _Stdout(sys.stdout.buffer, "utf-8", "backslashreplace", line_buffering=by_line)
    return given


def _tell(prog: str, message: str) -> None:
    """Print an error message as one line on stderr, unless the message is empty, and flush stderr."""
    try:
        sys.stderr.write(_line(prog, message) if message else "")
        sys.stderr.flush()
    except OSError:  # stderr cannot be written, so that no message can be shown
        _redirect_to_null(sys.stderr)


def _line(prog: str, message: str) -> str:
    """Return a message as one line; a message of more than `_MOST_CHARACTERS` is cut in the middle."""
    line = console.printable(" ".join(message.split()))
    if len(line) > _MOST_CHARACTERS:
        line = f"{line[: _MOST_CHARACTERS - 100]} … {line[-98:]}"  # the end often says what to type
    return f"{prog}: {line}\n"


def _redirect_to_null(stream: TextIO) -> None:
    """Redirect a stream to the null device."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
