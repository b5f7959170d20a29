"""Read and write files in the cache folder, each with a checksum.

Every cache file is checked before it is used. Where the cache folder cannot be written, the work goes on without it.

The checksum is a CRC-32. It finds the damage done by disks, copying and killed processes. It does not protect against
a deliberate change, since whoever changes the data can also write a matching CRC. The CRC-32 of zlib takes 3 ms for
the 14 MB of a graph, and needs no extra import.
A damaged file is moved aside with a warning, and the caller computes its content again.
"""

from __future__ import annotations

import errno
import json
import mmap
import os
import shutil
import stat
import struct
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regraft.errors import BackboneError, RegraftError
from regraft.foundation import console
from regraft.foundation.files import CacheKind, atomic_file, cache_folder, scratch_folder, shelter_in, write_json

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_TRAILER = struct.Struct("<8sQI")
"""The end of a sealed file: the magic bytes, the length of the data in bytes, and the CRC-32 of the data."""
_MAGIC = b"regraft1"
_FREE_MEBIBYTES = 64
"""Free disk space, in MiB, that must be left after a folder could not be made. Otherwise the disk counts as full."""

_warned: set[Path] = set()
"""The cache folders for which `tell_unwritable` has already warned in this process."""
_own_folders: dict[Path, Path] = {}
"""Maps a folder of the cache that could not be written to the temporary folder that this process uses instead."""


def crc32(*buffers: ReadableBuffer) -> str:
    """Return the CRC-32 of the concatenated bytes of ``buffers``, as 8 hexadecimal digits."""
    value = 0
    for buffer in buffers:
        value = zlib.crc32(buffer, value)
    return f"{value:08x}"


def set_aside(path: Path, reason: str) -> None:
    """Rename a damaged file or folder to its name up to the first full stop and ``.damaged``, and warn the user.

    Args:
        path: the damaged file or folder.
        reason: what is wrong with it, for the warning.
    """
    aside, done = path.with_name(f"{path.name.partition('.')[0]}.damaged"), "passed over"
    with suppress(OSError):  # another process may have moved it first, or the folder is read-only
        if aside.is_dir():
            shutil.rmtree(aside)
        path.replace(aside)
        done = "set aside"
    console.warn(f"a damaged cache file is {done}, and computed again: {path} ({reason})")


