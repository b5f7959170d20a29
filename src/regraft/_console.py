"""Talk on stderr: notes, warnings, progress. Silent in a library; the command line turns it on.

Notes and progress are for a person at a terminal and vanish in a pipe; warnings are always said. ``--quiet`` leaves
warnings and errors.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol, TextIO

if TYPE_CHECKING:
    from rich.progress import Progress

_log = logging.getLogger("regraft")
_log.addHandler(logging.NullHandler())
_told = logging.getLogger("regraft.told")
"""What was done, told also in a pipe. A logger of its own: ``--quiet`` turns it off and leaves warnings on."""

_bar: Progress | None = None
"""The bar that is shown at the moment."""


class Advance(Protocol):
    """Tell a progress bar that ``count`` more are done, and what to call them from now on."""

    def __call__(self, count: int = 1, label: str = "") -> None: ...


def turn_on(quiet: bool = False) -> None:
    """Send talk to stderr, as the command line does: notes only where a person is there to read them.

    Args:
        quiet: leave out notes, progress and what was done. Warnings are still said.
    """
    if not any(type(handler) is logging.StreamHandler for handler in _log.handlers):
        _log.addHandler(logging.StreamHandler(sys.stderr))
        _log.propagate = False
    _log.setLevel(logging.INFO if sys.stderr.isatty() and not quiet else logging.WARNING)
    _told.setLevel(logging.ERROR if quiet else logging.NOTSET)


def note(message: str) -> None:
    """Say something worth knowing but not acting on."""
    _log.info("%s", printable(message))


def say(message: str) -> None:
    """Say what was done, also in a pipe."""
    _told.warning("%s", printable(message))


def warn(message: str) -> None:
    """Say something the user should act on, though the work goes on."""
    _log.warning("warning: %s", printable(message))


def printable(text: str) -> str:
    """``text`` as one line that any UTF-8 terminal can show: control characters and odd bytes escaped."""
    safe = text.encode("utf-8", "backslashreplace").decode("utf-8")
    if safe.isprintable():
        return safe
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in safe)


def printed(*lines: object, end: str = "\n", file: TextIO | None = None) -> None:
    """Print as `print` does, but escaped as by `printable`: what strangers named reaches no terminal raw.

    Line breaks and tabs stay, since they are ours: whoever prints columns escapes the cells first.
    """
    text = re.sub(r"[^\n\t]+", lambda found: printable(found[0]), " ".join(map(str, lines)))
    print(text, end=end, file=file)


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
def progress(label: str, total: int | None) -> Iterator[Advance]:
    """A bar with count, rate and time left, at a terminal only; yields a function to advance it.

    Args:
        label: what to call the work.
        total: how many there are to do; None where that is not known, and 0 for no bar.
    """
    global _bar
    if not (_log.isEnabledFor(logging.INFO) and sys.stderr.isatty()) or total == 0:
        yield _nothing
        return
    with _new_bar() as bar:
        task = bar.add_task(label, total=total, waits_for="")
        outer, _bar = _bar, bar
        try:
            yield lambda count=1, label="": bar.update(task, advance=count, description=label or None)
        finally:
            _bar = outer


@contextmanager
def waiting_for(what: str) -> Iterator[None]:
    """Within it the bar shows ``what`` in place of counts that stand still; where there is no bar a note says it."""
    bar = _bar
    if bar is None:
        note(what)
        yield
        return
    tasks = list(bar.task_ids)
    for task in tasks:
        bar.update(task, waits_for=what)
    try:
        yield
    finally:
        for task in tasks:
            bar.update(task, waits_for="")


def _new_bar() -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TimeRemainingColumn
    from rich.text import Text

    class Moving(ProgressColumn):
        """A column that is shown while the work moves."""

        def __init__(self, column: ProgressColumn) -> None:
            super().__init__()
            self.column = column

        def render(self, task: Task) -> Any:
            return Text() if task.fields["waits_for"] else self.column.render(task)

    class Label(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(str(task.fields["waits_for"] or task.description))

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(f"{task.finished_speed or task.speed or 0:.0f}/s")

    moving = [Moving(column) for column in (BarColumn(), MofNCompleteColumn(), Rate(), TimeRemainingColumn())]
    return Progress(Label(), *moving, console=Console(stderr=True), transient=True)
