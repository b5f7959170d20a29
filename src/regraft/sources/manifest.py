"""A table of photos: CSV, TSV, JSON lines or Parquet with ``path``, ``label``, and if you like ``split``, ``group``."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from regraft import _console
from regraft.errors import DataError
from regraft.images import Part, Problem
from regraft.sources import Entry, Listing, find_source, label_of, read_labels, side_of

_COLUMNS = "wanted columns path and label, and if you like split (train, val, test) and group"
_SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")


class Manifest:
    """``photos.csv``: paths are relative to the manifest. A ``labels.txt`` beside it names classes given by number."""

    def accepts(self, spec: str) -> bool:
        """An existing .csv, .tsv, .jsonl or .parquet file."""
        path = Path(spec).expanduser()
        return path.suffix.lower() in _SUFFIXES and path.is_file()

    def list(self, spec: str) -> Listing:
        """List the rows. A row that says too little becomes a problem; raises DataError for a table that is none."""
        file = Path(spec).expanduser()
        rows = _Rows(file)
        found: dict[tuple[Path, str], Entry | Problem] = {}
        repeated = 0
        for number, row in enumerate(_read(file), 1):
            result = rows.entry(number, row)
            key = (result.path, result.label if isinstance(result, Entry) else "")
            repeated += key in found
            found.setdefault(key, result)
        if repeated:
            _console.note(f"{repeated} rows of {file} say again what another says")
        entries = tuple(r for r in found.values() if isinstance(r, Entry))
        return Listing(entries, tuple(r for r in found.values() if isinstance(r, Problem)))


class _Rows:
    """Rows of one manifest as entries."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._labels = read_labels(file.parent)
        self._shards: dict[str, dict[Path, Entry]] = {}

    def entry(self, number: int, row: Mapping[str, Any]) -> Entry | Problem:
        missing = {"path", "label"} - set(row)
        if missing and number == 1:
            raise DataError(f"{self._file} has columns {', '.join(map(str, row)) or 'of no name'}; {_COLUMNS}")
        name, label = _text(row.get("path")), label_of(_text(row.get("label")))
        path = self._file.parent / name
        if not name:
            return Problem(self._file, f"row {number} has no path")
        if not label:
            return Problem(path, f"row {number} of {self._file.name} gives it no label")
        if self._labels and label.isdecimal() and int(label) < len(self._labels):
            label = self._labels[int(label)]
        given = _text(row.get("split")).strip()
        if given and side_of(given) is None:
            return Problem(path, f"row {number} of {self._file.name} gives it the split {given!r}, which is none")
        group = _text(row.get("group")).strip() or None
        part, origin = self._in_shard(path)
        return Entry(path, label, side_of(given), group, part, origin)

    def _in_shard(self, path: Path) -> tuple[Part | None, str | None]:
        """Where a photo ``shard#name`` lies, and what it was made from. Other paths are files of their own."""
        shard, mark, _ = str(path).rpartition("#")
        if not mark or path.exists() or not Path(shard).is_file():
            return None, None
        if shard not in self._shards:
            self._shards[shard] = {entry.path: entry for entry in find_source(shard).list(shard).entries}
        found = self._shards[shard].get(path)
        return (found.part, found.origin) if found else (None, None)


def _text(value: Any) -> str:
    if value is None or value != value:  # NaN, as tables without a value have it
        return ""
    if isinstance(value, float) and value.is_integer():  # a column of numbers with a gap in it
        value = int(value)
    return str(value)


def _read(file: Path) -> Iterator[Mapping[str, Any]]:
    readers = {".tsv": _separated, ".csv": _separated, ".parquet": _parquet}
    try:
        yield from readers.get(file.suffix.lower(), _json_lines)(file)
    except UnicodeDecodeError as error:
        raise DataError(f"{file} is not UTF-8 text ({error.reason} at byte {error.start}); save it as UTF-8") from error
    except OSError as error:
        raise DataError(f"{file} cannot be read: {(error.strerror or str(error)).lower()}") from error


def _separated(file: Path) -> Iterable[Mapping[str, Any]]:
    with file.open(encoding="utf-8-sig", newline="") as opened:  # with the byte order mark that Excel writes
        reader = csv.DictReader(opened, delimiter="\t" if file.suffix.lower() == ".tsv" else ",")
        try:
            reader.fieldnames = [name.strip().lower() for name in reader.fieldnames or ()]
            yield from reader
        except csv.Error as error:
            raise DataError(f"{file} is damaged in line {reader.line_num}: {error}") from error


def _json_lines(file: Path) -> Iterable[Mapping[str, Any]]:
    with file.open(encoding="utf-8-sig") as opened:
        for number, line in enumerate(opened, 1):
            if line.strip():
                try:
                    row = json.loads(line)
                except ValueError as error:
                    raise DataError(f"{file} is no JSON in line {number}: {error}") from error
                if not isinstance(row, dict):
                    raise DataError(f"{file} holds no object in line {number}; {_COLUMNS}")
                yield row


def _parquet(file: Path) -> Iterable[Mapping[str, Any]]:
    from pyarrow import ArrowException, parquet

    try:
        table = parquet.ParquetFile(file)
        names = [name for name in ("path", "label", "split", "group") if name in table.schema_arrow.names]
        if not {"path", "label"} <= set(names):
            raise DataError(f"{file} has columns {', '.join(table.schema_arrow.names)}; {_COLUMNS}")
        for batch in table.iter_batches(columns=names):
            yield from batch.to_pylist()
    except ArrowException as error:
        raise DataError(f"{file} is no Parquet file: {error}") from error
