"""A folder of class folders, with or without its own ``train/ val/ test/`` above them."""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from regraft import _console
from regraft._levels import Levels
from regraft.errors import DataError
from regraft.images import Problem
from regraft.sources import Entry, Listing, Side, side_of

_JUNK = {"thumbs.db", "desktop.ini", "icon\r", "__macosx", "@eadir"}
IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".heic", ".heif"}


class Folder:
    """``photos/cats/1.jpg``: by default the first folder under the root is the class, and deeper ones belong to it."""

    def accepts(self, spec: str) -> bool:
        """Any existing folder."""
        return Path(spec).expanduser().is_dir()

    def list(self, spec: str) -> Listing:
        """List the class folders of ``spec``. Raises DataError where there are none, or it cannot be listed."""
        return self.list_levels(spec, Levels())

    def list_levels(self, spec: str, levels: Levels) -> Listing:
        """List the photos of ``spec``, classes and groups named by the folders of ``levels``.

        Raises:
            DataError: there are no class folders, no photo lies as deep as ``levels`` wants, or a folder cannot be
                listed.
        """
        root = Path(spec).expanduser()
        try:
            return _list(root, levels)
        except OSError as error:
            raise DataError(f"{error.filename or root} cannot be listed: {(error.strerror or '').lower()}") from error


@dataclass
class _Found:
    """What was listed so far.

    Attributes:
        labels: all folders that could name a class, those without photos too; the label and how it is spelled on disk.
        names: how many photos lie in each (first folder, last folder).
        deepest: the most folders that a photo lies in, counted from below the root.
        ungrouped: how many photos have no folder that could name their group.
    """

    levels: Levels
    entries: list[Entry] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    labels: dict[str, str] = field(default_factory=dict)
    names: Counter[tuple[str, str]] = field(default_factory=Counter)
    deepest: int = 0
    ungrouped: int = 0


def _list(root: Path, levels: Levels) -> Listing:
    folders, files = _children(root)
    sides = {f: side_of(f.name) for f in folders}
    found = _Found(levels)
    found.problems += [
        Problem(f, "lies beside the class folders, in none of them")
        for f in files
        if f.suffix.lower() in IMAGE_SUFFIXES
    ]
    if _is_split_layout(sides):
        there = sorted({side for side in sides.values() if side})
        _console.note(f"{root} has its own {'/, '.join(there)}/: kept as the split")
        for folder, side in sides.items():
            _list_classes(folder, side, found)
    else:
        _list_classes(root, None, found)
    _require_levels(root, found)
    empty = set(found.labels) - {entry.label for entry in found.entries}
    return Listing(tuple(found.entries), tuple(found.problems), tuple(sorted(empty)), _hint(found))


def _is_split_layout(sides: dict[Path, Side | None]) -> bool:
    """Only side names, train among them, and class folders below: a class that happens to be called 'test' is none."""
    if "train" not in sides.values() or len(sides) < 2 or None in sides.values():
        return False
    return all(_children(folder)[0] for folder in sides)


def _list_classes(root: Path, side: Side | None, found: _Found) -> None:
    folders = _children(root)[0]
    if not folders:
        raise DataError(
            f"{root} holds no folders; wanted one folder of photos for each class, "
            f"such as {root / 'cats'} and {root / 'dogs'}"
        )
    for folder in folders:
        for current, files, leaf in _walk(folder, found.problems):
            _add_folder(root, current, files, leaf, side, found)


def _add_folder(root: Path, folder: Path, files: list[Path], leaf: bool, side: Side | None, found: _Found) -> None:
    """Add the photos that lie in ``folder`` itself."""
    names = folder.relative_to(root).parts
    place, group_place = found.levels.label_place(len(names)), found.levels.group_place(len(names))
    if place is None:
        reason = f"lies in too few folders: its class is to be the name of folder number {found.levels.label_from}"
        found.problems += [Problem(file, reason) for file in files if file.suffix.lower() in IMAGE_SUFFIXES]
        found.deepest = max(found.deepest, len(names))
        return
    label = _nfc(names[place])
    if (files or leaf or found.levels.label_from != "last") and found.labels.setdefault(label, names[place]) != names[
        place
    ]:
        _console.warn(f"{root} has two folders called {label!r} in different Unicode forms: taken as one class")
    group = None if group_place is None else _nfc(names[group_place])
    found.entries += [Entry(file, label, side, group) for file in files]
    found.ungrouped += len(files) if group is None else 0
    found.deepest = max(found.deepest, len(names)) if files else found.deepest
    found.names[names[0], names[-1]] += len(files)


def _nfc(name: str) -> str:
    return unicodedata.normalize("NFC", os.fsencode(name).decode("utf-8", "replace"))


def _require_levels(root: Path, found: _Found) -> None:
    """Raise DataError where no photo lies as deep as the levels want; warn of those that have no group."""
    levels = found.levels
    if found.deepest and not found.entries:
        raise DataError(
            f"label_from {levels.label_from}: no photo in {root} lies in so many folders, at most in {found.deepest}; "
            f"type a lower number, first or last"
        )
    if levels.group_from and found.entries and found.ungrouped == len(found.entries):
        raise DataError(
            f"group_from {levels.group_from}: no photo in {root} has such a folder beside the one that names its "
            f"class; photos lie in at most {found.deepest} folders"
        )
    if levels.group_from and found.ungrouped:
        _console.warn(f"{found.ungrouped} of {len(found.entries)} photos have no folder that names their group")


def _hint(found: _Found) -> str:
    """Say so where the folders that hold the photos look like the classes: the same names under most first folders.

    ``class/camera/photo.jpg`` has the same shape, so that numbers tell: cameras and dates have them, classes do not.
    """
    if found.levels != Levels():
        return ""
    under: dict[str, set[str]] = {}
    for first, last in found.names:
        if first != last and found.names[first, last]:
            under.setdefault(last, set()).add(first)
    firsts = sorted({first for (first, _), count in found.names.items() if count})
    repeated = sorted(name for name, above in under.items() if len(above) >= max(min(2, len(firsts)), len(firsts) / 2))
    covered = sum(count for (first, last), count in found.names.items() if last in repeated and first != last)
    if len(repeated) < 2 or covered < 0.8 * found.names.total() or all(side_of(name) for name in repeated):
        return ""
    if _numbered(repeated) and not _numbered(firsts):
        return ""
    where = f"most of the {len(firsts)} folders ({_some(firsts)})" if len(firsts) > 1 else f"the folder {firsts[0]}"
    group = " --group-from first" if len(firsts) > 1 else ""
    return (
        f"{len(repeated)} names ({_some(repeated)}) stand for folders under {where}: if those are the classes, type "
        f"--label-from last{group}"
    )


def _numbered(names: list[str]) -> bool:
    return 2 * sum(any(c.isdigit() for c in name) for name in names) > len(names)


def _some(names: list[str]) -> str:
    return ", ".join(_nfc(name) for name in names[:3]) + (", …" if len(names) > 3 else "")


def _walk(folder: Path, problems: list[Problem]) -> Iterator[tuple[Path, list[Path], bool]]:
    """Yield each folder from ``folder`` down, links followed, loops not: its files, and whether it has no folders."""
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
        yield current, files, not folders
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
