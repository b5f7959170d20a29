"""Run a function of this package in a separate Python process.

The arguments are sent as JSON, and the result or the error comes back as JSON. A separate process has its own Keras
backend, environment variables and peak memory, and if it crashes, its caller goes on. The process ends when its caller
ends, even if the caller is killed. It does not import modules from the working folder.
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
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from regraft import errors
from regraft.errors import BackboneError, RegraftError
from regraft.foundation.files import child_environment
from regraft.foundation.names import resolve
from regraft.foundation.signals import before_stopping, delayed_signals, was_stopped
from regraft.foundation.telemetry import without_telemetry

_running: set[subprocess.Popen[bytes]] = set()  # the processes that `stop_all` kills
_MAX_MESSAGE = 400  # characters of another library's error message that are shown


@dataclass(frozen=True, slots=True)
class Ending:
    """How a process that ran one function ended.

    Attributes:
        result: the return value of the function, as JSON values; None if the function did not return.
        error: the `RegraftError` that the function raised; None if it raised none.
        failure: why the function neither returned nor raised a `RegraftError`, in words; empty if it did either.
        signal: the name of the signal that ended the process, such as ``SIGILL``; empty if no signal did.
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
    """Run ``function(**job)`` in a separate process, and return its result.

    Args:
        function: ``"module:function"`` of this package.
        job: the keyword arguments, as JSON values.
        failed: the beginning of an error message, such as ``"keras:resnet50 cannot be built"``.
        keras: the Keras backend in the process.
        raises: the type of the error to raise if the function did not raise a `RegraftError` itself.

    Returns:
        The return value of the function, as JSON values.

    Raises:
        RegraftError: the function raised it. Or the process failed: then the error has the type ``raises`` and names
            the signal, or the error of another library, that ended the process.
    """
    ending = run(function, job, {"KERAS_BACKEND": keras, "TF_CPP_MIN_LOG_LEVEL": "3"})
    if ending.error is not None:
        raise type(ending.error)(f"{failed}: {ending.error}")
    if ending.failure:
        raise raises(f"{failed}: {ending.failure}")
    return ending.result


def run(function: str, job: Mapping[str, Any], environment: Mapping[str, str], seconds: float | None = None) -> Ending:
    """Run ``function(**job)`` in a separate process, and return how the process ended. Its errors are not raised here.

    Args:
        function: ``"module:function"`` of this package.
        job: the keyword arguments, as JSON values.
        environment: the environment variables that differ from those of this process.
        seconds: the time limit in seconds, after which the process is killed; None for no limit.

    Returns:
        How the process ended.

    Raises:
        KeyboardInterrupt: a signal asked this process to stop, so that its child processes were killed. The signal may
            have reached the main thread while another thread waits in this function.
    """
    command = [sys.executable, "-P", "-m", "regraft.foundation.processes", function]
    own = child_environment(PYTHONPATH=os.pathsep.join(_import_path()), PYTHONSAFEPATH="1", **environment)
    with tempfile.TemporaryFile() as talk, _started(command, own, talk) as process:
        with _killed_after(seconds, process) as too_late:
            message = {"job": dict(job), "spelling": asdict(errors.spelling())}
            answer = _exchange(process, json.dumps(message).encode() + b"\n")
        if stopped := was_stopped():
            raise stopped
        if too_late.is_set():
            return Ending(failure=f"no end after {seconds:g} s")
        return _ending(process.returncode, answer, talk)


@contextmanager
def _killed_after(seconds: float | None, process: subprocess.Popen[bytes]) -> Iterator[threading.Event]:
    """Kill the process if the ``with`` block takes longer than ``seconds``; None for no limit.

    Yields:
        An event that is set when the process is killed.
    """
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
    """Start a process for the ``with`` block, and kill the process at the end of the block if it still runs."""
    process = None
    try:
        with delayed_signals():  # a signal during the start could leave a process that nobody stops
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
                    with suppress(BrokenPipeError):  # the process died before it read all of its input
                        pipe.close()


