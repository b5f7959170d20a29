"""The photos of a run by their content, and the corrections of their labels that the page makes.

In: a run, and what a person says about one of its photos. Out: rows of the table of corrections beside the run.
Why: only a photo that the run or the page knows can be corrected, whatever a request names, and no file but the table
changes.
Surprise: runs of the same photos share one list of photos, which is made when it is first needed.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

from regraft.classifiers.classifier import Classifier, run_path
from regraft.classifiers.run_folder import LAYOUT
from regraft.errors import DataError, RegraftError
from regraft.label_tools.correction_table import append, read_corrections
from regraft.label_tools.corrections import Correction, Corrections, beside
from regraft.photos.dataset import Dataset, ImageRecord, takes_levels
from regraft.photos.sources.base import label_of

_SOURCES = 4  # lists of photos that are kept in memory
_TABLES = 8  # tables of corrections that are kept in memory


class UnknownPhotoError(RegraftError):
    """A request names a photo or a correction that the page did not show."""


@dataclass(frozen=True, slots=True, eq=False)
class SourcePhotos:
    """The photos of a run's source, with the labels that the source gives them.

    Attributes:
        dataset: the photos, without any corrections.
        known: each photo by its digest and its label.
    """

    dataset: Dataset
    known: Mapping[tuple[str, str], ImageRecord]

    def by_path(self) -> dict[str, str]:
        """Return the label in the source of each photo, by its path."""
        return {str(record.path): record.label for record in self.dataset.records}


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a person says about a photo, as `Correction` has it: the action, the photo, and the new label."""

    action: str
    digest: str
    was: str
    label: str


class Corrector:
    """The corrections of all runs of a server. Its methods read and write files, and any thread may call them."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._sources: OrderedDict[tuple[str, ...], SourcePhotos] = OrderedDict()
        self._tables: OrderedDict[tuple[Any, ...], Corrections] = OrderedDict()

    def photos(self, run: Classifier) -> SourcePhotos:
        """Return the photos of a run's source.

        Raises:
            DataError: the source is not there any more.
            RunError: the run does not say where its photos are.
        """
        source = run.source
        if not source:
            raise DataError(f"{run.path} does not say where its photos are, so that they cannot be corrected")
        levels = (run.config.label_from, run.config.group_from) if takes_levels(source) else ()
        key = (source, *map(str, levels))
        with self._lock:
            if key not in self._sources:
                dataset = Dataset.open(source, *levels)
                known = {(record.digest, record.label): record for record in dataset.records}
                _keep(self._sources, key, SourcePhotos(dataset, known), _SOURCES)
            return self._sources[key]

    def forget_photos(self) -> None:
        """List the photos of all sources anew when they are next needed, as photos may have been added."""
        with self._lock:
            self._sources.clear()

    def rows(self, run: Classifier) -> Corrections:
        """Return the corrections of a run: those that it was trained with, and then those beside it.

        Raises:
            DataError: the table is damaged.
        """
        folder = run_path(run)
        later = self._read(beside(folder)).of_source(run.source)
        return self._read(folder / LAYOUT.corrections).followed_by(later)

    def _read(self, path: Path) -> Corrections:
        """Return the rows of a table, which is read again only if it has changed."""
        try:
            stamp = path.stat()
        except FileNotFoundError:
            return Corrections()
        key = (str(path), stamp.st_mtime_ns, stamp.st_size, stamp.st_ino)
        with self._lock:
            if key not in self._tables:
                _keep(self._tables, key, read_corrections(path), _TABLES)
            return self._tables[key]

    def add(self, run: Classifier, wanted: Wanted, offered: Mapping[str, ImageRecord]) -> Correction:
        """Add a correction of a photo to the table beside a run, and return its row, which is then on the disk.

        Args:
            run: the run.
            wanted: what the person says.
            offered: the photos without a label that the page offered, by digest; these alone may have an empty ``was``.

        Raises:
            UnknownPhotoError: the run has no such photo, and the page offered none.
            ConfigError: the action or the label is not possible.
            DataError: the table is damaged or full.
            OSError: the table cannot be written.
        """
        known = self.photos(run).known
        record = known.get((wanted.digest, wanted.was)) if wanted.was else offered.get(wanted.digest)
        if record is None:
            raise UnknownPhotoError("this is none of the photos that the page shows; load the page again")
        path = record.path if wanted.was else record.path.absolute()
        action: Any = wanted.action  # `append` checks it
        row = Correction(action, wanted.digest, wanted.was, label_of(wanted.label), str(path), run.source)
        append(beside(run_path(run)), row)
        return row

    def undo(self, run: Classifier, wanted: str) -> Correction:
        """Take back a row of a run's corrections by its ``id``, and return the row that does so.

        Raises:
            UnknownPhotoError: there is no such row.
            DataError: the table is damaged or full.
            OSError: the table cannot be written.
        """
        found = next((row for row in self.rows(run).rows if row.id == wanted), None)
        if found is None:
            raise UnknownPhotoError("there is no such correction; load the page again")
        row = Correction("undo", found.digest, found.was, found.id, found.path, found.source)
        append(beside(run_path(run)), row)
        return row

    def news(self, run: Classifier, newest: Classifier, since: int) -> dict[str, Any]:
        """Return as JSON values what was corrected after the first ``since`` rows, and what a new run would change.

        Args:
            run: the run that is looked at.
            newest: the run from which a new one would be trained.
            since: the number of rows that the page knows already.

        Returns:
            ``count``: the number of all rows; ``rows``: the rows after the first ``since``, or all where there are
            fewer; ``pending``: the number of photos that a new run would have otherwise than the newest.
        """
        rows = self.rows(run)
        start = since if since <= len(rows.rows) else 0
        known = self.photos(run).known
        new = [row for row in rows.rows[start:] if not row.was or (row.digest, row.was) in known]
        return {
            "count": len(rows.rows),
            "start": start,
            "rows": [_told(row) for row in new],
            "pending": self._pending(newest, known),
        }

    def _pending(self, run: Classifier, known: Mapping[tuple[str, str], ImageRecord]) -> int:
        """Return the number of photos that a new run would have otherwise than a run."""
        own, now = (_effects(found) for found in (self._read(run_path(run) / LAYOUT.corrections), self.rows(run)))
        keys = {key for key in own.keys() | now.keys() if not key[1] or key in known}
        return sum(own.get(key) != now.get(key) for key in keys)


def _told(row: Correction) -> dict[str, str]:
    """Return a row as JSON values, without the folder that the photo is in."""
    name = Path(row.path).name.encode("utf-8", "backslashreplace").decode()
    return {"path": name, **{key: getattr(row, key) for key in ("id", "action", "digest", "was", "label")}}


def _effects(rows: Corrections) -> dict[tuple[str, str], str]:
    """Return what becomes of each photo whose label or place in the training changes: its label, empty if left out."""
    found = {}
    for key, row in rows.in_force.items():
        label = "" if row.action == "exclude" else row.label or row.was
        if label != row.was:
            found[key] = label
    return found


def _keep(kept: OrderedDict[Any, Any], key: Any, value: Any, most: int) -> None:
    """Keep a value in a dict that holds the newest few."""
    kept[key] = value
    while len(kept) > most:
        kept.popitem(last=False)
