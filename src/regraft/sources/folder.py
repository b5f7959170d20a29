"""A folder of class folders, with or without its own ``train/ val/ test/`` above them."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterator
from pathlib import Path

from regraft import _console
from regraft.errors import DataError
from regraft.images import Problem
from regraft.sources import Entry, Listing, Side, side_of

_JUNK = {"thumbs.db", "desktop.ini", "icon\r", "__macosx", "@eadir"}
IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".heic", ".heif"}


class Folder:
    """``photos/cats/1.jpg``: the first folder under the root is the class; deeper ones belong to it."""

    def accepts(self, spec: str) -> bool:
        """Any existing folder."""
        return Path(spec).expanduser().is_dir()

    def list(self, spec: str) -> Listing:
        """List the class folders of ``spec``. Raises DataError where there are none, or it cannot be listed."""
        root = Path(spec).expanduser()
        try:
            return self._list(root)
        except OSError as error:
            raise DataError(f"{error.filename or root} cannot be listed: {(error.strerror or '').lower()}") from error

    def _list(self, root: Path) -> Listing:
        folders, files = _children(root)
        sides = {f: side_of(f.name) for f in folders}
        entries: list[Entry] = []
        problems = [
            Problem(f, "lies beside the class folders, in none of them")
            for f in files
            if f.suffix.lower() in IMAGE_SUFFIXES
        ]
        empty: list[str] = []
        if _is_split_layout(sides):
            found = sorted({side for side in sides.values() if side})
            _console.note(f"{root} has its own {'/, '.join(found)}/: kept as the split")
            for folder, side in sides.items():
                _list_classes(folder, side, entries, problems, empty)
        else:
            _list_classes(root, None, entries, problems, empty)
        labels = {entry.label for entry in entries}
        return Listing(tuple(entries), tuple(problems), tuple(sorted(set(empty) - labels)))


def _is_split_layout(sides: dict[Path, Side | None]) -> bool:
    """Only side names, train among them, and class folders below: a class that happens to be called 'test' is none."""
    if "train" not in sides.values() or len(sides) < 2 or None in sides.values():
        return False
    return all(_children(folder)[0] for folder in sides)


def _list_classes(
    root: Path, side: Side | None, entries: list[Entry], problems: list[Problem], empty: list[str]
) -> None:
    names: dict[str, Path] = {}
    for folder in _children(root)[0]:
        label = unicodedata.normalize("NFC", os.fsencode(folder.name).decode("utf-8", "replace"))
        if label in names:
            _console.warn(f"{root} has two folders called {label!r} in different Unicode forms: taken as one class")
        names[label] = folder
        before = len(entries)
        for path in _walk(folder, problems):
            entries.append(Entry(path, label, side))
        if len(entries) == before:
            empty.append(label)
    if not names:
        raise DataError(
            f"{root} holds no folders; wanted one folder of photos for each class, "
            f"such as {root / 'cats'} and {root / 'dogs'}"
        )


def _walk(folder: Path, problems: list[Problem]) -> Iterator[Path]:
    """Every file under ``folder``, links followed, loops not."""
    seen: set[tuple[int, int]] = set()
    stack = [folder]
    while stack:
        current = stack.pop()
        try:
            status = current.stat()
            if (status.st_dev, status.st_ino) in seen:
                problems.append(Problem(current, "a link back to a folder that is already listed"))
                continue
            seen.add((status.st_dev, status.st_ino))
            folders, files = _children(current)
        except OSError as error:
            problems.append(Problem(current, f"cannot be listed: {(error.strerror or str(error)).lower()}"))
            continue
        yield from files
        for sub in folders:
            if sub.suffix.lower() in IMAGE_SUFFIXES:
                problems.append(Problem(sub, "a folder called like a photo; the photos in it count"))
        stack.extend(reversed(folders))


def _children(folder: Path) -> tuple[list[Path], list[Path]]:
    """Folders and other entries of ``folder``, each sorted by name; hidden ones and system litter passed over."""
    folders: list[Path] = []
    files: list[Path] = []
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        if not entry.name.startswith(".") and entry.name.lower() not in _JUNK:
            (folders if _is_folder(entry) else files).append(folder / entry.name)
    return folders, files


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself: reading it will say so
        return False
