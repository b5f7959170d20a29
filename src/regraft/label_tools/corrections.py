"""Corrections of labels: what people said about photos, and a data set with the corrected labels.

In: rows, each about one photo that is known by its content. Out: `Corrections`, which are applied to a `Dataset`.
Why: labels are corrected while a classifier is looked at, and the user's photos must never be moved or changed for it.
Surprise: a row holds only as long as the source still gives the photo the label that the row corrects. A user who moves
the photo to another class folder later overrides the row.
"""

from __future__ import annotations

import csv
import io
import os
import re
import shutil
import uuid
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, dataclass, field, fields, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Literal, get_args

from regraft.errors import DataError
from regraft.foundation.files import naming, threads
from regraft.photos.dataset import Dataset, ImageRecord, record_of
from regraft.photos.images import Problem
from regraft.photos.sources.base import Entry, flaw_of_label, label_of, origin_of

Action = Literal["label", "exclude", "confirm", "undo"]
ACTIONS: tuple[Action, ...] = get_args(Action)

NAME = "corrections.csv"
"""The name of the table, beside the runs and in a run that was trained with corrections."""

_ID = re.compile(r"[0-9a-f]{32}")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:?\d\d)")
_ESCAPED = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\\]")
_MOST = 4000  # characters of a path, of a label or of a source


@dataclass(frozen=True, slots=True)
class Correction:
    """One row of the table: what a person said about one photo.

    Attributes:
        action: ``label`` gives the photo another label; ``exclude`` leaves the photo out; ``confirm`` says that a label
            is right; ``undo`` takes back an earlier row, also one that is an ``undo`` itself.
        digest: the SHA-256 digest of the photo's content, or of the original file from which a shard was made (64
            hexadecimal digits); for ``undo`` that of the row that is undone.
        was: the label that the source gives the photo; empty for a photo that the source does not have.
        label: the new label for ``label``; the confirmed label for ``confirm``, where empty means ``was``; the ``id``
            of the row that is undone for ``undo``; empty for ``exclude``.
        path: the path of the photo; absolute for a photo that the source does not have.
        source: the source of the run's photos, as its manifest records it. A row with an empty ``was`` adds its photo
            to runs of this source alone, or to every run beside the table if ``source`` is empty.
        id: a name of the row that no other row has (32 hexadecimal digits).
        time: the time at which the row was made (ISO 8601, UTC).
    """

    action: Action
    digest: str
    was: str = ""
    label: str = ""
    path: str = ""
    source: str = ""
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    time: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="milliseconds"))

    @property
    def flaw(self) -> str:
        """What is wrong with the row, as the end of a sentence; empty if nothing is."""
        if self.action not in ACTIONS:
            return f"has the action {self.action[:40]!r}; wanted {', '.join(ACTIONS)}"
        if not _ID.fullmatch(self.id) or not _TIME.fullmatch(self.time):
            return "has no id of 32 hexadecimal digits, or no time"
        if not origin_of(self.digest):
            return f"has the digest {self.digest[:80]!r}, which is not one of 64 hexadecimal digits"
        if max(len(self.was), len(self.label), len(self.path), len(self.source)) > _MOST:
            return f"has a cell of more than {_MOST:,} characters"
        if "\0" in self.path:
            return "has a path that no file can have"
        return self._flaw_of_labels()

    def _flaw_of_labels(self) -> str:
        """Return what is wrong with the labels of the row; empty if nothing is."""
        if self.action == "undo":
            return "" if _ID.fullmatch(self.label) else "does not name the row to undo"
        for name in ("was", "label"):
            label = getattr(self, name)
            if label and (flaw := flaw_of_label(label)):
                return f"has the label {label[:80]!r}, which {flaw}"
        if self.action == "label" and not self.label:
            return "gives no label"
        if not self.was and self.action != "exclude" and not (self.label and os.path.isabs(self.path)):  # noqa: PTH117
            return "adds a photo without a label or without its absolute path"
        return ""

    def to_line(self) -> bytes:
        """Return the row as one line of CSV in UTF-8, with its line break."""
        values = dict(zip((f.name for f in fields(self)), astuple(self), strict=True))
        return _line([_escaped(values[name]) for name in COLUMNS])


COLUMNS = ("id", "time", "action", "digest", "was", "label", "path", "source")


