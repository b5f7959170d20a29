"""Rows of text in columns that line up on a terminal."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from itertools import zip_longest

from regraft.foundation.console import printable


def print_columns(rows: Sequence[Sequence[str]], widest: list[int] | None = None) -> None:
    """Print rows in columns that are aligned on a terminal, where a Korean letter is two cells wide.

    Args:
        rows: the cells of each row, as many in each.
        widest: where a table is printed in several calls, the widths of its columns so far; updated by each call.
    """
    cells = [[printable(cell) for cell in row] for row in rows]
    widths = [max(_width(row[i]) for row in cells) for i in range(len(cells[0]))] if cells else []
    if widest is not None and widths:
        widest[:] = [max(pair) for pair in zip_longest(widest, widths, fillvalue=0)]
        widths = widest
    for row in cells:
        print("  ".join(cell + " " * (w - _width(cell)) for cell, w in zip(row, widths, strict=True)).rstrip())


def _width(text: str) -> int:
    """Return the number of terminal cells that a text takes."""
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 0 if unicodedata.combining(c) else 1 for c in text)
