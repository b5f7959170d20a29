"""Functions that the sources of shards share: find the shards, their sides of the split, and the names of classes."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable
from pathlib import Path

from regraft.errors import DataError
from regraft.photos.images import Problem
from regraft.photos.sources.base import Entry, Listing, Side, probability_of, side_of

_BESIDE = (".txt", ".json", ".md", ".csv")  # files that may lie beside shards
_DIGITS = 9  # the most digits of a class index: Python refuses to convert very long numbers
_MAX_SHARDS = 100_000  # the most files that one pattern may stand for
_RANGE = re.compile(r"\{([0-9]{1,9})\.\.([0-9]{1,9})\}")


def shard_files(spec: str, is_shard: Callable[[Path], bool]) -> list[Path]:
    """Return the shards that ``spec`` names.

    Args:
        spec: a file, a folder, or a pattern such as ``train-*`` or ``train-{000..012}.tar``.
        is_shard: returns whether a file is a shard of the wanted kind.

    Returns:
        The files, sorted by name; empty unless the first file is a shard. Text files in a folder do not count.
    """
    path = Path(spec).expanduser()
    if path.is_dir():
        files = [p for p in sorted(path.iterdir()) if p.is_file() and not p.name.startswith(".")]
        files = [p for p in files if p.suffix.lower() not in _BESIDE]
    elif path.exists():
        files = [path] if path.is_file() else []  # reading a pipe could wait forever
    else:
        found = [sorted(path.parent.glob(name)) for name in _expanded(path.name)] if path.parent.is_dir() else []
        files = [file for some in found for file in some if file.is_file()]
    return files if files and is_shard(files[0]) else []


def _expanded(pattern: str) -> list[str]:
    """Return the names for which a pattern with ranges such as ``{000..012}`` stands."""
    pieces = _RANGE.split(pattern)  # a text, the first and last number of a range, a text, …
    texts, ends = pieces[::3], list(zip(pieces[1::3], pieces[2::3], strict=True))
    ranges = [range(int(first), int(last) + 1) for first, last in ends]
    if math.prod(map(len, ranges)) > _MAX_SHARDS:
        return [pattern]
    names = []
    for numbers in itertools.product(*ranges):
        written = [f"{n:0{len(first)}}" for n, (first, _) in zip(numbers, ends, strict=True)]
        names.append("".join(text + number for text, number in zip(texts, [*written, ""], strict=True)))
    return names


def sides_of(files: list[Path]) -> dict[Path, Side | None]:
    """Return the side of the split of each shard, by the words of its file name.

    All sides are None unless every file name names a side, and train and another side are among them.
    """
    found = {
        file: next((s for word in re.split(r"[^A-Za-z]+", file.name) if (s := side_of(word))), None) for file in files
    }
    whole = None not in found.values() and "train" in found.values() and len(set(found.values())) > 1
    return found if whole else dict.fromkeys(files)


def label_by_number(number: int, names: list[str]) -> str:
    """Return the class name for a class index: the line in ``names`` (labels.txt), or else the number as text."""
    return names[number] if 0 <= number < len(names) else str(number)


def label_by_text(text: str, names: list[str]) -> str:
    """Return the class name for a text: if it is a class index, the line in ``names`` (labels.txt), else the text."""
    numbered = text.isascii() and text.isdecimal() and len(text) <= _DIGITS
    return names[int(text)] if numbered and int(text) < len(names) else text


def certainty_of(text: str) -> float:
    """Return the probability of a photo's label that a record gives as text; 1 if it gives none from 0.5 to 1."""
    probability = probability_of(text)
    return probability if probability is not None and probability >= 0.5 else 1.0


def listing_of(found: list[Entry | Problem], none: str) -> Listing:
    """Return entries and problems as a listing. Raises DataError with the message ``none`` if there is no entry."""
    entries = tuple(f for f in found if isinstance(f, Entry))
    if not entries:
        first = next((f": {f.reason}" for f in found if isinstance(f, Problem)), "")
        raise DataError(none + first)
    return Listing(entries, tuple(f for f in found if isinstance(f, Problem)))
