"""What is kept in the cache folder: checked before it is believed, and done without where it cannot be written.

A CRC-32 stands with everything. It finds what disks, copying and killed processes do to a file, though not what
somebody does on purpose, who could as well write another CRC. zlib's takes 3 ms for the 14 MB of a graph and costs no
import.
What is damaged is set aside with a warning, and whoever asked for it computes it again.
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

from regraft import _console
from regraft._files import CacheKind, atomic_file, cache_folder, scratch_folder, shelter_in, write_json
from regraft.errors import BackboneError, RegraftError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_TRAILER = struct.Struct("<8sQI")
_MAGIC = b"regraft1"
_ROOM = 64
"""Mebibytes that must be free where a folder could not be made; otherwise it is made elsewhere: in vain, at worst."""

_told: set[Path] = set()
_own_folders: dict[Path, Path] = {}
"""For folders of the cache that could not be written there: where they are instead, in this process."""


def crc32(*buffers: ReadableBuffer) -> str:
    """CRC-32 of the bytes of ``buffers``, one after the other, as 8 hexadecimal digits."""
    value = 0
    for buffer in buffers:
        value = zlib.crc32(buffer, value)
    return f"{value:08x}"


def set_aside(path: Path, reason: str) -> None:
    """Move a damaged file or folder out of the way, to the same name with the suffix .damaged, and warn of it."""
    aside, done = path.with_name(f"{path.name.partition('.')[0]}.damaged"), "passed over"
    with suppress(OSError):  # another process may have moved it first, or the folder is read-only
        if aside.is_dir():
            shutil.rmtree(aside)
        path.replace(aside)
        done = "set aside"
    _console.warn(f"a damaged cache file is {done}, and computed again: {path} ({reason})")


def require_regular(path: Path) -> None:
    """Raise OSError where ``path`` is a folder, a pipe or a device: reading those would fail oddly or never end."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(errno.EINVAL, "it is no regular file", str(path))


@contextmanager
def saving() -> Iterator[None]:
    """Within it something is added to the cache. Where that cannot be written, the work goes on, with one warning."""
    try:
        yield
    except OSError as error:
        tell_unwritable(error)


def tell_unwritable(error: OSError) -> None:
    """Warn that something could not be cached; once a process, whatever else fails later."""
    folder = cache_folder()
    if folder not in _told:
        _told.add(folder)
        reason = os.strerror(error.errno) if error.errno else str(error)  # pyarrow's own text has several lines
        _console.warn(f"not everything is cached: {folder} cannot be written ({reason.lower()})")


def write_value(path: Path, value: Any) -> None:
    """Keep a JSON value in a file of the cache, if that can be written."""
    with saving(), atomic_file(path) as temporary:
        write_json(temporary, {"crc32": crc32(_canonical(value)), "value": value})


def read_value(path: Path) -> Any:
    """What `write_value` wrote; None where the file is not there, or was damaged and is now set aside."""
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
    return json.dumps(value, sort_keys=True).encode("ascii")


def write_sealed(path: Path, data: ReadableBuffer) -> None:
    """Keep bytes in a file of the cache, if that can be written: they come first, their length and checksum last."""
    with saving(), atomic_file(path) as temporary, temporary.open("wb") as file:
        file.write(data)
        file.write(_TRAILER.pack(_MAGIC, memoryview(data).nbytes, zlib.crc32(data)))


def map_sealed(path: Path) -> memoryview | None:
    """What `write_sealed` wrote; None where the file is not there, or was damaged and is now set aside.

    The file is mapped: nothing is copied, and processes share the memory. No file of the cache is ever changed in
    place, so that what was checked stays as it is.
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
    """Where the file or folder ``name`` is kept, or can be: in the cache, or in a temporary folder of this process.

    That takes its place, with a warning, where there is no ``name`` in the cache yet and none can be written.
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
    """A folder of several files that belong together: as it was kept, or made and then kept.

    A folder that is in use is never replaced: where two processes make the same one, that of the first stays. Where the
    cache cannot be written, the folder is one of this process alone, which goes when it ends.

    Args:
        kind: of what.
        name: of the folder.
        damage: says what is wrong with a folder, None for nothing.
        make: fills an empty folder, or raises RegraftError.

    Raises:
        RegraftError: what ``make`` raises.
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
    """Make a folder in a shelter beside ``place`` and give it that name. Raises OSError where it cannot be written."""
    with shelter_in(place.parent) as shelter:
        fresh = shelter / "new"
        fresh.mkdir()
        try:
            make(fresh)
        except RegraftError:
            _require_room(fresh)  # whoever failed for want of it mostly says something else
            raise
        try:
            fresh.rename(place)
        except OSError:
            if not place.is_dir() or damage(place) is not None:
                raise
    return place


def _require_room(folder: Path) -> None:
    """Raise OSError where a file larger than those in ``folder``, and than most networks, cannot be written there."""
    largest = max((path.lstat().st_size for path in folder.rglob("*")), default=0)
    with (folder / ".room").open("wb") as file:
        for _ in range(largest // 2**20 + _ROOM):
            file.write(bytes(2**20))
