"""One Parquet file of features: written with checksums, and read only once all of it is found to be as it was written.

In: digests with their rows. Out: the same, or why the file cannot be believed.
Why: a row under another photo's digest gives another classifier, and nothing would show it.
Surprise: Parquet has checksums of pages, but whoever writes the file anew, with other digests, writes those anew too.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regraft._cache import crc32, require_regular, saving
from regraft._files import atomic_file
from regraft.images import THUMBNAIL

LOOK = np.dtype([("thumbnail", "u1", (THUMBNAIL, THUMBNAIL)), ("width", "<i4"), ("height", "<i4")])
"""What is kept of a photo beside its features: see `Look`. 0 wide where it cannot be read."""

Row = tuple[NDArray[np.float32], np.void]
"""A photo's features (D,) and its `LOOK`."""

SCHEMA = 2
_DIGESTS = re.compile(r"(?:[0-9a-f]{64})+")
_LARGEST = 2**30
"""The most bytes of rows in one file: regraft writes files of a few megabytes."""


class DamagedPartError(ValueError):
    """The file is not what regraft wrote; the message says what is wrong."""


@dataclass(frozen=True, slots=True)
class Part:
    """Rows of a file, in its order: N digests, features (N, D) float32 and looks (N,) of `LOOK`."""

    digests: list[str]
    x: NDArray[np.float32]
    looks: NDArray[np.void]


def write_part(path: Path, fingerprint: str, digests: Sequence[str], rows: Sequence[Row]) -> None:
    """Write the rows of the photos ``digests`` under ``path``, if the cache can be written.

    A row that is not finite is left out: read again, it would look like damage.
    """
    import pyarrow as pa
    from pyarrow import parquet

    good = [i for i, (values, _) in enumerate(rows) if np.isfinite(values).all()]
    if not good:
        return
    part = Part(
        [digests[i] for i in good],
        np.ascontiguousarray([rows[i][0] for i in good], dtype="<f4"),
        np.array([rows[i][1] for i in good], LOOK),
    )
    # Rows as bytes of fixed length: read back without decoding, three times as fast as lists of floats.
    arrays = {"digest": pa.array(part.digests)}
    for name, column in (("features", part.x), ("look", part.looks)):
        kind = pa.binary(column.nbytes // len(good))
        arrays[name] = pa.FixedSizeBinaryArray.from_buffers(kind, len(good), [None, pa.py_buffer(column)])
    facts = {"regraft.schema": str(SCHEMA), "regraft.fingerprint": fingerprint, "regraft.dtype": "<f4"}
    table = pa.table(arrays).replace_schema_metadata({**facts, "regraft.crc32": _checksum(part)})
    with saving(), atomic_file(path) as file:
        parquet.write_table(
            table, file, compression="none", use_dictionary=False, write_page_checksum=True, write_statistics=False
        )


def read_part(path: Path, fingerprint: str, num_features: int, wanted: Collection[str]) -> Part | None:
    """The rows of a file, all of them checked; None where it holds none of the digests ``wanted``.

    Files of earlier versions, which have no checksum of their own, are held to the checksums of Parquet's pages.

    Raises:
        DamagedPartError: the file is not what regraft wrote.
        FileNotFoundError: another process cleared the cache.
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
        if not any(digest in wanted for digest in digests):
            return None
        features, looks = _columns(file, "features", "look")
        x = np.frombuffer(_bytes_of(features), np.float32).reshape(-1, num_features)
        part = Part(digests, x, np.frombuffer(_bytes_of(looks), LOOK))
    except FileNotFoundError:
        raise
    except (OSError, ValueError, KeyError, IndexError, TypeError, MemoryError, pa.ArrowException) as error:
        raise DamagedPartError(str(error) or type(error).__name__) from error
    _check_rows(part, facts.get(b"regraft.crc32"))
    return part


def _is_newer(facts: dict[bytes, bytes]) -> bool:
    """Whether a later version of regraft wrote the file: that is left alone."""
    schema = facts.get(b"regraft.schema", b"")
    return schema.isdigit() and int(schema[:9]) > SCHEMA


def _check_header(file: Any, fingerprint: str, num_features: int) -> None:
    """Raise DamagedPartError where names, types, widths or the number of rows are not what they should be."""
    import pyarrow as pa

    facts = file.schema_arrow.metadata or {}
    expected = {"schema": str(SCHEMA), "fingerprint": fingerprint, "dtype": "<f4"}
    for name, value in expected.items():
        if facts.get(f"regraft.{name}".encode()) != value.encode():
            raise DamagedPartError(f"it is of another {name}")
    columns = {"digest": pa.string(), "features": pa.binary(4 * num_features), "look": pa.binary(LOOK.itemsize)}
    if not file.schema_arrow.equals(pa.schema(columns)):
        found = ", ".join(f"{field.name} {field.type}" for field in file.schema_arrow)
        raise DamagedPartError(f"its columns are {found[:200]}")
    if not 0 < file.metadata.num_rows * (4 * num_features + LOOK.itemsize) < _LARGEST:
        raise DamagedPartError(f"it says it has {file.metadata.num_rows} rows")


def _columns(file: Any, *names: str) -> list[Any]:
    arrays = []
    for column in file.read(columns=list(names), use_threads=False).columns:
        array = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
        if array.null_count or len(array) != file.metadata.num_rows:
            raise DamagedPartError(f"values are missing from its columns {' and '.join(names)}")
        arrays.append(array)
    return arrays


def _bytes_of(array: Any) -> memoryview:
    """The bytes of a column of byte strings of equal lengths, without a copy."""
    width = array.type.byte_width
    return memoryview(array.buffers()[1])[array.offset * width : (array.offset + len(array)) * width]


def _check_rows(part: Part, checksum: bytes | None) -> None:
    if checksum is not None and checksum != _checksum(part).encode():
        raise DamagedPartError("it has not the checksum it was written with")
    if not all(len(digest) == 64 for digest in part.digests) or not _DIGESTS.fullmatch("".join(part.digests)):
        raise DamagedPartError("what should be digests are none")
    if len(set(part.digests)) != len(part.digests):
        raise DamagedPartError("it has two rows for one photo")
    if not np.isfinite(part.x).all():
        raise DamagedPartError("its features are not all finite")


def _checksum(part: Part) -> str:
    return crc32("".join(part.digests).encode(), part.x.data, part.looks.data)
