"""A .zip or .tar of class folders, on disk or at an http(s) URL, unpacked once into the cache."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from regraft._address import is_url
from regraft._cache import writable_place
from regraft._fetch import fetch, forget
from regraft._files import atomic_folder, digest_json, locked, write_json
from regraft._levels import Levels
from regraft._unpack import BadArchiveError, kind_of, unpack
from regraft.errors import DataError
from regraft.images import Problem
from regraft.sources import Listing
from regraft.sources.folder import Folder

# What is unpacked lies in a folder of its own, so that no member can have the name of the list of problems.
_PHOTOS, _PROBLEMS = "photos", "problems.json"


class Archive:
    """``flower_photos.tgz``: what is inside is read as a folder, and may lie in one folder more."""

    def accepts(self, spec: str) -> bool:
        """An http(s) URL, or an existing file that begins as an archive does."""
        if is_url(spec):
            return True
        path = Path(spec).expanduser()
        return path.is_file() and kind_of(path) is not None

    def list(self, spec: str) -> Listing:
        """`list_levels`, with classes named by the first folder. Raises DataError."""
        return self.list_levels(spec, Levels())

    def list_levels(self, spec: str, levels: Levels) -> Listing:
        """Download and unpack what is not in the cache, then list it.

        Raises:
            DataError: one of these fails. A download that cannot be unpacked is dropped, so that the next one may.
        """
        archive = fetch(spec) if is_url(spec) else Path(spec).expanduser()
        try:
            folder, left_out = _unpacked(archive)
        except BadArchiveError as error:
            if is_url(spec):
                forget(archive)
                raise DataError(f"{error}; the download was thrown away") from error
            raise
        root = _root(folder)
        if not any(path.is_dir() for path in root.iterdir()):
            first = next((f"; left out: {name}: {why}" for name, why in left_out.items()), "")
            raise DataError(f"{archive} holds no folders; wanted one folder of photos for each class{first}")
        listing = Folder().list_levels(str(root), levels)
        problems = (*(Problem(Path(f"{archive}/{name}"), why) for name, why in left_out.items()), *listing.problems)
        return replace(listing, problems=problems)


def _unpacked(archive: Path) -> tuple[Path, dict[str, str]]:
    """The folder in the cache that holds what the archive did, and for each entry that was left out, why."""
    try:
        status = archive.stat()
        key = digest_json([str(archive.resolve()), status.st_size, status.st_mtime_ns])
        folder = writable_place("unpacked", key[:16])
        with locked(folder.with_suffix(".lock")):
            if (left_out := _problems(folder)) is None:
                with atomic_folder(folder) as fresh:
                    (fresh / _PHOTOS).mkdir()
                    left_out = unpack(archive, fresh / _PHOTOS)
                    write_json(fresh / _PROBLEMS, left_out)
    except OSError as error:
        raise DataError(f"{archive} cannot be unpacked into the cache: {error.strerror or error}") from error
    return folder / _PHOTOS, left_out


def _problems(folder: Path) -> dict[str, str] | None:
    """What was left out when ``folder`` was unpacked; None where it was not, or what was written of it is damaged."""
    try:
        found = json.loads((folder / _PROBLEMS).read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    whole = isinstance(found, dict) and all(isinstance(why, str) for why in found.values())
    return found if whole and (folder / _PHOTOS).is_dir() else None


def _root(folder: Path) -> Path:
    """The folder of class folders: below those that hold nothing but one folder of folders."""
    while True:
        folders = [p for p in folder.iterdir() if p.is_dir() and not p.name.startswith((".", "__MACOSX"))]
        if len(folders) != 1 or not any(p.is_dir() for p in folders[0].iterdir()):
            return folder
        folder = folders[0]
