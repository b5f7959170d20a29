"""Read the rows of a CSV, TSV, JSON lines or Parquet table, with limits on memory, since the file may be hostile."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

if sys.platform == "linux":
    import resource

from regraft.errors import DataError

SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")

MAX_BYTES = 2**29
"""The greatest size of a table, in bytes."""

MAX_ROWS = 1_500_000
"""The most rows of a table: each photo takes about 500 bytes of memory, and ImageNet has 1.28 million."""

MAX_LINE = 2**20
"""The greatest length of a line, in characters."""

MAX_MEMORY = 3 * 2**28
"""The most memory, in bytes, that reading a batch of rows from a Parquet file may take."""

_BATCH = 1024  # rows that are read at a time
_SHOWN = 10  # column names in an error message
_MAX_REASON = 200  # characters of a library's error message

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns that a reader of tables wants.

    Attributes:
        names: the names of the columns to read, in lower case; empty for all columns.
        needed: those of the names without which the file is no such table.
        wanted: what the table should have, in words, for error messages.
    """

    names: tuple[str, ...]
    needed: tuple[str, ...]
    wanted: str


def rows_of(file: Path, columns: Columns) -> Iterator[Row]:
    """Yield the rows of a table as mappings from column names to values.

    Each row has those of the wanted columns that the table has, and may have others.

    Args:
        file: the table. Its suffix, one of `SUFFIXES`, decides the format.
        columns: the wanted columns.

    Raises:
        DataError: the table cannot be read, lacks a column, or exceeds a limit.
    """
    readers = {".tsv": _separated, ".csv": _separated, ".parquet": _parquet}
    try:
        if (size := file.stat().st_size) > MAX_BYTES:
            raise DataError(f"{file} has {size / 2**20:,.0f} MiB, more than the {MAX_BYTES >> 20} of a table; split it")
        for number, row in enumerate(readers.get(file.suffix.lower(), _json_lines)(file, columns)):
            if number >= MAX_ROWS:
                raise DataError(f"{file} has more than {MAX_ROWS:,} rows; split it")
            yield row
    except UnicodeDecodeError as error:
        raise DataError(f"{file} is not UTF-8 text ({error.reason} at byte {error.start}); save it as UTF-8") from error
    except OSError as error:
        raise DataError(f"{file} cannot be read: {(error.strerror or str(error)).lower()}") from error


def _check(file: Path, names: list[str], columns: Columns) -> None:
    """Raise DataError if a column that is needed is not among ``names``."""
    if not set(columns.needed) <= set(names):
        shown = ", ".join(name[:40] for name in names[:_SHOWN]) + (", …" if len(names) > _SHOWN else "")
        raise DataError(f"{file} has columns {shown or 'of no name'}; {columns.wanted}")


def _lines(file: Path, columns: Columns) -> Iterator[str]:
    """Yield the lines of a text file. Raises DataError if there are too many, or one is too long."""
    with file.open("rb") as opened:
        pieces = iter(lambda: opened.read(MAX_LINE), b"")
        if sum(piece.count(b"\n") for piece in pieces) > MAX_ROWS + 1:  # before the rows are read
            raise DataError(f"{file} has more than {MAX_ROWS:,} rows; split it")
    with file.open(encoding="utf-8-sig", newline="") as opened:  # sig: Excel writes a byte order mark
        while line := opened.readline(MAX_LINE + 1):
            if len(line) > MAX_LINE:
                raise DataError(f"{file} has a line of more than {MAX_LINE:,} characters; {columns.wanted}")
            yield line


def _separated(file: Path, columns: Columns) -> Iterator[Row]:
    reader = csv.reader(_lines(file, columns), delimiter="\t" if file.suffix.lower() == ".tsv" else ",")
    try:
        names = [name.strip().lower() for name in next(reader, [])]
        _check(file, names, columns)
        places = {name: place for place, name in enumerate(names) if name in (columns.names or names)}
        for cells in reader:
            if cells:
                yield {name: cells[place] for name, place in places.items() if place < len(cells)}
    except csv.Error as error:
        raise DataError(f"{file} is damaged in line {reader.line_num}: {error}") from error


def _json_lines(file: Path, columns: Columns) -> Iterator[Row]:
    first = True
    for number, line in enumerate(_lines(file, columns), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{file} is no JSON in line {number}: {error}") from error
        if not isinstance(row, dict):
            raise DataError(f"{file} holds no object in line {number}; {columns.wanted}")
        if first:
            _check(file, list(row), columns)
        first = False
        yield row


def _parquet(file: Path, columns: Columns) -> Iterator[Row]:
    from pyarrow import parquet

    try:
        with _limited_memory():
            found = parquet.ParquetFile(file)
            there = found.schema_arrow.names
            names = [name for name in columns.names or there if name in there]
            texts = [
                column.path for column in map(found.schema.column, range(len(found.schema))) if column.path in names
            ]
            # A dictionary keeps a text that many rows share only once. Written out for each row, the texts could take
            # any amount of memory.
            table = parquet.ParquetFile(file, metadata=found.metadata, read_dictionary=texts)
        _check(file, table.schema_arrow.names, columns)
        if (rows := table.metadata.num_rows) > MAX_ROWS:
            raise DataError(f"{file} has {rows:,} rows, more than the {MAX_ROWS:,} of a table; split it")
        batches = table.iter_batches(_BATCH, columns=names, use_threads=False)
        while True:
            with _limited_memory():
                batch = next(batches, None)
                values = [] if batch is None else [_values(column) for column in batch.columns]
            if batch is None:
                return
            for cells in zip(*values, strict=True):
                yield dict(zip(batch.schema.names, cells, strict=True))
    except DataError:
        raise
    except Exception as error:  # Arrow's own, MemoryError, OSError, KeyError, …
        reason = str(error)[:_MAX_REASON] or type(error).__name__
        raise DataError(f"{file} is no Parquet file that can be read: {reason}") from error


def _values(column: Any) -> list[Any]:
    """Return the values of an Arrow array as Python objects. Equal values of a dictionary are one object."""
    import pyarrow

    if not pyarrow.types.is_dictionary(column.type):
        return list(column.to_pylist())
    texts = column.dictionary.to_pylist()
    return [None if place is None else texts[place] for place in column.indices.to_pylist()]


@contextmanager
def _limited_memory() -> Iterator[None]:
    """Limit the memory that this process may take in the ``with`` block to `MAX_MEMORY` more bytes, on Linux.

    A page of a Parquet file may decompress to 2 GiB, whatever sizes the file states. With the limit, that is an error.
    """
    if sys.platform != "linux":
        yield
        return
    before, hard = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    limits = [limit for limit in (before, hard) if limit != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_AS, (min([pages * resource.getpagesize() + MAX_MEMORY, *limits]), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (before, hard))
