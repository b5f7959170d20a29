"""The source for a .zip or .tar of class folders, on disk or at an http(s) URL. It is unpacked once into the cache."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from regraft.config.levels import Levels
from regraft.downloads.address import is_url
from regraft.downloads.fetching import fetch, forget
from regraft.downloads.unpacking import BadArchiveError, kind_of, unpack
from regraft.errors import DataError
from regraft.foundation.cache_files import writable_place
from regraft.foundation.files import atomic_folder, digest_json, locked, write_json
from regraft.photos.images import Problem
from regraft.photos.sources.base import Listing
from regraft.photos.sources.folder import Folder

# The unpacked photos are in a separate folder, so that no member of the archive can overwrite the list of problems.
_PHOTOS, _PROBLEMS = "photos", "problems.json"


class Archive:
    """An archive such as ``flower_photos.tgz``, whose class folders may lie inside further folders."""

    def accepts(self, spec: str) -> bool:
        """Return whether ``spec`` is an http(s) URL, or an existing file with the content of an archive."""
        if is_url(spec):
            return True
        path = Path(spec).expanduser()
        return path.is_file() and kind_of(path) is not None

    def list(self, spec: str) -> Listing:
        """List the photos, with the first folder as the class. Raises DataError as `list_levels` does."""
        return self.list_levels(spec, Levels())

    def list_levels(self, spec: str, levels: Levels) -> Listing:
        """List the photos of an archive, which is downloaded and unpacked first if it is not in the cache.

        Args:
            spec: the path or the URL of the archive.
            levels: which folders name classes and groups.

        Raises:
            DataError: the archive cannot be downloaded, unpacked or listed. A download that cannot be unpacked is
                deleted, so that the next call downloads it again.
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
    """Return the folder of the unpacked photos in the cache, and why entries were left out, by their names."""
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
    """Return why entries were left out when ``folder`` was unpacked; None if it is not unpacked, or is damaged."""
    try:
        found = json.loads((folder / _PROBLEMS).read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    whole = isinstance(found, dict) and all(isinstance(why, str) for why in found.values())
    return found if whole and (folder / _PHOTOS).is_dir() else None


def _root(folder: Path) -> Path:
    """Return the folder that holds the class folders, below any folders that hold only one folder of folders."""
    while True:
        folders = [p for p in folder.iterdir() if p.is_dir() and not p.name.startswith((".", "__MACOSX"))]
        if len(folders) != 1 or not any(p.is_dir() for p in folders[0].iterdir()):
            return folder
        folder = folders[0]
