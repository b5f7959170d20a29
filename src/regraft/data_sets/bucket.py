"""The source ``s3://BUCKET/FOLDER`` or ``gs://BUCKET/FOLDER``: photos or shards in an object store.

In: an address. Out: what the other sources list in a copy of the folder, which is kept in the cache.
Why: object stores hold the photos of many cameras, and a photo that was copied once need not be fetched again.
Surprise: only objects that are new or have changed are copied, and the copies of objects that are gone are deleted.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from regraft.config.levels import Levels
from regraft.errors import DataError
from regraft.foundation import console
from regraft.foundation.buckets import is_bucket, place_of, reached
from regraft.foundation.cache_files import writable_place
from regraft.foundation.files import digest_json, locked
from regraft.photos.images import Problem
from regraft.photos.sources.base import Layered, Listing, find_source

_AT_ONCE = 16  # objects that are copied at the same time: each waits for the store most of the time
_BLOCK = 2**20
_TICK_NS = 2_000_000_000  # stores tell the time of an object in seconds


class Bucket:
    """A folder in an object store, with whatever other sources list in a folder: class folders, or shards."""

    def accepts(self, spec: str) -> bool:
        """Return whether ``spec`` begins with ``s3://`` or ``gs://``."""
        return is_bucket(spec)

    def list(self, spec: str) -> Listing:
        """List the photos, with the first folder as the class. Raises DataError as `list_levels` does."""
        return self.list_levels(spec, Levels())

    def list_levels(self, spec: str, levels: Levels) -> Listing:
        """Copy what is new in the folder into the cache, and list the copy.

        Args:
            spec: the address of the folder, or of one file such as an archive or a table.
            levels: which folders name classes and groups.

        Raises:
            DataError: the store cannot be used, or there are no photos.
        """
        place, problems = self.copy(spec)
        source = find_source(str(place))
        listing = source.list_levels(str(place), levels) if isinstance(source, Layered) else source.list(str(place))
        return replace(listing, problems=(*problems, *listing.problems))

    def copy(self, spec: str) -> tuple[Path, Sequence[Problem]]:
        """Bring the copy of a folder or a file up to date; see `Copied.copy`."""
        return _copied(spec)


def _copied(spec: str) -> tuple[Path, list[Problem]]:
    from pyarrow import fs

    name = spec.partition("?")[0].rstrip("/")
    with reached(name, DataError):
        system, base = place_of(spec)
        [itself] = system.get_file_info([base])
        alone = itself.type == fs.FileType.File
        found = [itself] if alone else system.get_file_info(fs.FileSelector(base, recursive=True, allow_not_found=True))
    parent = base.rpartition("/")[0] if alone else base
    objects = {info.path[len(parent) :].lstrip("/"): info for info in found if info.type == fs.FileType.File}
    if not objects:
        raise DataError(f"there is nothing in {name}; wanted photos or shards")
    root = writable_place("unpacked", f"bucket-{digest_json(spec)[:16]}")
    with locked(root.with_suffix(".lock")):
        problems = _brought_up_to_date(system, objects, root, name)
    return root / itself.base_name if alone else root, problems


def _brought_up_to_date(system: Any, objects: Mapping[str, Any], root: Path, spec: str) -> list[Problem]:
    """Copy what is new or has changed, and delete what is gone. Return the objects that could not be copied."""
    unfit = {name for name in objects if not _is_fit(name)}
    problems = [Problem(Path(f"{spec}/{name}"), "a name that no file of the cache can have") for name in sorted(unfit)]
    todo = {name: info for name, info in objects.items() if name not in unfit and not _is_copied(root / name, info)}
    _require_room(root, sum(info.size for info in todo.values()), spec)
    with console.progress("copying", len(todo)) as advance, ThreadPoolExecutor(_AT_ONCE) as pool:
        names = sorted(todo)
        for name, reason in zip(names, pool.map(lambda n: _copy(system, todo[n], root / n), names), strict=True):
            if reason:
                problems.append(Problem(Path(f"{spec}/{name}"), reason))
            advance()
    for path in [path for path in root.rglob("*") if path.is_file()]:
        if path.relative_to(root).as_posix() not in objects:
            path.unlink(missing_ok=True)
    return problems


def _is_fit(name: str) -> bool:
    """Return whether an object's name is that of a file below the folder of the copy."""
    parts = name.split("/")
    return all(0 < len(os.fsencode(part)) < 256 and part not in (".", "..") and part.isprintable() for part in parts)


def _is_copied(path: Path, info: Any) -> bool:
    """Return whether a file is the copy of an object, by its size and its time."""
    try:
        found = path.stat()
    except OSError:
        return False
    return (found.st_size, found.st_mtime_ns) == (info.size, info.mtime_ns)


def _require_room(root: Path, size: int, spec: str) -> None:
    """Raise DataError where the disk of the cache has no room for what is copied."""
    root.mkdir(parents=True, exist_ok=True)
    if size > (free := shutil.disk_usage(root).free):
        raise DataError(
            f"{spec} has {size / 1e9:.1f} GB that are not in the cache, whose disk has room for {free / 1e9:.1f} GB; "
            "set REGRAFT_CACHE to a folder on a larger disk"
        )


def _copy(system: Any, info: Any, path: Path) -> str:
    """Copy one object. Return why that failed; empty if it did not.

    The copy is not flushed to the disk, as one that a power cut has damaged has another size and is copied again.
    """
    fresh = path.with_name(f".tmp-{os.urandom(8).hex()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with system.open_input_stream(info.path) as stream, fresh.open("wb") as file:
            for block in iter(partial(stream.read, _BLOCK), b""):
                file.write(block)
        if fresh.stat().st_size != info.size:
            return "changed while it was copied"
        # An object that was written just now may be written again within the same tick: it is copied again then.
        is_old = info.mtime_ns < time.time_ns() - _TICK_NS
        os.utime(fresh, ns=(info.mtime_ns, info.mtime_ns) if is_old else (0, 0))
        fresh.replace(path)
    except (OSError, ValueError) as error:
        return f"cannot be copied: {' '.join(str(error).split())[:300]}"
    finally:
        fresh.unlink(missing_ok=True)
    return ""
