"""The source for a table of photos: CSV, TSV, JSON lines or Parquet.

The columns are ``path`` and ``label``, and optionally ``split`` and ``group``. Labels may be probabilities.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from regraft.errors import DataError
from regraft.foundation import console
from regraft.foundation.tables import SUFFIXES, Columns, rows_of
from regraft.photos.boxes import Box
from regraft.photos.images import Part, Problem
from regraft.photos.sources.base import Entry, Listing, label_of, probability_of, read_labels, registry, side_of
from regraft.photos.sources.shards import label_by_text

_MAX_PATH, _MAX_LABEL = 4000, 1000  # the most characters of a path and of a label
_SHARDS = ("tfrecord", "webdataset")
_COLUMNS = Columns(
    names=("path", "label", "split", "group"),
    needed=("path", "label"),
    wanted="wanted columns path and label, and if you like split (train, val, test) and group",
)


class Manifest:
    """A table such as ``photos.csv``. Its paths are relative to the table's folder.

    If a label is a number, a file ``labels.txt`` beside the table gives the name of the class. If all labels are
    numbers from 0 to 1, some of them in between, they are the probabilities of the second of two classes.
    """

    def accepts(self, spec: str) -> bool:
        """Return whether ``spec`` is an existing .csv, .tsv, .jsonl, .ndjson or .parquet file."""
        path = Path(spec).expanduser()
        return path.suffix.lower() in SUFFIXES and path.is_file()

    def list(self, spec: str) -> Listing:
        """List the rows of a table. A row without a valid path or label becomes a problem.

        Raises:
            DataError: the file is not a table of photos.
        """
        file = Path(spec).expanduser()
        rows = _Rows(file, probability_classes(file.parent) if _holds_probabilities(file) else None)
        found: dict[tuple[str, str, float], Entry] = {}
        problems: list[Problem] = []
        repeated = 0
        for number, row in enumerate(rows_of(file, _COLUMNS), 1):
            result = rows.entry(number, row)
            if isinstance(result, Problem):
                problems.append(result)
                continue
            key = (str(result.path), result.label, result.probability)
            repeated += key in found
            found.setdefault(key, result)
        if repeated:
            console.note(f"{repeated} rows of {file} have the path and label of another row, and are left out")
        return Listing(tuple(found.values()), tuple(problems))


def _holds_probabilities(file: Path) -> bool:
    """Return whether each label of a table is a number from 0 to 1, and one of them lies in between.

    The rows are read up to the first label that is no such number.
    """
    between = False
    for row in rows_of(file, _COLUMNS):
        if label := label_of(_text(row.get("label"))):
            probability = probability_of(label)
            if probability is None:
                return False
            between = between or 0 < probability < 1
    return between


def probability_classes(folder: Path) -> tuple[str, str]:
    """Return the two classes of the tables of probabilities in a folder; the probabilities are those of the second.

    Returns:
        The two lines of ``labels.txt`` in the folder, if it has two that differ; else ``0`` and ``1``.
    """
    names = read_labels(folder)
    return (names[0], names[1]) if len(names) == 2 == len(set(names)) else ("0", "1")


class _Rows:
    """A reader that turns the rows of a table into entries.

    Args:
        file: the table.
        classes: the two classes where the labels are probabilities of the second of them; else None.
    """

    def __init__(self, file: Path, classes: tuple[str, str] | None) -> None:
        if classes:
            first, second = classes
            console.note(
                f"the labels of {file} are read as probabilities of {second!r}; below 0.5, a photo is {first!r}"
            )
        self._file = file
        self._classes = classes
        self._names = read_labels(file.parent)
        self._labels: dict[str, str] = {}
        self._shards: dict[str, dict[Path, Entry]] = {}

    def entry(self, number: int, row: Mapping[str, Any]) -> Entry | Problem:
        """Return the photo that row ``number`` (from 1) describes, or what is wrong with the row."""
        name, label = _text(row.get("path")), label_of(_text(row.get("label")))
        if not name or "\0" in name or len(name) > _MAX_PATH:
            reason = "a path that no file can have" if name else "no path"
            return Problem(self._file, f"row {number} has {reason}")
        path = self._file.parent / name
        if not label or len(label) > _MAX_LABEL:
            reason = f"a label of more than {_MAX_LABEL:,} characters" if label else "no label"
            return Problem(path, f"row {number} of {self._file.name} gives it {reason}")
        label, probability = self._label(label)
        if isinstance(row.get("group"), list | dict | bytes):
            return Problem(path, f"row {number} of {self._file.name} gives it a group that is no text")
        given, group = _text(row.get("split")).strip(), _text(row.get("group")).strip()
        if given and side_of(given) is None:
            return Problem(path, f"row {number} of {self._file.name} gives it the split {given[:40]!r}, which is none")
        try:
            part, origin = self._in_shard(path)
        except (DataError, OSError) as error:
            return Problem(path, str(error))
        label = self._labels.setdefault(label, label)
        return Entry(path, label, side_of(given), group or None, part, origin, probability)

    def _label(self, text: str) -> tuple[str, float]:
        """Return the class that a cell names, and the probability that this is the class of the photo."""
        probability = probability_of(text) if self._classes else None
        if self._classes is None or probability is None:  # None with classes, if the file has changed meanwhile
            return label_by_text(text, self._names), 1.0
        return self._classes[probability >= 0.5], max(probability, 1 - probability)

    def _in_shard(self, path: Path) -> tuple[Part | None, str | None]:
        """Return the position and the origin of a photo ``shard#name`` or ``photo#box=…``; otherwise None and None.

        Raises:
            DataError, OSError: the shard exists, but cannot be listed.
        """
        shard, mark, name = str(path).rpartition("#")
        if not mark or path.exists() or not Path(shard).is_file():
            return None, None
        if box := Box.parse(name):
            return Part(Path(shard), 0, Path(shard).stat().st_size, box), None
        if shard not in self._shards:
            self._shards[shard] = {}  # set first, so that a damaged shard is not tried again for each photo
            self._shards[shard] = _listed(shard)
        found = self._shards[shard].get(path)
        return (found.part, found.origin) if found else (None, None)


def _listed(shard: str) -> dict[Path, Entry]:
    """Return the entries of a shard by path; none if the file is not a shard, such as a table or an archive."""
    for name in _SHARDS:
        source = registry.load(name)()
        if source.accepts(shard):
            return {entry.path: entry for entry in source.list(shard).entries}
    return {}


def _text(value: Any) -> str:
    """Return a cell as text; empty if the cell has no value or NaN, or holds a list, an object or bytes.

    A very long text is cut off just above the limit, since many rows may share it.
    """
    if value is None or value != value or isinstance(value, list | dict | bytes):
        return ""
    if isinstance(value, float) and value.is_integer():  # integers with a missing value among them are read as floats
        value = int(value)
    return (value if isinstance(value, str) else str(value))[: _MAX_PATH + 1]
