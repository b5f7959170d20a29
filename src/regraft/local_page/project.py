"""A project that begins with nothing: a folder with photos in class folders, and the runs that were trained on them.

In: a folder, and what the user does on the page. Out: photos on the disk, of which none is lost.
Why: a beginner makes a classifier without a command line, and finds ordinary folders of photos afterwards.
Surprise: nothing is deleted. Photos and classes that are removed lie in the folder ``removed``. No path comes from a
request: classes and photos are found by comparing their names with those on the disk.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

from regraft.classifiers.run_folder import is_run
from regraft.errors import ConfigError, RegraftError
from regraft.foundation.file_names import is_name_on_windows
from regraft.foundation.files import atomic_file, digest_bytes
from regraft.photos.images import decode
from regraft.photos.sources.base import flaw_of_label
from regraft.photos.sources.folder import IMAGE_SUFFIXES, is_junk

PHOTOS, RUNS, REMOVED = "photos", "runs", "removed"

MOST_CLASSES = 500
"""The most classes of a project."""

MOST_PHOTOS = 50_000
"""The most photos of a class."""

LONGEST_NAME = 80
"""The greatest number of characters in the name of a class."""

_DIGEST = re.compile(r"[0-9a-f]{64}")


class ProjectError(RegraftError):
    """What the user wants to do in a project cannot be done.

    Attributes:
        code: the reason as a key, by which the page finds a sentence in the user's language.
        values: the values in the sentence.
    """

    def __init__(self, code: str, message: str, **values: str | int) -> None:
        super().__init__(message)
        self.code: str = code
        self.values: dict[str, str | int] = values


@dataclass(frozen=True, slots=True)
class ClassFolder:
    """A class of a project.

    Attributes:
        name: the name, in Unicode NFC.
        path: the folder.
        photos: the path of each photo by its id (64 hexadecimal digits), the newest photo first.
    """

    name: str
    path: Path
    photos: dict[str, Path]


class Project:
    """A project. Any thread may call its methods.

    Args:
        folder: the folder, which is made if it is missing.

    Raises:
        ConfigError: the folder holds something else, or cannot be made.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder.absolute()
        self._lock = Lock()
        self._index: dict[str, Path] = {}
        try:
            if folder.exists() and not (folder / PHOTOS).is_dir() and any(folder.iterdir()):
                raise ConfigError(f"{folder} is there and is no project; type --new with the folder of a new project")
            for name in (PHOTOS, RUNS):
                (folder / name).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"{folder} cannot be a project: {(error.strerror or str(error)).lower()}") from error

    @property
    def name(self) -> str:
        """The name of the model in addresses: that of the folder, without characters that an address cannot have."""
        return (
            re.sub(r"[\\/\s%?#:\x00-\x1f\x7f]+", "-", unicodedata.normalize("NFC", self._folder.name))[:100].strip(".-")
            or "project"
        )

    @property
    def photos(self) -> Path:
        """The folder of class folders."""
        return self._folder / PHOTOS

    @property
    def runs(self) -> Path:
        """The folder of runs, which are named by numbers from 1."""
        return self._folder / RUNS

    def trained(self) -> tuple[int, ...]:
        """Return the numbers of the runs that are complete, in ascending order."""
        return tuple(sorted(int(one.name) for one in self.runs.iterdir() if one.name.isdecimal() and is_run(one)))

    def next_run(self) -> Path:
        """Return the path of the next run."""
        numbers = [int(one.name) for one in self.runs.iterdir() if one.name.isdecimal()]
        return self.runs / str(max(numbers, default=0) + 1)

    def classes(self) -> list[ClassFolder]:
        """Return all classes, sorted by name. Raises ProjectError where the folder cannot be read."""
        with _named_errors():
            folders = [one for one in self.photos.iterdir() if one.is_dir() and not one.name.startswith(".")]
            found = [ClassFolder(_nfc(one.name), one, _photos_in(one)) for one in folders]
        self._index = {identity: path for one in found for identity, path in one.photos.items()}
        return sorted(found, key=lambda one: one.name)

    def photo(self, identity: str) -> Path | None:
        """Return the path of a photo by its id; None where the project has no such photo."""
        if identity not in self._index:
            self.classes()
        return self._index.get(identity)

    def add_class(self, name: str) -> str:
        """Make an empty class, and return its name in Unicode NFC. Raises ProjectError."""
        with self._lock, _named_errors():
            name = self._fit_name(name)
            if len(self.classes()) >= MOST_CLASSES:
                raise ProjectError("many_classes", f"there are {MOST_CLASSES} classes already", most=MOST_CLASSES)
            (self.photos / name).mkdir()
        return name

    def rename_class(self, old: str, new: str) -> str:
        """Give a class another name, and return that name in Unicode NFC. Raises ProjectError."""
        with self._lock, _named_errors():
            found = self._class(old)
            new = self._fit_name(new, found.name)
            found.path.rename(self.photos / new)
        return new

    def remove_class(self, name: str) -> None:
        """Move a class with its photos to the folder ``removed``. Raises ProjectError."""
        with self._lock, _named_errors():
            found = self._class(name)
            removed = self._folder / REMOVED
            removed.mkdir(exist_ok=True)
            others = (removed / f"{found.path.name}-{i}" for i in range(2, 10**6))
            place = removed / found.path.name
            while place.exists():
                place = next(others)
            found.path.rename(place)

    def add_photo(self, label: str, data: bytes, file_name: str) -> tuple[str, str]:
        """Copy a photo into a class. The photo is on the disk when this returns, also after a power cut.

        Args:
            label: the name of the class.
            data: the bytes of the photo's file.
            file_name: the name of the user's file, of which only a known suffix is kept.

        Returns:
            The id of the photo, and the name of the class in which it was before; empty for a new photo.

        Raises:
            ImageError: the bytes are no photo that can be read.
            ProjectError: there is no such class, or the photo cannot be written.
        """
        decode(data, 64)
        identity = digest_bytes(data)
        suffix = Path(file_name).suffix.lower()
        with self._lock, _named_errors():
            found = self._class(label)
            if known := self._index.get(identity):
                return identity, _nfc(known.parent.name)
            if len(found.photos) >= MOST_PHOTOS:
                raise ProjectError("many_photos", f"{label} has {MOST_PHOTOS} photos already", most=MOST_PHOTOS)
            path = found.path / f"{identity}{suffix if suffix in IMAGE_SUFFIXES else '.jpg'}"
            with atomic_file(path) as fresh:
                fresh.write_bytes(data)
            self._index[identity] = path
        return identity, ""

    def remove_photo(self, identity: str) -> None:
        """Move a photo to the folder ``removed``. Raises ProjectError where there is no such photo."""
        with self._lock, _named_errors():
            self.classes()
            path = self._index.pop(identity, None)
            if path is None:
                raise ProjectError("no_photo", "the photo is not there any more")
            place = self._folder / REMOVED / path.parent.name
            place.mkdir(parents=True, exist_ok=True)
            path.replace(place / path.name)

    def _class(self, name: str) -> ClassFolder:
        name = _nfc(name)
        found = next((one for one in self.classes() if one.name == name), None)
        if found is None:
            raise ProjectError("no_class", f"there is no class {name!r}", name=name)
        return found

    def _fit_name(self, text: str, old: str = "") -> str:
        """Return a text as the name of a class other than ``old``. Raises ProjectError where it cannot be one."""
        name = _nfc(text).strip()
        flaw = flaw_of_label(name)
        if flaw or len(name) > LONGEST_NAME or len(os.fsencode(name)) > 3 * LONGEST_NAME:
            raise ProjectError("name_length", f"the name {flaw or 'is too long'}", most=LONGEST_NAME)
        if name.startswith(".") or not is_name_on_windows(name) or is_junk(name):
            raise ProjectError("name_characters", f"no folder can have the name {name!r}", name=name)
        taken = next(
            (one for one in self.classes() if one.name != old and one.name.casefold() == name.casefold()), None
        )
        if taken or name == old:
            raise ProjectError("name_taken", f"there is a class {name!r} already", name=name)
        return name


