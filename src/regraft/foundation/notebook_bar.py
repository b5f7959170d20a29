"""A progress bar for notebooks (JupyterLab, VS Code, Colab), by Jupyter's display messages and without widgets.

rich draws in notebooks too, but needs the package ipywidgets for it, and asks for it with a warning.
"""

from __future__ import annotations

import sys
from html import escape
from importlib import import_module
from time import perf_counter
from typing import Any, Self

_PERIOD = 0.2  # seconds between two updates: each is a message to the browser


def in_notebook() -> bool:
    """Return whether this process is the kernel of a notebook, which shows HTML."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return getattr(shell, "kernel", None) is not None


class NotebookBar:
    """A bar with count, rate and remaining time, which vanishes at the end. It has the methods of rich's `Progress`."""

    task_ids: tuple[int, ...] = (0,)

    def __init__(self) -> None:
        self._label, self._waits_for = "", ""
        self._total: int | None = None
        self._count = 0
        self._start = self._drawn = perf_counter()
        self._shown: Any = None

    def __enter__(self) -> Self:
        return self

    def add_task(self, label: str, total: int | None, waits_for: str) -> int:
        """Show the bar of the only task."""
        self._label, self._total, self._waits_for = label, total, waits_for
        self._shown = import_module("IPython.display").display(self._picture(), raw=True, display_id=True)
        return 0

    def update(
        self, _task: int, advance: int = 0, description: str | None = None, waits_for: str | None = None
    ) -> None:
        """Add finished items, or change the text before the bar or in its place."""
        self._count += advance
        self._label = description or self._label
        self._waits_for = self._waits_for if waits_for is None else waits_for
        now = perf_counter()
        if waits_for is not None or now - self._drawn >= _PERIOD:
            self._drawn = now
            self._shown.update(self._picture(), raw=True)

    def __exit__(self, *_: object) -> None:
        if self._shown is not None:
            self._shown.update({"text/html": "", "text/plain": ""}, raw=True)

    def _picture(self) -> dict[str, str]:
        """Return the bar as text and as HTML."""
        if self._waits_for:
            return {"text/plain": self._waits_for, "text/html": escape(self._waits_for)}
        seconds = perf_counter() - self._start
        rate = self._count / seconds if seconds else 0.0
        text = f"{self._count:,}" + (f"/{self._total:,}" if self._total else "")
        if self._count:
            text += f", {rate:.0f}/s"
            text += f", {(self._total - self._count) / rate:.0f} s left" if self._total else ""
        value = f' value="{self._count}" max="{self._total}"' if self._total else ""
        html = f'{escape(self._label)} <progress{value} style="vertical-align:middle"></progress> {text}'
        return {"text/plain": f"{self._label} {text}", "text/html": html}
