"""What a command does when it is told to stop: end what it started, then raise KeyboardInterrupt."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from typing import Any, NoReturn

_NAMES = ("SIGINT", "SIGTERM", "SIGHUP")
_first: list[Callable[[], None]] = []


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


def _numbers() -> list[int]:
    return [getattr(signal, name) for name in _NAMES if hasattr(signal, name)]


def _stop(number: int, _: Any) -> NoReturn:
    for function in _first:
        function()
    raise KeyboardInterrupt if number == signal.SIGINT else Terminated