def to_dict(classes: list[ClassFolder], most: int) -> list[dict[str, Any]]:
    """Return classes as JSON values, each with the ids of its newest photos, of which at most ``most``."""
    return [{"name": one.name, "count": len(one.photos), "photos": list(one.photos)[:most]} for one in classes]


def _photos_in(folder: Path) -> dict[str, Path]:
    """Return the photos of a class folder by their ids, the newest first.

    The id is the digest in the name of the file; for a file that the user put there, that of its name.
    """
    with os.scandir(folder) as entries:
        files = [entry for entry in entries if Path(entry.name).suffix.lower() in IMAGE_SUFFIXES and entry.is_file()]
        files.sort(key=lambda entry: (-entry.stat().st_mtime_ns, entry.name))
    paths = [folder / entry.name for entry in files if not entry.name.startswith(".")]
    return {_identity(path): path for path in paths}


def _identity(path: Path) -> str:
    if _DIGEST.fullmatch(path.stem):
        return path.stem
    return digest_bytes(os.fsencode(f"{path.parent.name}/{path.name}"))


def _nfc(text: str) -> str:
    return unicodedata.normalize("NFC", text)


@contextmanager
def _named_errors() -> Iterator[None]:
    """Turn an OSError of the ``with`` block into a ProjectError, which names no path of this machine."""
    try:
        yield
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise ProjectError("disk", f"the folder of the project cannot be used: {reason}", reason=reason) from error
