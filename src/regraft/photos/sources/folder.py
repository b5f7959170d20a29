"""The source for a folder of class folders, which may have its own split into ``train/``, ``val/`` and ``test/``."""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from regraft.config.levels import Levels
from regraft.errors import DataError, option
from regraft.foundation import console
from regraft.photos.images import Problem
from regraft.photos.sources.base import Entry, Listing, Side, side_of

# Names of files and folders that operating systems and storage devices make.
_JUNK = {"thumbs.db", "desktop.ini", "icon\r", "__macosx", "@eadir"}
IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".heic", ".heif"}


class Folder:
    """A folder with photos such as ``photos/cats/1.jpg``.

    By default, the first folder under the root names the class, also for photos in deeper folders.
    """

    def accepts(self, spec: str) -> bool:
        """Return whether ``spec`` is an existing folder."""
        return Path(spec).expanduser().is_dir()

    def list(self, spec: str) -> Listing:
        """List the photos, with the first folder as the class. Raises DataError as `list_levels` does."""
        return self.list_levels(spec, Levels())

    def list_levels(self, spec: str, levels: Levels) -> Listing:
        """List the photos of a folder.

        Args:
            spec: the path of the folder.
            levels: which folders name classes and groups.

        Raises:
            DataError: there are no class folders, no photo lies in as many folders as ``levels`` demands, or a folder
                cannot be listed.
        """
        root = Path(spec).expanduser()
        try:
            return _list(root, levels)
        except OSError as error:
            raise DataError(f"{error.filename or root} cannot be listed: {(error.strerror or '').lower()}") from error


@dataclass
class _Found:
    """The photos that have been found so far.

    Attributes:
        levels: which folders name classes and groups.
        entries: the photos.
        problems: the files that were left out, with the reasons.
        labels: the folder name on disk of each label, including labels without photos.
        names: the number of photos by (first folder, last folder).
        deepest: the greatest number of folders below the root in which a photo lies.
        ungrouped: the number of photos without a folder that could name their group.
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
        console.note(f"{root} has its own {'/, '.join(there)}/: kept as the split")
        for folder, side in sides.items():
            _list_classes(folder, side, found)
    else:
        _list_classes(root, None, found)
    _require_levels(root, found)
    empty = set(found.labels) - {entry.label for entry in found.entries}
    return Listing(tuple(found.entries), tuple(found.problems), tuple(sorted(empty)), _hint(found))


def _is_split_layout(sides: dict[Path, Side | None]) -> bool:
    """Return whether the folders are the sides of a split.

    They are if all have names of sides, train is one of them, and each has class folders. Otherwise a folder called
    ``test`` is a class.
    """
    if "train" not in sides.values() or len(sides) < 2 or None in sides.values():
        return False
    return all(_children(folder)[0] for folder in sides)


def _list_classes(root: Path, side: Side | None, found: _Found) -> None:
    """Add the photos in the class folders of ``root``. Raises DataError if there are no class folders."""
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
    """Add the photos that lie directly in ``folder``. ``leaf`` says whether the folder has no subfolders."""
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
        console.warn(f"{root} has two folders called {label!r} in different Unicode forms: taken as one class")
    group = None if group_place is None else _nfc(names[group_place])
    found.entries += [Entry(file, label, side, group) for file in files]
    found.ungrouped += len(files) if group is None else 0
    found.deepest = max(found.deepest, len(names)) if files else found.deepest
    found.names[names[0], names[-1]] += len(files)


def _nfc(name: str) -> str:
    return unicodedata.normalize("NFC", os.fsencode(name).decode("utf-8", "replace"))


def _require_levels(root: Path, found: _Found) -> None:
    """Raise DataError if no photo lies in as many folders as the levels demand; warn of photos without a group."""
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
        console.warn(f"{found.ungrouped} of {len(found.entries)} photos have no folder that names their group")


def _hint(found: _Found) -> str:
    """Return advice for the user if the last folders, not the first ones, look like the classes; else an empty text.

    They do if the same names occur under most of the first folders. But ``class/camera/photo.jpg`` has the same form.
    So if most of the repeated names contain digits, as cameras and dates do, and most first names do not, there is no
    advice.
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
    group = f" {option('group_from', 'first')}" if len(firsts) > 1 else ""
    return (
        f"{len(repeated)} names ({_some(repeated)}) stand for folders under {where}: if those are the classes, type "
        f"{option('label_from', 'last')}{group}"
    )


def _numbered(names: list[str]) -> bool:
    """Return whether most of the names contain a digit."""
    return 2 * sum(any(c.isdigit() for c in name) for name in names) > len(names)


def _some(names: list[str]) -> str:
    """Return the first three names as a list for a message."""
    return ", ".join(_nfc(name) for name in names[:3]) + (", …" if len(names) > 3 else "")


def _walk(folder: Path, problems: list[Problem]) -> Iterator[tuple[Path, list[Path], bool]]:
    """Yield ``folder`` and all folders below: the path, the files, and whether there are no subfolders.

    Links are followed, but each folder is listed only once. Folders that cannot be listed are added to ``problems``.
    """
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
    """Return the subfolders and the files of ``folder``, sorted by name, without hidden and system files."""
    folders: list[Path] = []
    files: list[Path] = []
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        if not entry.name.startswith(".") and not is_junk(entry.name):
            (folders if _is_folder(entry) else files).append(folder / entry.name)
    return folders, files


def is_junk(name: str) -> bool:
    """Return whether systems give this name to files or folders of their own, which are never photos or classes."""
    return name.lower() in _JUNK


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # such as a link that leads to itself; the error comes when it is read
        return False
