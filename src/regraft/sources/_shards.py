"""What sources of shards share: which files a spec names, and whose side their names tell."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from regraft.errors import DataError
from regraft.images import Problem
from regraft.sources import Entry, Listing, Side, side_of

_BESIDE = (".txt", ".json", ".md", ".csv")
_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")


def shard_files(spec: str, is_shard: Callable[[Path], bool]) -> list[Path]:
    """The shards of ``spec``: a file, a folder of them, ``train-*``, or ``train-{000..012}.tar``; none of another kind.

    A folder is one of shards if the first file in it is a shard; text beside the shards does not count.
    """
    path = Path(spec).expanduser()
    if path.is_dir():
        files = [p for p in sorted(path.iterdir()) if p.is_file() and not p.name.startswith(".")]
        files = [p for p in files if p.suffix.lower() not in _BESIDE]
    elif path.exists():
        files = [path]
    else:
        found = [sorted(path.parent.glob(name)) for name in _expanded(path.name)] if path.parent.is_dir() else []
        files = [file for some in found for file in some if file.is_file()]
    return files if files and is_shard(files[0]) else []


def _expanded(pattern: str) -> list[str]:
    found = _RANGE.search(pattern)
    if not found or int(found[2]) - int(found[1]) > 10**6:
        return [pattern]
    width = len(found[1])
    numbers = range(int(found[1]), int(found[2]) + 1)
    return [
        name for i in numbers for name in _expanded(f"{pattern[: found.start()]}{i:0{width}}{pattern[found.end() :]}")
    ]


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


def listing_of(found: list[Entry | Problem], none: str) -> Listing:
    """What was found, sorted into entries and problems. Raises DataError, saying ``none``, where there is no entry."""
    entries = tuple(f for f in found if isinstance(f, Entry))
    if not entries:
        first = next((f": {f.reason}" for f in found if isinstance(f, Problem)), "")
        raise DataError(none + first)
    return Listing(entries, tuple(f for f in found if isinstance(f, Problem)))
