"""What sources of shards share: which files a spec names, and whose side their names tell."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable
from pathlib import Path

from regraft.errors import DataError
from regraft.images import Problem
from regraft.sources import Entry, Listing, Side, side_of

_BESIDE = (".txt", ".json", ".md", ".csv")
_DIGITS = 9  # of a class's number: to read very long ones as numbers is refused by Python
_MAX_SHARDS = 100_000  # that one pattern may stand for
_RANGE = re.compile(r"\{([0-9]{1,9})\.\.([0-9]{1,9})\}")


def shard_files(spec: str, is_shard: Callable[[Path], bool]) -> list[Path]:
    """The shards of ``spec``: a file, a folder of them, ``train-*``, or ``train-{000..012}.tar``; none of another kind.

    A folder is one of shards if the first file in it is a shard; text beside the shards does not count.
    """
    path = Path(spec).expanduser()
    if path.is_dir():
        files = [p for p in sorted(path.iterdir()) if p.is_file() and not p.name.startswith(".")]
        files = [p for p in files if p.suffix.lower() not in _BESIDE]
    elif path.exists():
        files = [path] if path.is_file() else []  # to look into a pipe would wait for somebody to write there
    else:
        found = [sorted(path.parent.glob(name)) for name in _expanded(path.name)] if path.parent.is_dir() else []
        files = [file for some in found for file in some if file.is_file()]
    return files if files and is_shard(files[0]) else []


def _expanded(pattern: str) -> list[str]:
    """The names that ``{000..012}`` in a pattern stands for, and other such ranges with it."""
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
    """The side of each shard by the words of its name; none unless every file has one and two sides are there."""
    found = {
        file: next((s for word in re.split(r"[^A-Za-z]+", file.name) if (s := side_of(word))), None) for file in files
    }
    whole = None not in found.values() and "train" in found.values() and len(set(found.values())) > 1
    return found if whole else dict.fromkeys(files)


def label_by_number(number: int, names: list[str]) -> str:
    """The class called ``number``: its line in labels.txt, or else the number itself."""
    return names[number] if 0 <= number < len(names) else str(number)


def label_by_text(text: str, names: list[str]) -> str:
    """The class called ``text``: where that is a number, its line in labels.txt, or else the text itself."""
    numbered = text.isascii() and text.isdecimal() and len(text) <= _DIGITS
    return names[int(text)] if numbered and int(text) < len(names) else text


def listing_of(found: list[Entry | Problem], none: str) -> Listing:
    """What was found, sorted into entries and problems. Raises DataError, saying ``none``, where there is no entry."""
    entries = tuple(f for f in found if isinstance(f, Entry))
    if not entries:
        first = next((f": {f.reason}" for f in found if isinstance(f, Problem)), "")
        raise DataError(none + first)
    return Listing(entries, tuple(f for f in found if isinstance(f, Problem)))
