"""What a command does when it is told to stop: end what it started, raise KeyboardInterrupt, and end within a second.

Modules in C that are being imported turn a KeyboardInterrupt into an ImportError, or lose it, and a network that is
being compiled cannot be interrupted. So it is written down that a signal came; where the process is still there after
`PATIENCE`, or a second signal comes, it ends at once. What is finished is in its place by then, as after a kill.
"""

from __future__ import annotations

import _thread
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

PATIENCE = 0.8
"""Seconds after a signal in which a command may end by itself."""

_NAMES = ("SIGINT", "SIGTERM", "SIGHUP")
_first: list[Callable[[], None]] = []
_received: list[int] = []
_delays: list[None] = []
_settled: list[None] = []


class Terminated(KeyboardInterrupt):
    """This process was asked to end by SIGTERM or SIGHUP."""


def before_stopping(function: Callable[[], None]) -> None:
    """Have ``function`` called when a signal asks this process to stop, before anything is raised."""
    _first.append(function)


def stop_on_signals(end: Callable[[], None]) -> None:
    """From now on SIGINT, SIGTERM and SIGHUP call what `before_stopping` was given, and raise KeyboardInterrupt.

    SIGTERM and SIGHUP raise its subclass `Terminated`. A signal that this process was started to ignore, as ``nohup``
    does, stays ignored. Does nothing outside the main thread, where Python allows no handlers.

    Args:
        end: ends the process at once; called where it has not ended by itself in time.
    """
    if threading.current_thread() is not threading.main_thread():
        return

    def on_signal(number: int, _: Any) -> None:
        if _settled:  # the work is done, and its exit code is known
            return
        _received.append(number)
        if len(_received) > 1:
            _end(end)
        # Not `threading`, whose locks this thread may hold at the moment.
        _thread.start_new_thread(_end_later, (end,))
        if not _delays:
            _raise()

    for number in (getattr(signal, name) for name in _NAMES if hasattr(signal, name)):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, on_signal)


def settle() -> None:
    """Say that the process is about to end by itself, so that nothing ends it before."""
    _settled.append(None)


def was_stopped() -> type[KeyboardInterrupt] | None:
    """`Terminated` or KeyboardInterrupt where a signal has come; None where none has."""
    if not _received:
        return None
    return KeyboardInterrupt if _received[-1] == signal.SIGINT else Terminated


@contextmanager
def delayed_signals() -> Iterator[None]:
    """Within it nothing is raised; a signal that came meanwhile counts at the end. For the main thread, and briefly."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _delays.append(None)
    try:
        yield
    finally:
        _delays.pop()
        if _received and not _delays:
            _raise()


def _raise() -> NoReturn:
    for function in _first:
        function()
    raise was_stopped() or KeyboardInterrupt


def _end_later(end: Callable[[], None]) -> None:
    time.sleep(PATIENCE)
    _end(end)


def _end(end: Callable[[], None]) -> None:
    if not _settled:
        for function in _first:
            function()
        end()
