"""The index of the files that were read before: a file that is still the same is not read again for its digest.

In: the entries of a source. Out: the content digests of those whose files have not changed since they were read.
Why: to read 100,000 photos of a phone takes an hour, and to ask the operating system about them takes seconds.
Surprise: a file that changed less than `RACY_SECONDS` before it was read is read again the next time. Within one tick
of a file system's clock a second change leaves everything that the operating system tells as it was. Source: the index
of git, which calls such entries racy (https://git-scm.com/docs/racy-git).
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from hashlib import blake2b
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from regraft.foundation.cache_files import map_sealed, seal, set_aside
from regraft.foundation.files import cache_folder, digest_bytes
from regraft.photos.sources.base import Entry

RACY_SECONDS = 2.0
"""The longest tick, in seconds, of the clock of a file system: that of FAT. The kernels of other systems tick faster
than a hundred times a second."""

_ROW = np.dtype([("key", "<u8", 2), ("facts", "<i8", 5), ("digest", "u1", 32)])
"""A row of the file: half of the digest of the path; what the operating system tells of the file; and its digest."""


_verifies: ContextVar[bool] = ContextVar("verifies", default=False)


class StatIndex:
    """The content digests of the files of one source, with the facts that each file had when it was read.

    The facts are the size, the time of the last change of the content, the time of the last change of the content or
    of the facts (on Windows the time of creation), the inode and the device. The index is one file in the cache, which
    is replaced as a whole. If two processes replace it at the same time, some files are read again later.

    Args:
        spec: the source, as the user typed it. Each source has an index of its own.
    """

    def __init__(self, spec: str) -> None:
        self._path = _path_of(spec)
        self._rows = np.zeros(0, _ROW) if _verifies.get() else _read(self._path)
        self._found = np.zeros(0, _ROW)
        self._keeps = np.zeros(0, bool)

    def look_up(self, entries: Sequence[Entry]) -> list[str | None]:
        """Return the content digest of each entry's file or part of a file; None where it has to be read.

        The digest is that of the bytes, without the box of a part. No file is opened.
        """
        now = time.time_ns()
        self._found = np.zeros(len(entries), _ROW)
        self._found["key"] = np.frombuffer(b"".join(map(_key, entries)), "<u8").reshape(-1, 2)
        self._found["facts"] = np.array([_facts(entry) for entry in entries], np.int64).reshape(-1, 5)
        facts = self._found["facts"]
        self._keeps = (facts[:, 0] >= 0) & (facts[:, 1:3].max(axis=1, initial=0) < now - int(RACY_SECONDS * 1e9))
        place = np.searchsorted(self._rows["key"][:, 0], self._found["key"][:, 0])
        place = np.minimum(place, max(0, len(self._rows) - 1))
        if not len(self._rows):
            return [None] * len(entries)
        known = self._rows[place]
        same = self._keeps & (known["key"] == self._found["key"]).all(axis=1) & (known["facts"] == facts).all(axis=1)
        return [
            digest.tobytes().hex() if is_same else None for digest, is_same in zip(known["digest"], same, strict=True)
        ]

    def write(self, digests: Sequence[str | None]) -> None:
        """Write the index anew, if it changes. Where the cache cannot be written, all is read again the next time.

        Args:
            digests: the content digests of the entries that were looked up, in the same order; None where unknown.
        """
        kept = self._keeps & np.array([digest is not None for digest in digests], bool)
        rows = self._found[kept]
        text = "".join(digest for digest, is_kept in zip(digests, kept, strict=True) if is_kept and digest)
        rows["digest"] = np.frombuffer(bytes.fromhex(text), np.uint8).reshape(-1, 32)
        rows = rows[np.lexsort((rows["key"][:, 1], rows["key"][:, 0]))]
        if rows.tobytes() != self._rows.tobytes():
            with suppress(OSError):
                seal(self._path, rows.view(np.uint8))
            self._rows = rows


@contextmanager
def every_file_is_read() -> Iterator[None]:
    """Read all files inside the ``with`` block, also those that have not changed."""
    token = _verifies.set(True)
    try:
        yield
    finally:
        _verifies.reset(token)


def _path_of(spec: str) -> Path:
    """Return the path of the index of a source, which is the same from each working directory."""
    place = Path(spec).expanduser()
    name = str(place.resolve()) if place.exists() else spec
    return cache_folder("indexes") / f"{digest_bytes(os.fsencode(name))[:32]}.index"


def _read(path: Path) -> NDArray[np.void]:
    """Return the rows of an index, ordered by their keys; none where there is no index or it is damaged."""
    data = map_sealed(path)
    if data is None or len(data) % _ROW.itemsize == 0:
        return np.frombuffer(data or b"", _ROW)
    set_aside(path, "it has another length than its rows")
    return np.zeros(0, _ROW)


def _key(entry: Entry) -> bytes:
    """Return 16 bytes that stand for the file of an entry, or for its part of a file."""
    part = entry.part
    name = f"{part.file}\0{part.offset}\0{part.length}" if part else str(entry.path)
    return blake2b(name.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _facts(entry: Entry) -> tuple[int, int, int, int, int]:
    """Return the size, the two times in ns, the inode and the device of a file; a size of -1 for none."""
    try:
        found = (entry.part.file if entry.part else entry.path).stat()
    except (OSError, ValueError):
        return -1, 0, 0, 0, 0
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns, _signed(found.st_ino), _signed(found.st_dev)


def _signed(number: int) -> int:
    """Return the last 63 bits of a number, which an int64 holds."""
    return number & (2**63 - 1)
