"""Talk on stderr: notes, warnings, progress. Silent in a library; the command line turns it on.

Notes and progress are for a person at a terminal and vanish in a pipe; warnings are always said.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol, TextIO

_log = logging.getLogger("regraft")
_log.addHandler(logging.NullHandler())


class Advance(Protocol):
    """Tell a progress bar that ``count`` more are done, and what to call them from now on."""

    def __call__(self, count: int = 1, label: str = "") -> None: ...


def turn_on() -> None:
    """Send talk to stderr, as the command line does: notes only where a person is there to read them."""
    if any(type(handler) is logging.StreamHandler for handler in _log.handlers):
        return
    _log.addHandler(logging.StreamHandler(sys.stderr))
    _log.setLevel(logging.INFO if sys.stderr.isatty() else logging.WARNING)
    _log.propagate = False


def note(message: str) -> None:
    """Say something worth knowing but not acting on."""
    _log.info(printable(message))


def say(message: str) -> None:
    """Say what was done, also in a pipe."""
    _log.warning("%s", printable(message))


def warn(message: str) -> None:
    """Say something the user should act on, though the work goes on."""
    _log.warning("warning: %s", printable(message))


def printable(text: str) -> str:
    """``text`` as one line that any UTF-8 terminal can show: control characters and odd bytes escaped."""
    safe = text.encode("utf-8", "backslashreplace").decode("utf-8")
    if safe.isprintable():
        return safe
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in safe)


def printed(*lines: object, file: TextIO | None = None) -> None:
    """Print as `print` does, but escaped as by `printable`: what strangers named reaches no terminal raw.

    Line breaks and tabs stay, since they are ours: whoever prints columns escapes the cells first.
    """
    text = re.sub(r"[^\n\t]+", lambda found: printable(found[0]), " ".join(map(str, lines)))
    print(text, file=file)


def as_json(document: Any, indent: int | None = 2) -> str:
    """Return a document as JSON whose texts keep their letters; what does not print is escaped.

    JSON itself escapes the control characters below 32 alone; a terminal also obeys some above 127.
    """
    text = json.dumps(document, ensure_ascii=False, indent=indent)
    if text.replace("\n", "").isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text)


@contextmanager
def silenced() -> Iterator[None]:
    """Within it nothing reaches stderr, not even what C++ writes there: TensorFlow logs as it is imported."""
    before, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(before, 2)
        os.close(before)
        os.close(nowhere)


def _nothing(count: int = 1, label: str = "") -> None:
    pass


@contextmanager
def progress(label: str, total: int) -> Iterator[Advance]:
    """A bar with count, rate and time left, at a terminal only; yields a function to advance it."""
    if not (_log.isEnabledFor(logging.INFO) and sys.stderr.isatty()) or total == 0:
        yield _nothing
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, Task, TextColumn, TimeRemainingColumn
    from rich.text import Text

    class Rate(TextColumn):
        def render(self, task: Task) -> Text:
            return Text(f"{task.finished_speed or task.speed or 0:.0f}/s")

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Rate(""), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(label, total=total)
        yield lambda count=1, label="": bar.update(task, advance=count, description=label or None)
