"""The reports of the runs that a server serves, made when they are first looked at, and kept in memory.

In: a run. Out: the data of its report, as JSON in bytes, with what the page needs to correct a label.
Why: a report takes seconds, and the page must stay usable meanwhile.
Surprise: one report is made at a time, in a thread of its own, and only the newest few are kept: one may have 12 MB.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from time import monotonic

from regraft.classifiers.classifier import Classifier, run_path
from regraft.classifiers.run_folder import read_split
from regraft.local_page.correcting import Corrector
from regraft.reporting.report_building import BuiltReport, build

_KEPT = 3  # reports in memory


@dataclass(frozen=True, slots=True, eq=False)
class Making:
    """A report that is being made, or is there.

    Attributes:
        photos: the number of photos of the run.
        since: when the report was begun, on the clock `time.monotonic`.
        future: the JSON of the report.
    """

    photos: int
    since: float
    future: Future[bytes]

    @property
    def seconds(self) -> float:
        """The seconds since the report was begun."""
        return monotonic() - self.since


class RunReports:
    """The reports of the runs of a server. Any thread may call its methods."""

    def __init__(self, corrector: Corrector) -> None:
        self._corrector = corrector
        self._lock = Lock()
        self._made: OrderedDict[Path, Making] = OrderedDict()
        self._pool = ThreadPoolExecutor(1, "report")

    def get(self, run: Classifier) -> Making:
        """Return the report of a run, which is begun if it is not there; one that failed is begun anew.

        Raises:
            RunError: the run is damaged.
        """
        path = run_path(run).absolute()
        with self._lock:
            found = self._made.get(path)
            if found is None or (found.future.done() and found.future.exception() and found.seconds > 1):
                split = read_split(path)
                photos = len({*split.train, *split.val, *split.test})
                found = Making(photos, monotonic(), self._pool.submit(self._json_of, run))
                self._made[path] = found
            self._made.move_to_end(path)
            while len(self._made) > _KEPT:
                self._made.popitem(last=False)
            return found

    def stop(self) -> None:
        """Begin no further report."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _json_of(self, run: Classifier) -> bytes:
        photos = self._corrector.photos(run)
        return report_json(build(run), photos.by_path())


def report_json(made: BuiltReport, source: dict[str, str]) -> bytes:
    """Return the data of a report as JSON, with the digest and the label in the source of each photo.

    Args:
        made: the report.
        source: by path, the label that the source gives a photo; photos that the source does not have were added by
            corrections.
    """
    records = [made.facts.dataset.records[i] for i in made.drawn.chosen]
    photos = {
        **made.data["photos"],
        "digest": [record.digest for record in records],
        "was": [source.get(str(record.path), "") for record in records],
    }
    return json.dumps({**made.data, "photos": photos}, ensure_ascii=False, allow_nan=False).encode()
