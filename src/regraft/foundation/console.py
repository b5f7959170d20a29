"""Messages on stderr: notes, warnings and progress bars. The command line turns them on; a library prints nothing.

Notes and progress bars appear only if stderr is a terminal. Warnings always appear. With ``--quiet``, only warnings
and errors appear. In a notebook, the library shows progress bars unless the level of the logger ``regraft`` is above
``WARNING``.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Protocol, TextIO

from regraft.foundation.notebook_bar import NotebookBar, in_notebook

if TYPE_CHECKING:
    from rich.progress import Progress

_log = logging.getLogger("regraft")
_log.addHandler(logging.NullHandler())
_results_log = logging.getLogger("regraft.told")
"""The logger of `say`. It is separate from the other one, so that ``--quiet`` turns it off and leaves warnings on."""

_bar: Any = None
"""The progress bar that is shown at the moment, rich's or a `NotebookBar`; None if there is none."""


shown_by: ContextVar[Any] = ContextVar("regraft_bar", default=None)
"""What shows the progress of this thread in place of a bar on stderr, with the methods of a `NotebookBar`; or None."""


class Advance(Protocol):
    """A function that moves a progress bar forward."""

    def __call__(self, count: int = 1, label: str = "") -> None:
        """Add ``count`` finished items to the progress bar, and change its label unless ``label`` is empty."""


def turn_on(quiet: bool = False) -> None:
    """Print messages on stderr from now on, as the command line does. Notes appear only if stderr is a terminal.

    Args:
        quiet: whether to leave out notes, progress bars and the messages of `say`. Warnings still appear.
    """
    if not any(type(handler) is logging.StreamHandler for handler in _log.handlers):
        _log.addHandler(logging.StreamHandler(sys.stderr))
        _log.propagate = False
    _log.setLevel(logging.INFO if sys.stderr.isatty() and not quiet else logging.WARNING)
    _results_log.setLevel(logging.ERROR if quiet else logging.NOTSET)


def note(message: str) -> None:
    """Print a message that needs no action from the user. It appears only if stderr is a terminal."""
    _log.info("%s", printable(message))


def say(message: str) -> None:
    """Print a message about what was done. It appears also if stderr is a pipe, but not with ``--quiet``."""
    _results_log.warning("%s", printable(message))


def says() -> bool:
    """Return whether messages of `say` appear, which ``--quiet`` turns off."""
    return _results_log.isEnabledFor(logging.WARNING)


def warn(message: str) -> None:
    """Print a warning: a message that the user should act on, although the work goes on."""
    _log.warning("warning: %s", printable(message))


def printable(text: str) -> str:
    """Return ``text`` as one line for a UTF-8 terminal: control characters and invalid bytes become escapes."""
    safe = text.encode("utf-8", "backslashreplace").decode("utf-8")
    if safe.isprintable():
        return safe
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in safe)


def printed(*lines: object, end: str = "\n", file: TextIO | None = None) -> None:
    """Print like `print`, with control characters escaped as by `printable`.

    File names and labels come from strangers, and a control character in a name could change the user's terminal.
    Line breaks and tabs are not escaped. A caller that prints columns must therefore escape the cells first.

    Args:
        lines: the values to print, joined by spaces.
        end: the text after the last value.
        file: where to print; None for stdout.
    """
    text = re.sub(r"[^\n\t]+", lambda found: printable(found[0]), " ".join(map(str, lines)))
    print(text, end=end, file=file)


def as_json(document: Any, indent: int | None = 2) -> str:
    """Return ``document`` as JSON text in which letters stay as they are and unprintable characters are escaped.

    JSON itself escapes only the control characters below 32. Terminals also obey some control characters above 127.

    Args:
        document: JSON values.
        indent: the number of spaces per level; None for a single line.
    """
    text = json.dumps(document, ensure_ascii=False, indent=indent)
    if text.replace("\n", "").isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text)


@contextmanager
def silenced() -> Iterator[None]:
    """Discard everything written to stderr in the ``with`` block, also by C++ code.

    TensorFlow logs to stderr from C++ when it is imported, so that replacing ``sys.stderr`` would not be enough.
    """
    before, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(before, 2)
        os.close(before)
        os.close(nowhere)


def _nothing(count: int = 1, label: str = "") -> None:
    """Do nothing: the `Advance` function where no progress bar is shown."""


@contextmanager
def progress(label: str, total: int | None) -> Iterator[Advance]:
    """Show a progress bar with count, rate and remaining time, if stderr is a terminal, or in a notebook.

    Args:
        label: the name of the work, shown before the bar.
        total: the number of items to process; None if it is not known, 0 for no bar.

    Yields:
        A function that moves the bar forward.
    """
    global _bar
    chosen: Any = shown_by.get()
    notebook = in_notebook() and _log.isEnabledFor(logging.WARNING)
    if not (chosen or notebook or (_log.isEnabledFor(logging.INFO) and sys.stderr.isatty())) or total == 0:
        yield _nothing
        return
    chosen = chosen or (NotebookBar() if notebook else _new_bar())
    with chosen as bar:
        task = bar.add_task(label, total=total, waits_for="")
        outer, _bar = _bar, bar
        try:
            yield lambda count=1, label="": bar.update(task, advance=count, description=label or None)
        finally:
            _bar = outer


@contextmanager
def waiting_for(what: str) -> Iterator[None]:
    """Show ``what`` in place of the counts of the progress bar; print it as a note if there is no bar.

    Use it around work during which the counts do not change.
    """
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
        """A column that is hidden while `waiting_for` shows its text."""

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