def require_regular(path: Path) -> None:
    """Raise OSError unless ``path`` is a regular file.

    To read a folder fails with an unclear error, and to read a pipe or a device may never end.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(errno.EINVAL, "it is no regular file", str(path))


@contextmanager
def saving() -> Iterator[None]:
    """Turn an OSError raised inside the ``with`` block into one warning that the cache cannot be written.

    Use it around code that adds something to the cache: the work goes on without the cached result.
    """
    try:
        yield
    except OSError as error:
        tell_unwritable(error)


def tell_unwritable(error: OSError) -> None:
    """Warn that a result could not be cached. The warning appears once per process and cache folder."""
    folder = cache_folder()
    if folder not in _warned:
        _warned.add(folder)
        reason = os.strerror(error.errno) if error.errno else str(error)  # pyarrow's own text has several lines
        console.warn(f"not everything is cached: {folder} cannot be written ({reason.lower()})")


def write_value(path: Path, value: Any) -> None:
    """Write a JSON value and its checksum to a file of the cache; warn if the file cannot be written."""
    with saving(), atomic_file(path) as temporary:
        write_json(temporary, {"crc32": crc32(_canonical(value)), "value": value})


def read_value(path: Path) -> Any:
    """Return the JSON value that `write_value` wrote to ``path``.

    Returns:
        The value; None if the file is missing, or was damaged and has been moved aside.
    """
    try:
        require_regular(path)
        found = json.loads(path.read_bytes())
        if found["crc32"] == crc32(_canonical(found["value"])):
            return found["value"]
        reason = "it has not the checksum it was written with"
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        reason = str(error) or type(error).__name__
    set_aside(path, reason)
    return None


def _canonical(value: Any) -> bytes:
    """Return ``value`` as JSON bytes with sorted keys, so that equal values have equal checksums."""
    return json.dumps(value, sort_keys=True).encode("ascii")


def write_sealed(path: Path, data: ReadableBuffer) -> None:
    """Write bytes to a file of the cache, followed by a trailer; warn if the file cannot be written.

    The trailer holds the length and the checksum of the data. `map_sealed` reads such a file.
    """
    with saving():
        seal(path, data)


def seal(path: Path, data: ReadableBuffer) -> None:
    """Do as `write_sealed` does, without a warning. Raises OSError if the file cannot be written."""
    with atomic_file(path) as temporary, temporary.open("wb") as file:
        file.write(data)
        file.write(_TRAILER.pack(_MAGIC, memoryview(data).nbytes, zlib.crc32(data)))


def map_sealed(path: Path) -> memoryview | None:
    """Return the bytes that `write_sealed` wrote to ``path``, mapped into memory.

    A mapped file is not copied, and processes share its memory. A cache file is never changed in place, so that the
    data stays as it was when the checksum was checked.

    Returns:
        The data without the trailer; None if the file is missing, or was damaged and has been moved aside.
    """
    try:
        require_regular(path)
        with path.open("rb") as file:
            mapped = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:  # an empty file cannot be mapped
        set_aside(path, str(error))
        return None
    size = max(0, len(mapped) - _TRAILER.size)
    if mapped[size:] == _TRAILER.pack(_MAGIC, size, zlib.crc32(mapped[:size])):
        return mapped[:size]
    set_aside(path, "it has not the checksum it was written with")
    return None


def writable_place(kind: CacheKind, name: str) -> Path:
    """Return the path at which the file or folder ``name`` of the cache exists or can be written.

    Args:
        kind: the kind of cache content, which is also the name of its subfolder.
        name: the name of the file or folder within the subfolder.

    Returns:
        The path in the cache if ``name`` exists there or can be written there. Otherwise, after a warning, a path in
        a temporary folder of this process.
    """
    place = cache_folder(kind) / name
    if place.exists():
        return place
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=place.parent).close()
    except OSError as error:
        tell_unwritable(error)
        return scratch_folder() / kind / name
    return place


def kept_folder(kind: CacheKind, name: str, damage: Callable[[Path], str | None], make: Callable[[Path], None]) -> Path:
    """Return a cache folder of several files that belong together; make the folder first if it is missing or damaged.

    A folder that is in use is never replaced: if two processes make the same folder, the first one stays. If the cache
    cannot be written, the folder is made in a temporary folder of this process, which is deleted when the process ends.

    Args:
        kind: the kind of cache content, which is also the name of its subfolder.
        name: the name of the folder within the subfolder.
        damage: returns what is wrong with a folder, or None if the folder is intact.
        make: fills an empty folder, or raises RegraftError.

    Raises:
        RegraftError: ``make`` raised it.
        BackboneError: neither the cache nor a temporary folder can be written.
    """
    place = cache_folder(kind) / name
    for folder in filter(None, (place, _own_folders.get(place))):
        if folder.is_dir():
            reason = damage(folder)
            if reason is None:
                return folder
            set_aside(folder, reason)
    try:
        return _publish(place, damage, make)
    except OSError as error:
        tell_unwritable(error)
    try:
        _own_folders[place] = _publish(scratch_folder() / kind / name, damage, make)
    except OSError as error:
        raise BackboneError(f"{name} can be written neither to {place.parent} nor to a temporary folder") from error
    return _own_folders[place]


def _publish(place: Path, damage: Callable[[Path], str | None], make: Callable[[Path], None]) -> Path:
    """Make a folder in a temporary folder beside ``place``, then rename the new folder to ``place``.

    Raises:
        OSError: the folder cannot be written.
    """
    with shelter_in(place.parent) as shelter:
        fresh = shelter / "new"
        fresh.mkdir()
        try:
            make(fresh)
        except RegraftError:
            _require_room(fresh)  # on a full disk, ``make`` often reports some other error
            raise
        try:
            fresh.rename(place)
        except OSError:  # another process may have made an intact folder first; then that one is used
            if not place.is_dir() or damage(place) is not None:
                raise
    return place


def _require_room(folder: Path) -> None:
    """Raise OSError if the disk of ``folder`` is full.

    The test writes a file that is `_FREE_MEBIBYTES` larger than the largest file in the folder.
    """
    largest = max((path.lstat().st_size for path in folder.rglob("*")), default=0)
    with (folder / ".room").open("wb") as file:
        for _ in range(largest // 2**20 + _FREE_MEBIBYTES):
            file.write(bytes(2**20))
