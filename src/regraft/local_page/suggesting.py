"""The unlabelled photos that are worth the most to label next, as the page offers them.

In: a run, and the folders of unlabelled photos from the command line. Out: batches of photos to label.
Why: a label costs a person's time, so that the page asks for those that teach the run the most.
Surprise: only photos that were offered can get a label, and their pictures alone are sent: no request names a path.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from time import monotonic
from typing import Any

from regraft.classifiers.classifier import Classifier, run_path
from regraft.exploring.next_photos import NextPhoto, NextPhotos, next_photos
from regraft.photos.dataset import ImageRecord

COUNT = 50
"""The number of photos that are offered together."""


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Photos that are offered together, or are being chosen.

    Attributes:
        since: when the choice was begun, on the clock `time.monotonic`.
        future: the photos.
    """

    since: float
    future: Future[NextPhotos]

    @property
    def seconds(self) -> float:
        """The seconds since the choice was begun."""
        return monotonic() - self.since


class Suggester:
    """The photos to label next, for all runs of a server. Any thread may call its methods.

    Args:
        folders: the folders of unlabelled photos.
    """

    def __init__(self, folders: Sequence[str]) -> None:
        self._folders = list(folders)
        self._lock = Lock()
        self._batches: dict[Path, Batch] = {}
        self._pool = ThreadPoolExecutor(1, "next")
        self.offered: dict[str, ImageRecord] = {}
        """The photos that were offered, by their digests."""

    @property
    def has_photos(self) -> bool:
        """Whether there are folders of unlabelled photos."""
        return bool(self._folders)

    def get(self, run: Classifier, anew: bool) -> Batch:
        """Return the photos to label next for a run, which are chosen if they were not or if ``anew``."""
        path = run_path(run).absolute()
        with self._lock:
            batch = self._batches.get(path)
            if batch is None or (batch.future.done() and (anew or batch.future.exception())):
                batch = Batch(monotonic(), self._pool.submit(self._chosen, run))
                self._batches = {path: batch}
            return batch

    def stop(self) -> None:
        """Choose no further photos."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _chosen(self, run: Classifier) -> NextPhotos:
        found = next_photos(self._folders, run, COUNT)
        self.offered |= {one.digest: ImageRecord(one.path, "", one.digest) for one in found.photos}
        return found


def offer(one: NextPhoto) -> dict[str, Any]:
    """Return a photo to label as JSON values, without the folder that it is in."""
    return {
        "digest": one.digest,
        "path": one.path.name.encode("utf-8", "backslashreplace").decode(),
        "why": one.why,
        "suggested": one.suggested,
        "probability": one.probability,
        "novelty": one.novelty,
    }
