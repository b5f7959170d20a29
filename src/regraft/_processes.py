"""One way to run a function of this package in a Python process of its own.

The arguments go in as JSON, and the result, or the error, comes back as JSON. A process of its own has one Keras
backend, its own environment and its own peak of memory, and it may die without taking its caller along. Such a process
ends when its caller ends, however that happens, and it imports nothing that merely lies in the working folder.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import IO, Any

from regraft import errors
from regraft._files import child_environment
from regraft._signals import before_stopping, delayed_signals, was_stopped
from regraft.errors import BackboneError, RegraftError

_running: set[subprocess.Popen[bytes]] = set()
_EXCERPT = 400  # characters of another library's error message that are shown


@dataclass(frozen=True, slots=True)
class Ending:
    """How a process that ran one function ended.

    Attributes:
        result: what the function returned, as JSON values; None unless it returned.
        error: what a `RegraftError` of the function said; None unless it raised one.
        failure: why it neither returned nor raised a `RegraftError`, in words; empty if it did.
        signal: the name of the signal that ended the process, such as ``SIGILL``; empty if none did.
    """

    result: Any = None
    error: RegraftError | None = None
    failure: str = ""
    signal: str = ""


def call(
    function: str,
    job: Mapping[str, Any],
    failed: str,
    keras: str = "openvino",
    raises: type[RegraftError] = BackboneError,
) -> Any:
    """Run ``function(**job)`` in a process of its own, and return its result.

    Args:
        function: ``"module:function"`` of this package.
        job: the keyword arguments, as JSON values.
        failed: how an error message begins, such as ``"keras:resnet50 cannot be built"``.
        keras: the backend of Keras in that process.
        raises: the type of the error where the function raised none of this package's.

    Returns:
        What the function returned, as JSON values.

    Raises:
        RegraftError: the function raised it, or it is of the type ``raises`` and tells by which signal the process
            died, or which error of a library ended it.
    """
    ending = run(function, job, {"KERAS_BACKEND": keras, "TF_CPP_MIN_LOG_LEVEL": "3"})
    if ending.error is not None:
        raise type(ending.error)(f"{failed}: {ending.error}")
    if ending.failure:
        raise raises(f"{failed}: {ending.failure}")
    return ending.result


def run(function: str, job: Mapping[str, Any], environment: Mapping[str, str], seconds: float | None = None) -> Ending:
    """Run ``function(**job)`` in a process of its own and tell how it ended; it never raises what went wrong there.

    Args:
        function: ``"module:function"`` of this package.
        job: the keyword arguments, as JSON values.
        environment: variables that differ from those of this process.
        seconds: after so many seconds the process is killed, and that is why it failed; None waits for it.

    Raises:
        KeyboardInterrupt: this process was told to stop meanwhile, which ends those that it started. The signal may
            have come to the main thread while another thread waits here.
    """
    command = [sys.executable, "-P", "-m", "regraft._processes", function]
    own = child_environment(PYTHONPATH=os.pathsep.join(_import_path()), PYTHONSAFEPATH="1", **environment)
    with tempfile.TemporaryFile() as talk, _started(command, own, talk) as process:
        with _killed_after(seconds, process) as too_late:
            answer = _exchange(process, json.dumps(job).encode() + b"\n")
        if stopped := was_stopped():
            raise stopped
        if too_late.is_set():
            return Ending(failure=f"no end after {seconds:g} s")
        return _ending(process.returncode, answer, talk)


@contextmanager
def _killed_after(seconds: float | None, process: subprocess.Popen[bytes]) -> Iterator[threading.Event]:
    """Within it the process is killed after so many seconds, if any are given; the event tells that it was."""
    too_late = threading.Event()

    def kill() -> None:
        too_late.set()
        process.kill()

    timer = threading.Timer(seconds or 0, kill)
    if seconds:
        timer.start()
    try:
        yield too_late
    finally:
        timer.cancel()


@contextmanager
def _started(command: list[str], environment: dict[str, str], talk: IO[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    """Within it the process may run; afterwards it has ended, whatever happened to this one meanwhile."""
    process = None
    try:
        with delayed_signals():  # a process that is half started could not be stopped
            process = subprocess.Popen(
                command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=talk
            )
            _running.add(process)
        yield process
    finally:
        if process:
            process.kill()  # does nothing to a process that has ended
            process.wait()
            _running.discard(process)
            for pipe in (process.stdin, process.stdout):
                if pipe:
                    with suppress(BrokenPipeError):  # what a process that died did not read any more
                        pipe.close()


def stop_all() -> None:
    """Kill every process that `run` has started and that still runs."""
    for process in list(_running):
        process.kill()


before_stopping(stop_all)


def _exchange(process: subprocess.Popen[bytes], job: bytes) -> bytes:
    """Send the job, and read what comes back until the process has ended."""
    if process.stdin is None or process.stdout is None:
        raise ValueError("the process was started without pipes")
    try:
        process.stdin.write(job)
        process.stdin.flush()  # it stays open: the process ends when this end of the pipe is closed
    except BrokenPipeError:  # the process died before it read the job; its exit code tells why
        pass
    answer = process.stdout.read()
    process.wait()
    return answer


def _ending(code: int, answer: bytes, talk: Any) -> Ending:
    if answer:
        told = json.loads(answer)
        if "result" in told:
            return Ending(result=told["result"])
        kind = getattr(errors, told["type"], None) if told["ours"] else None
        if kind is not None:
            return Ending(error=kind(told["message"]))
        return Ending(failure=" ".join(f"{told['type']}: {told['message']}".split())[:_EXCERPT])
    if name := _signal_name(code):
        return Ending(failure=f"its process died of {name}", signal=name)
    talk.seek(0)
    lines = talk.read().decode("utf-8", "replace").strip().splitlines()
    return Ending(failure=(lines or [f"its process ended with exit code {code}"])[-1][:_EXCERPT])


def _signal_name(code: int) -> str:
    """The name of the signal that an exit code tells of; empty where none ended the process."""
    if code == 0xC000001D:  # what Windows calls STATUS_ILLEGAL_INSTRUCTION
        return "SIGILL"
    try:
        return signal.Signals(-code).name if code < 0 else ""
    except ValueError:
        return f"signal {-code}"


def _import_path() -> list[str]:
    """Where the process looks for modules: where this one does, but not in the working folder.

    Python itself would look in the working folder first, and run a ``numpy.py`` that lies there among photos.
    """
    kept = [place for place in sys.path if place and os.path.realpath(place) != os.path.realpath("")]
    ours = str(Path(__file__).resolve().parents[1])
    return kept if ours in kept else [*kept, ours]


def _serve(function: str) -> None:
    """Do what the calling process asked for. Runs in the process that `run` starts."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches both; the caller decides
    with os.fdopen(os.dup(1), "wb") as answer:
        os.dup2(2, 1)  # whatever libraries print must not mix with the answer
        job = json.loads(_read_line())
        threading.Thread(target=_end_with_caller, daemon=True).start()
        module, _, name = function.partition(":")
        try:
            told = {"result": getattr(import_module(module), name)(**job)}
        except Exception as error:
            ours = isinstance(error, RegraftError)
            told = {"type": type(error).__name__, "message": str(error), "ours": ours}
        answer.write(json.dumps(told).encode())
    sys.stderr.flush()
    os._exit(0)  # unloading the libraries takes as long as a small job, and may crash after all is done


def _read_line() -> bytes:
    """Standard input up to the first line end, read without a buffer: a thread waits for its end later."""
    pieces: list[bytes] = []
    while not pieces or not pieces[-1].endswith(b"\n"):
        piece = os.read(0, 2**20)
        if not piece:
            sys.exit(1)
        pieces.append(piece)
    return b"".join(pieces)


def _end_with_caller() -> None:
    """End this process when the pipe from its caller is closed: the caller is done with it, or was killed."""
    while os.read(0, 4096):
        pass
    os._exit(1)


if __name__ == "__main__":
    _serve(sys.argv[1])
