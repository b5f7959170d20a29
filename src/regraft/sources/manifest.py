"""A table of photos: CSV, TSV, JSON lines or Parquet with ``path``, ``label``, and if you like ``split``, ``group``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from regraft import _console
from regraft.errors import DataError
from regraft.images import Part, Problem
from regraft.sources import Entry, Listing, label_of, read_labels, registry, side_of
from regraft.sources._shards import label_by_text
from regraft.sources._tables import SUFFIXES, rows_of

_MAX_PATH, _MAX_LABEL = 4000, 1000  # characters: more is no path, and no name of a class
_SHARDS = ("tfrecord", "webdataset")


class Manifest:
    """``photos.csv``: paths are relative to the manifest. A ``labels.txt`` beside it names classes given by number."""

    def accepts(self, spec: str) -> bool:
        """An existing .csv, .tsv, .jsonl or .parquet file."""
        path = Path(spec).expanduser()
        return path.suffix.lower() in SUFFIXES and path.is_file()

    def list(self, spec: str) -> Listing:
        """List the rows. A row that says too little becomes a problem; raises DataError for a table that is none."""
        file = Path(spec).expanduser()
        rows = _Rows(file)
        found: dict[tuple[str, str], Entry | Problem] = {}
        repeated = 0
        for number, row in enumerate(rows_of(file), 1):
            result = rows.entry(number, row)
            key = (str(result.path), result.label if isinstance(result, Entry) else "")
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
        self._names = read_labels(file.parent)
        self._labels: dict[str, str] = {}
        self._shards: dict[str, dict[Path, Entry]] = {}

    def entry(self, number: int, row: Mapping[str, Any]) -> Entry | Problem:
        """The photo that a row describes, or what is wrong with the row."""
        name, label = _text(row.get("path")), label_of(_text(row.get("label")))
        if not name or "\0" in name or len(name) > _MAX_PATH:
            reason = "a path that no file can have" if name else "no path"
            return Problem(self._file, f"row {number} has {reason}")
        path = self._file.parent / name
        if not label or len(label) > _MAX_LABEL:
            reason = f"a label of more than {_MAX_LABEL:,} characters" if label else "no label"
            return Problem(path, f"row {number} of {self._file.name} gives it {reason}")
        label = label_by_text(label, self._names)
        if isinstance(row.get("group"), list | dict | bytes):
            return Problem(path, f"row {number} of {self._file.name} gives it a group that is no text")
        given, group = _text(row.get("split")).strip(), _text(row.get("group")).strip()
        if given and side_of(given) is None:
            return Problem(path, f"row {number} of {self._file.name} gives it the split {given[:40]!r}, which is none")
        try:
            part, origin = self._in_shard(path)
        except (DataError, OSError) as error:
            return Problem(path, str(error))
        return Entry(path, self._labels.setdefault(label, label), side_of(given), group or None, part, origin)

    def _in_shard(self, path: Path) -> tuple[Part | None, str | None]:
        """Where a photo ``shard#name`` lies, and what it was made from. Other paths are files of their own.

        Raises:
            DataError, OSError: there is such a shard, and it cannot be listed.
        """
        shard, mark, _ = str(path).rpartition("#")
        if not mark or path.exists() or not Path(shard).is_file():
            return None, None
        if shard not in self._shards:
            self._shards[shard] = {}  # one that cannot be listed is not tried again for each of its photos
            self._shards[shard] = _listed(shard)
        found = self._shards[shard].get(path)
        return (found.part, found.origin) if found else (None, None)


def _listed(shard: str) -> dict[Path, Entry]:
    """What a shard tells of each of its photos; nothing where it is none, such as a table or an archive."""
    for name in _SHARDS:
        source = registry.load(name)()
        if source.accepts(shard):
            return {entry.path: entry for entry in source.list(shard).entries}
    return {}


def _text(value: Any) -> str:
    """A cell as text; empty where it has no value (or NaN, as tables have it), or holds a list or an object.

    Of a very long text only as much as shows that it is too long: many rows may share one.
    """
    if value is None or value != value or isinstance(value, list | dict | bytes):
        return ""
    if isinstance(value, float) and value.is_integer():  # a column of numbers with a gap in it
        value = int(value)
    return (value if isinstance(value, str) else str(value))[: _MAX_PATH + 1]
