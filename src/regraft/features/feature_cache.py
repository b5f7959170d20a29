"""The features of one engine in the cache: Parquet part files with the content digests of photos as keys.

In: digests, and rows of features. Out: the same rows for the same digests, whenever and wherever they are asked for.
Why: a photo is computed once, ever, whatever happens to the process, to the name of the photo or to its label.
Surprise: part files are small, so that a kill loses little. While a later process computes, they are merged into larger
ones. A file is deleted only after all of its rows are in another one.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np

from regraft.features.cache_limit import cache_limit, keep_within_limit, mark_as_used
from regraft.features.parts import DamagedPartError, Part, Row, give_back_buffers, part_of, read_part, write_part
from regraft.foundation.cache_files import set_aside
from regraft.foundation.documents import MEBIBYTE
from regraft.foundation.files import cache_folder

PART_ROWS = 256
"""The number of feature rows after which a part file of the cache is written."""

PART_SECONDS = 5.0
"""The seconds after which a part file is written though it is not full: a kill loses at most this much work."""

MANY_PARTS = 16
"""From so many small part files on, they are merged."""

SMALL_BYTES = 64 * MEBIBYTE
"""A part file of fewer bytes is small."""

MERGED_BYTES = 128 * MEBIBYTE
"""About the most bytes of a part file that others are merged into, so that one can be read into memory."""


class FeatureCache:
    """The features of one engine in the cache.

    Each part file is written under a temporary name and then renamed, so that no process reads an unfinished file. A
    damaged file is set aside with a warning, and its photos are computed again. Several processes may share the
    folder: they add files, and delete only files whose rows are in another one.

    Args:
        fingerprint: the fingerprint of the engine. Features of other engines are in other folders.
        num_features: D, the number of features of a photo.
        backbone: the name of the backbone, which the files tell to who looks into the cache.

    Attributes:
        folder: the folder of the part files.
    """

    def __init__(self, fingerprint: str, num_features: int, backbone: str = "") -> None:
        self.folder: Path = cache_folder("features") / fingerprint[:32]
        self._fingerprint, self._backbone = fingerprint, backbone
        self._num_features = num_features

    def read(self, wanted: Iterable[str]) -> Iterator[Part]:
        """Yield the rows of the digests of ``wanted`` that are in the cache, once for each digest, file by file."""
        missing, seen = set(wanted), set[Path]()
        # A file that another process merged meanwhile is gone, and its rows are in a file that was not there before.
        while missing and (paths := [path for path in self._paths() if path not in seen]):
            seen.update(paths)
            for path in paths:
                part = self._read_part(path, missing) if missing else None
                at = [i for i, digest in enumerate(part.digests) if digest in missing] if part else []
                if part and at:
                    missing.difference_update(part.digests)
                    yield part if len(at) == len(part.digests) else part.select(at)
        if seen:
            give_back_buffers()

    def known(self, wanted: Iterable[str]) -> set[str]:
        """Return the digests of ``wanted`` that are in the cache."""
        return {digest for part in self.read(wanted) for digest in part.digests}

    def _paths(self) -> list[Path]:
        return sorted(self.folder.glob("part-*.parquet"))

    def _read_part(self, path: Path, missing: set[str] | None) -> Part | None:
        """Return a part file; None if it has none of the digests ``missing``, is damaged or was deleted."""
        try:
            part = read_part(path, self._fingerprint, self._num_features, missing)
        except FileNotFoundError:  # another process cleared the cache, or merged the file
            return None
        except DamagedPartError as error:
            set_aside(path, str(error))
            return None
        if part:
            mark_as_used(path)
        return part

    def writer(self) -> _Writer:
        """Return a context manager. Its value is a function ``write(digest, row)`` that adds a row to the cache."""
        return _Writer(self)

    def write_part(self, digests: Sequence[str], rows: Sequence[Row]) -> None:
        """Write one part file with the rows of the photos ``digests``. It warns where the cache cannot be written."""
        self._write(part_of(digests, rows))

    def _write(self, part: Part) -> Path:
        path = self.folder / f"part-{uuid.uuid4().hex}.parquet"
        write_part(path, self._fingerprint, part, self._backbone)
        return path

    def merge(self) -> None:
        """Merge small part files into larger ones, if there are many."""
        sizes: list[tuple[Path, int]] = []
        for path in self._paths():
            with suppress(OSError):
                sizes.append((path, path.stat().st_size))
        small = [(path, size) for path, size in sizes if size < SMALL_BYTES]
        if len(small) < MANY_PARTS:
            return
        group: list[Path] = []
        total = 0
        for path, size in small:
            if group and total + size > MERGED_BYTES:
                self._merge(group)
                group, total = [], 0
            group.append(path)
            total += size
        self._merge(group)

    def _merge(self, paths: Sequence[Path]) -> None:
        """Write the rows of part files into one new file, and delete those that were read once it is there."""
        found = [(path, part) for path in paths if (part := self._read_part(path, None)) is not None]
        if len(found) < 2:
            return
        merged = self._write(_joined([part for _, part in found]))
        if merged.exists():  # else the cache cannot be written, and everything stays as it is
            for path, _ in found:
                with suppress(OSError):
                    path.unlink()


def _joined(parts: Sequence[Part]) -> Part:
    """Return the rows of part files as one part, with each photo once."""
    digests = [digest for part in parts for digest in part.digests]
    first = sorted({digest: i for i, digest in reversed(list(enumerate(digests)))}.values())
    joined = Part(digests, np.concatenate([part.x for part in parts]), np.concatenate([part.looks for part in parts]))
    return joined if len(first) == len(digests) else joined.select(first)


class _Writer:
    """Collects rows and writes them as part files.

    A part file is written after `PART_ROWS` rows or `PART_SECONDS`, and when the context ends, also by an error. In the
    background, part files of earlier processes are merged.
    """

    def __init__(self, cache: FeatureCache) -> None:
        self._cache = cache
        self._digests: list[str] = []
        self._rows: list[Row] = []
        self._since = 0.0
        self._merging = threading.Thread(target=cache.merge, daemon=True)

    def __enter__(self) -> _Writer:
        cache_limit()  # a limit that is no size is told before the work
        self._merging.start()
        return self

    def __call__(self, digest: str, row: Row) -> None:
        if not self._rows:
            self._since = monotonic()  # starts with the first row: the engine may need long to start
        self._digests.append(digest)
        self._rows.append(row)
        if len(self._rows) >= PART_ROWS or monotonic() - self._since > PART_SECONDS:
            self._flush()

    def __exit__(self, kind: Any, *_: Any) -> None:
        self._flush()
        if kind is None:  # a command that is stopped has little time
            self._merging.join()
            keep_within_limit()

    def _flush(self) -> None:
        """Write the collected rows as one part file."""
        if self._rows:
            self._cache.write_part(self._digests, self._rows)
            self._digests, self._rows = [], []
