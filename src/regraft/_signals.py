"""What a command does when it is told to stop: end what it started, then raise KeyboardInterrupt."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

_NAMES = ("SIGINT", "SIGTERM", "SIGHUP")
_first: list[Callable[[], None]] = []
_received: list[int] = []
_delays: list[None] = []


class Terminated(KeyboardInterrupt):
    """This process was asked to end by SIGTERM or SIGHUP."""


def before_stopping(function: Callable[[], None]) -> None:
    """Have ``function`` called when a signal asks this process to stop, before anything is raised."""
    _first.append(function)


def stop_on_signals() -> None:
    """From now on SIGINT, SIGTERM and SIGHUP call what `before_stopping` was given, and raise KeyboardInterrupt.

    SIGTERM and SIGHUP raise its subclass `Terminated`. A signal that this process was started to ignore, as ``nohup``
    does, stays ignored. Does nothing outside the main thread, where Python allows no handlers.
    """
    if threading.current_thread() is threading.main_thread():
        for number in _numbers():
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, _stop)


def ignore_signals() -> None:
    """Let no further signal of this kind interrupt this process, which is ending."""
    if threading.current_thread() is threading.main_thread():
        for number in _numbers():
            signal.signal(number, signal.SIG_IGN)


def raise_if_stopped() -> None:
    """Raise KeyboardInterrupt where a signal has come. What fails from then on may fail because of that.

    An import that a signal interrupts ends in an ImportError, and a child process that is stopped in an error of ours.
    """
    if _received:
        _raise(_received[-1])


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
            _raise(_received[-1])


def _numbers() -> list[int]:
    return [getattr(signal, name) for name in _NAMES if hasattr(signal, name)]


def _stop(number: int, _: Any) -> None:
    _received.append(number)
    if not _delays:
        _raise(number)


def _raise(number: int) -> NoReturn:
    for function in _first:
        function()
    raise KeyboardInterrupt if number == signal.SIGINT else Terminated
