"""Stop a command within a second after SIGINT, SIGTERM or SIGHUP, together with its child processes.

A KeyboardInterrupt alone is not enough. C modules that are being imported turn it into an ImportError or lose it, and
the compilation of a network cannot be interrupted. So the signal is recorded. If the process still runs after
`PATIENCE` seconds, or if a second signal comes, the process ends at once. All finished results are in place by then,
since results are written atomically.
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
"""The time after a signal, in seconds, in which a command may end by itself."""

_NAMES = ("SIGINT", "SIGTERM", "SIGHUP")
_before_stopping: list[Callable[[], None]] = []
_received: list[int] = []  # the numbers of the signals that came
_delays: list[None] = []  # one entry for each `delayed_signals` block that is open
_settled: list[None] = []  # not empty after `settle`


class Terminated(KeyboardInterrupt):
    """SIGTERM or SIGHUP asked this process to end."""


def before_stopping(function: Callable[[], None]) -> None:
    """Register a function to be called when a signal asks this process to stop, before KeyboardInterrupt is raised."""
    _before_stopping.append(function)


def stop_on_signals(end: Callable[[], None]) -> None:
    """Let SIGINT, SIGTERM and SIGHUP stop this process from now on.

    Such a signal calls the functions given to `before_stopping`, and then raises KeyboardInterrupt (SIGINT) or its
    subclass `Terminated` (SIGTERM and SIGHUP). A signal that is already ignored, as under ``nohup``, stays ignored.
    Outside the main thread this function does nothing, since Python allows no signal handlers there.

    Args:
        end: ends the process at once. It is called if the process has not ended by itself within `PATIENCE` seconds.
    """
    if threading.current_thread() is not threading.main_thread():
        return

    def on_signal(number: int, _: Any) -> None:
        if _settled:  # the work is done, and its exit code is known
            return
        _received.append(number)
        if len(_received) > 1:
            _end(end)
        # The module `threading` cannot be used here: this thread may hold one of its locks at the moment.
        _thread.start_new_thread(_end_later, (end,))
        if not _delays:
            _raise()

    for number in (getattr(signal, name) for name in _NAMES if hasattr(signal, name)):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, on_signal)


def settle() -> None:
    """Ignore signals from now on, since the process is about to end by itself with a known exit code."""
    _settled.append(None)


def was_stopped() -> type[KeyboardInterrupt] | None:
    """Return KeyboardInterrupt if SIGINT came last, `Terminated` for another signal, None if no signal has come."""
    if not _received:
        return None
    return KeyboardInterrupt if _received[-1] == signal.SIGINT else Terminated


@contextmanager
def delayed_signals() -> Iterator[None]:
    """Delay the KeyboardInterrupt of a signal until the end of the ``with`` block.

    It has an effect in the main thread only. The block must be short, since `PATIENCE` goes on meanwhile.
    """
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
    for function in _before_stopping:
        function()
    raise was_stopped() or KeyboardInterrupt


def _end_later(end: Callable[[], None]) -> None:
    time.sleep(PATIENCE)
    _end(end)


def _end(end: Callable[[], None]) -> None:
    if not _settled:
        for function in _before_stopping:
            function()
        end()
