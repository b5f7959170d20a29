"""A .zip or .tar of class folders, on disk or at an http(s) URL, unpacked once into the cache."""

from __future__ import annotations

import json
from pathlib import Path

from regraft._cache import writable_place
from regraft._fetch import fetch
from regraft._files import atomic_folder, digest_json, write_json
from regraft._unpack import kind_of, unpack
from regraft.images import Problem
from regraft.sources import Listing
from regraft.sources.folder import Folder

_PROBLEMS = ".regraft.json"


class Archive:
    """``flower_photos.tgz``: what is inside is read as a folder, and may lie in one folder more."""

    def accepts(self, spec: str) -> bool:
        """An http(s) URL, or an existing file that begins as an archive does."""
        if spec.startswith(("http://", "https://")):
            return True
        path = Path(spec).expanduser()
        return path.is_file() and kind_of(path) is not None

    def list(self, spec: str) -> Listing:
        """Download and unpack what is not in the cache, then list it. Raises DataError where that fails."""
        archive = fetch(spec) if spec.startswith(("http://", "https://")) else Path(spec).expanduser()
        status = archive.stat()
        key = digest_json([str(archive.resolve()), status.st_size, status.st_mtime_ns])
        folder = writable_place("unpacked", key[:16])
        if not (folder / _PROBLEMS).is_file():
            with atomic_folder(folder) as fresh:
                write_json(fresh / _PROBLEMS, unpack(archive, fresh))
        left_out = json.loads((folder / _PROBLEMS).read_text(encoding="utf-8"))
        listing = Folder().list(str(_root(folder)))
        problems = (*(Problem(archive / name, reason) for name, reason in left_out.items()), *listing.problems)
        return Listing(listing.entries, problems, listing.empty_classes)


def _root(folder: Path) -> Path:
    """The folder of class folders: below those that hold nothing but one folder of folders."""
    while True:
        folders = [p for p in folder.iterdir() if p.is_dir() and not p.name.startswith((".", "__MACOSX"))]
        if len(folders) != 1 or not any(p.is_dir() for p in folders[0].iterdir()):
            return folder
        folder = folders[0]