def stop_all() -> None:
    """Kill every process that `run` has started and that still runs."""
    for process in list(_running):
        process.kill()


before_stopping(stop_all)


def _exchange(process: subprocess.Popen[bytes], job: bytes) -> bytes:
    """Send the job to the process, wait until the process ends, and return the line that it wrote; empty if none.

    Only one line is read: a process that a library has started in there may keep the pipe open for longer.
    """
    if process.stdin is None or process.stdout is None:
        raise ValueError("the process was started without pipes")
    try:
        process.stdin.write(job)
        process.stdin.flush()  # the pipe stays open, since the process ends when the pipe is closed
    except BrokenPipeError:  # the process died before it read the job; its exit code says why
        pass
    answer = process.stdout.readline()
    process.wait()
    return answer


def _ending(code: int, answer: bytes, talk: Any) -> Ending:
    """Return how a process ended, from its exit code, its JSON answer (empty if it crashed) and its stderr."""
    if answer:
        values = json.loads(answer)
        if "result" in values:
            return Ending(result=values["result"])
        kind = getattr(errors, values["type"], None) if values["ours"] else None
        if kind is not None:
            return Ending(error=kind(values["message"]))
        return Ending(failure=" ".join(f"{values['type']}: {values['message']}".split())[:_MAX_MESSAGE])
    if name := _signal_name(code):
        return Ending(failure=f"its process died of {name}", signal=name)
    talk.seek(0)
    lines = talk.read().decode("utf-8", "replace").strip().splitlines()
    return Ending(failure=(lines or [f"its process ended with exit code {code}"])[-1][:_MAX_MESSAGE])


def _signal_name(code: int) -> str:
    """Return the name of the signal that an exit code stands for; empty if no signal ended the process."""
    if code == 0xC000001D:  # STATUS_ILLEGAL_INSTRUCTION on Windows
        return "SIGILL"
    try:
        return signal.Signals(-code).name if code < 0 else ""
    except ValueError:
        return f"signal {-code}"


def _import_path() -> list[str]:
    """Return the module search path for a new process: that of this process, without the working folder.

    Python itself would search the working folder first, and would run, for example, a ``numpy.py`` that lies there.
    """
    kept = [place for place in sys.path if place and os.path.realpath(place) != os.path.realpath("")]
    ours = str(Path(__file__).resolve().parents[2])
    return kept if ours in kept else [*kept, ours]


def _serve(function: str) -> None:
    """Read a job from stdin, run ``function`` on it, and write the answer to stdout.

    This is the main function of the process that `run` starts.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches both processes; the caller decides what to do
    without_telemetry()
    with os.fdopen(os.dup(1), "wb") as answer:
        os.dup2(2, 1)  # the output of libraries goes to stderr, so that it does not mix with the answer
        message = json.loads(_read_line())
        job, spelling = message["job"], errors.Spelling(**message["spelling"])
        threading.Thread(target=_end_with_caller, daemon=True).start()
        try:
            with errors.spelled(spelling):
                values = {"result": resolve(function)(**job)}
        except Exception as error:
            ours = isinstance(error, RegraftError)
            values = {"type": type(error).__name__, "message": str(error), "ours": ours}
        answer.write(json.dumps(values).encode() + b"\n")
    sys.stderr.flush()
    os._exit(0)  # a normal exit would unload the libraries, which takes as long as a small job and may crash


def _read_line() -> bytes:
    """Return standard input up to the first line end, read without a buffer.

    A buffer would stay locked while `_end_with_caller` waits for the end of standard input in a thread.
    """
    pieces: list[bytes] = []
    while not pieces or not pieces[-1].endswith(b"\n"):
        piece = os.read(0, 2**20)
        if not piece:
            sys.exit(1)
        pieces.append(piece)
    return b"".join(pieces)


def _end_with_caller() -> None:
    """End this process when the pipe from its caller closes: the caller has finished, or was killed."""
    while os.read(0, 4096):
        pass
    os._exit(1)


if __name__ == "__main__":
    _serve(sys.argv[1])
