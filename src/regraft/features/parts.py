"""One Parquet file of features, written with checksums and checked as a whole before any row is used.

In: digests with their rows. Out: the same digests and rows, or an error that says how the file is damaged.
Why: a row under the digest of another photo would give a wrong classifier without any sign of it.
Surprise: the checksums of Parquet's pages are not enough. A program that writes the file again with other digests also
writes valid page checksums, so regraft adds a checksum of its own over all columns.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regraft.foundation.cache_files import crc32, require_regular, saving
from regraft.foundation.files import atomic_file
from regraft.photos.images import THUMBNAIL

LOOK = np.dtype([("thumbnail", "u1", (THUMBNAIL, THUMBNAIL)), ("width", "<i4"), ("height", "<i4")])
"""The thumbnail and the size of a photo, which are kept beside its features: see `Look`. The width is 0 if the photo
cannot be read."""

Row = tuple[NDArray[np.float32], np.void]
"""The features of a photo (D,), and its thumbnail and size as a `LOOK`."""

SCHEMA = 2
"""The version of the file format. Raise it when columns or their meaning change."""

_DIGESTS = re.compile(r"(?:[0-9a-f]{64})+")
_MAX_BYTES = 2**30
"""The largest size of the rows in one file, in bytes. A larger size is damage: regraft writes a hundred megabytes."""


class DamagedPartError(ValueError):
    """The file is not as regraft wrote it. The message says what is wrong."""


@dataclass(frozen=True, slots=True)
class Part:
    """The N rows of a part file, in the order of the file.

    Attributes:
        digests: the content digests of the N photos.
        x: the features, (N, D) float32.
        looks: the thumbnails and sizes, (N,) of `LOOK`.
    """

    digests: list[str]
    x: NDArray[np.float32]
    looks: NDArray[np.void]

    def select(self, rows: Sequence[int]) -> Part:
        """Return the rows with these numbers, in that order."""
        return Part([self.digests[i] for i in rows], self.x[rows], self.looks[rows])


def part_of(digests: Sequence[str], rows: Sequence[Row]) -> Part:
    """Return rows as a part.

    A row with values that are not finite is left out, since the reader would take it for damage.

    Args:
        digests: the content digests of the N photos.
        rows: the N rows.
    """
    good = [i for i, (values, _) in enumerate(rows) if np.isfinite(values).all()]
    return Part(
        [digests[i] for i in good],
        np.ascontiguousarray([rows[i][0] for i in good], dtype="<f4"),
        np.array([rows[i][1] for i in good], LOOK),
    )


def write_part(path: Path, fingerprint: str, part: Part, backbone: str = "") -> None:
    """Write a part file, unless it has no rows. If the cache is not writable, the function warns and writes nothing.

    Args:
        path: the file to write.
        fingerprint: the fingerprint of the engine that computed the features.
        part: the rows.
        backbone: the name of the backbone.
    """
    import pyarrow as pa
    from pyarrow import parquet

    if not part.digests:
        return
    # A row is stored as bytes of fixed length: these are read without decoding, three times as fast as lists of floats.
    arrays = {"digest": pa.array(part.digests)}
    for name, column in (("features", part.x), ("look", part.looks)):
        kind = pa.binary(column.nbytes // len(part.digests))
        arrays[name] = pa.FixedSizeBinaryArray.from_buffers(kind, len(part.digests), [None, pa.py_buffer(column)])
    facts = {"regraft.schema": str(SCHEMA), "regraft.fingerprint": fingerprint, "regraft.dtype": "<f4"}
    more = {"regraft.backbone": backbone, "regraft.crc32": _checksum(part)}
    table = pa.table(arrays).replace_schema_metadata({**facts, **more})
    with saving(), atomic_file(path) as file:
        parquet.write_table(
            table, file, compression="none", use_dictionary=False, write_page_checksum=True, write_statistics=False
        )


def read_part(path: Path, fingerprint: str, num_features: int, wanted: Collection[str] | None) -> Part | None:
    """Return all rows of a part file after a check of the whole file; None if it has none of the ``wanted`` digests.

    Files of earlier versions have no checksum by regraft. For these the checksums of Parquet's pages are verified.

    Args:
        path: the part file.
        fingerprint: the fingerprint of the engine that must have computed the features.
        num_features: D, the number of features of each row.
        wanted: the digests that are looked for; None for all rows.

    Raises:
        DamagedPartError: the file is not as regraft wrote it.
        FileNotFoundError: the file does not exist; another process may have cleared the cache.
    """
    import pyarrow as pa
    from pyarrow import parquet

    try:
        require_regular(path)
        file = parquet.ParquetFile(path)
        facts = file.schema_arrow.metadata or {}
        if _is_newer(facts):
            return None
        _check_header(file, fingerprint, num_features)
        if b"regraft.crc32" not in facts:
            file = parquet.ParquetFile(path, page_checksum_verification=True)
        (names,) = _columns(file, "digest")
        digests = names.to_pylist()
        if wanted is not None and not any(digest in wanted for digest in digests):
            return None
        features, looks = _columns(file, "features", "look")
        x = np.frombuffer(_bytes_of(features), np.float32).reshape(-1, num_features)
        part = Part(digests, x, np.frombuffer(_bytes_of(looks), LOOK))
    except FileNotFoundError:
        raise
    except (OSError, ValueError, KeyError, IndexError, TypeError, MemoryError, pa.ArrowException) as error:
        if not path.exists():  # on a network drive, a file that was deleted meanwhile gives another error
            raise FileNotFoundError(path) from error
        raise DamagedPartError(str(error) or type(error).__name__) from error
    _check_rows(part, facts.get(b"regraft.crc32"))
    return part


def give_back_buffers() -> None:
    """Give the memory that Arrow keeps for the next file back to the system: as much as the largest file had."""
    import pyarrow as pa

    pa.default_memory_pool().release_unused()


def _is_newer(facts: dict[bytes, bytes]) -> bool:
    """Return whether a later version of regraft wrote the file. Such a file is skipped; it is not damaged."""
    schema = facts.get(b"regraft.schema", b"")
    return schema.isdigit() and int(schema[:9]) > SCHEMA


def _check_header(file: Any, fingerprint: str, num_features: int) -> None:
    """Raise DamagedPartError if the metadata, the columns or the number of rows are not as expected."""
    import pyarrow as pa

    facts = file.schema_arrow.metadata or {}
    expected = {"schema": str(SCHEMA), "fingerprint": fingerprint, "dtype": "<f4"}
    for name, value in expected.items():
        if facts.get(f"regraft.{name}".encode()) != value.encode():
            raise DamagedPartError(f"it has another {name} than was wanted")
    columns = {"digest": pa.string(), "features": pa.binary(4 * num_features), "look": pa.binary(LOOK.itemsize)}
    if not file.schema_arrow.equals(pa.schema(columns)):
        actual = ", ".join(f"{field.name} {field.type}" for field in file.schema_arrow)
        raise DamagedPartError(f"its columns are {actual[:200]}")
    if not 0 < file.metadata.num_rows * (4 * num_features + LOOK.itemsize) < _MAX_BYTES:
        raise DamagedPartError(f"its header says that it has {file.metadata.num_rows} rows")


def _columns(file: Any, *names: str) -> list[Any]:
    """Return columns of the file as Arrow arrays. Raises DamagedPartError if a column lacks values."""
    arrays = []
    for column in file.read(columns=list(names), use_threads=False).columns:
        array = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
        if array.null_count or len(array) != file.metadata.num_rows:
            raise DamagedPartError(f"values are missing from its columns {' and '.join(names)}")
        arrays.append(array)
    return arrays


def _bytes_of(array: Any) -> memoryview:
    """Return the bytes of a column of byte strings that all have the same length, without a copy."""
    width = array.type.byte_width
    return memoryview(array.buffers()[1])[array.offset * width : (array.offset + len(array)) * width]


def _check_rows(part: Part, checksum: bytes | None) -> None:
    """Raise DamagedPartError if the rows do not have the ``checksum``, or digests or features are not valid."""
    if checksum is not None and checksum != _checksum(part).encode():
        raise DamagedPartError("its rows do not have the checksum that was written with them")
    if not all(len(digest) == 64 for digest in part.digests) or not _DIGESTS.fullmatch("".join(part.digests)):
        raise DamagedPartError("its digest column has values that are no digests")
    if len(set(part.digests)) != len(part.digests):
        raise DamagedPartError("it has two rows for one photo")
    if not np.isfinite(part.x).all():
        raise DamagedPartError("its features are not all finite")


def _checksum(part: Part) -> str:
    """Return the CRC-32 of the digests, features, thumbnails and sizes."""
    return crc32("".join(part.digests).encode(), part.x.data, part.looks.data)