def _line(cells: list[str]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue().encode()


HEADER = _line(list(COLUMNS))


def _escaped(cell: str) -> str:
    """Return a cell without control characters, and so in one line: each is a backslash, u and four digits."""
    return _ESCAPED.sub(lambda found: f"\\u{ord(found[0]):04x}", cell)


def _unescaped(cell: str) -> str:
    return re.sub(r"\\u([0-9a-f]{4})", lambda found: chr(int(found[1], 16)), cell)


def row_of(line: bytes) -> Correction | str:
    """Return the row of a line; what is wrong with it, as the end of a sentence, if it is none."""
    try:
        cells = next(csv.reader([line.decode().rstrip("\r\n")], strict=True), [])
    except (UnicodeDecodeError, csv.Error) as error:
        return f"is damaged ({error})"
    if len(cells) != len(COLUMNS):
        return f"has {len(cells)} cells; wanted {len(COLUMNS)}"
    values = dict(zip(COLUMNS, map(_unescaped, cells), strict=True))
    values |= {name: label_of(values[name]) for name in ("was", "label")}
    row = Correction(**values)  # type: ignore[arg-type]  # `flaw` checks the action
    return row.flaw or row


@dataclass(frozen=True)
class Corrections:
    """Rows of corrections, in the order in which they were made.

    Attributes:
        rows: the rows, each with an ``id`` of its own.
        problems: the lines of the table that are no rows, with the reasons.
    """

    rows: tuple[Correction, ...] = ()
    problems: tuple[Problem, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.rows)

    def followed_by(self, later: Corrections) -> Corrections:
        """Return these rows and then those of ``later``; a row that is in both stands where ``later`` has it."""
        known = {row.id for row in later.rows}
        rows = (*(row for row in self.rows if row.id not in known), *later.rows)
        return Corrections(rows, (*self.problems, *later.problems))

    def of_source(self, source: str) -> Corrections:
        """Return the rows without those that add photos to runs of another source than ``source``."""
        rows = tuple(row for row in self.rows if row.was or row.source in ("", source))
        return replace(self, rows=rows)

    @cached_property
    def in_force(self) -> Mapping[tuple[str, str], Correction]:
        """By digest and source label of a photo, the last row about it that is not undone."""
        undone: set[str] = set()
        found: dict[tuple[str, str], Correction] = {}
        for row in reversed(self.rows):
            if row.id in undone:
                continue
            if row.action == "undo":
                undone.add(row.label)
            else:
                found.setdefault((row.digest, row.was), row)
        return dict(reversed(found.items()))

    @cached_property
    def confirmed(self) -> frozenset[tuple[str, str]]:
        """The digest and the label, after all corrections, of each photo whose label was confirmed."""
        rows = self.in_force.values()
        return frozenset((row.digest, row.label or row.was) for row in rows if row.action == "confirm")

    def of(self, record: ImageRecord) -> Correction | None:
        """Return the row in force about a photo with the label that its source gives it; None if there is none."""
        rows = self.in_force
        return rows.get((record.digest, record.label)) or rows.get((record.identity, record.label))

    def apply(self, dataset: Dataset, adds: bool = True) -> Dataset:
        """Return the data set with the corrected labels, without the excluded photos, and with the added photos.

        A corrected or confirmed label is certain, whatever probability the source gives it. A photo to add that is
        missing or has changed is among the ``problems`` of the result. A photo that the data set has already is not
        added. Classes keep their order; new classes come after them, sorted.

        Args:
            dataset: photos with the labels that their source gives them.
            adds: whether photos are added.

        Raises:
            DataError: no photo is left.
        """
        return self.applied(dataset, adds)[0]

    def applied(self, dataset: Dataset, adds: bool = True) -> tuple[Dataset, Corrections]:
        """Return what `apply` returns, and those rows in force that were about photos of the data set."""
        kept: list[ImageRecord] = []
        used: dict[str, Correction] = {}
        for record in dataset.records:
            row = self.of(record)
            if row is not None:
                used[row.id] = row
            if row is None or row.action != "exclude":
                kept.append(replace(record, label=row.label or record.label, probability=1.0) if row else record)
        added, problems = self._added(dataset, used) if adds else ([], [])
        if not (kept or added):
            raise DataError(f"the corrections leave out all {len(dataset.records)} photos; undo some of them")
        changed = replace(dataset, records=(*kept, *added), problems=(*dataset.problems, *problems))
        rows = tuple(row for row in self.in_force.values() if row.id in used)
        return changed.in_order(dataset.classes), Corrections(rows)

    def _added(self, dataset: Dataset, used: dict[str, Correction]) -> tuple[list[ImageRecord], list[Problem]]:
        """Return the photos that the rows add, and those that cannot be added; put their rows into ``used``."""
        known = {digest for record in dataset.records for digest in (record.digest, record.identity)}
        rows = [r for r in self.in_force.values() if not r.was and r.action != "exclude" and r.digest not in known]
        with ThreadPoolExecutor(threads()) as pool:
            found = list(pool.map(lambda row: record_of(Entry(Path(row.path), row.label)), rows))
        added: list[ImageRecord] = []
        problems: list[Problem] = []
        for row, record in zip(rows, found, strict=True):
            if isinstance(record, Problem):
                problems.append(record)
            elif record.digest != row.digest:
                problems.append(Problem(record.path, "is not the photo any more that was given a label"))
            else:
                added.append(record)
                used[row.id] = row
        return added, problems

    def write(self, path: Path) -> None:
        """Write a new table with these rows."""
        with naming(path):
            path.write_bytes(HEADER + b"".join(row.to_line() for row in self.rows))


def beside(run: Path) -> Path:
    """Return the path of the table that belongs to a run folder: in the folder that holds the run folder."""
    return Path(os.path.abspath(run)).parent / NAME  # noqa: PTH100 (resolve() would follow a link to the run)


def carry_corrections(run: Path, folder: Path) -> None:
    """Copy the corrections in a run, if there are any, into the folder of a run that is made from it."""
    if (run / NAME).exists():
        shutil.copyfile(run / NAME, folder / NAME)
