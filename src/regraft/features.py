"""Photos → features, each computed once, ever.

In: records with content digests, and an engine. Out: `Features`, one row a readable photo.
Why: nearly all of a run's time is here; what is cached by content survives renaming, relabelling and kills.
Surprise: a photo that cannot be decoded is found only here; it comes back as a `Problem`, not as a row.
"""

from __future__ import annotations

import threading
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regraft import _console
from regraft._cache import set_aside
from regraft._feature_parts import LOOK, DamagedPartError, Part, Row, read_part, write_part
from regraft._files import cache_folder, threads
from regraft.accelerator import AnyEngine, JaxEngine
from regraft.computing import AHEAD_BYTES, compute
from regraft.dataset import ImageRecord
from regraft.errors import ImageError
from regraft.images import Look, Pixels, Problem, Transform

PART_ROWS = 256
PART_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Features:
    """Feature rows and what they belong to.

    Attributes:
        x: ``(N, D)`` float32.
        y: ``(N,)`` int64 class indices.
        classes: the labels, in index order.
        digests: the N photos' digests.
        backbone: the full name of what computed them.
    """

    x: NDArray[np.float32]
    y: NDArray[np.int64]
    classes: tuple[str, ...]
    digests: tuple[str, ...]
    backbone: str

    def select(self, indices: Sequence[int]) -> Features:
        """The rows at ``indices``, in that order."""
        rows = np.asarray(indices, dtype=np.int64)
        return Features(self.x[rows], self.y[rows], self.classes, tuple(self.digests[i] for i in rows), self.backbone)

    def __len__(self) -> int:
        return len(self.y)


@dataclass(frozen=True, slots=True)
class Extraction:
    """What `extract` did.

    Attributes:
        x: ``(N, D)`` float32, a row for each record, in their order; NaN where the photo cannot be read.
        looks: ``(N,)`` of `LOOK`: thumbnail, width and height.
        problems: the photos that cannot be read.
        computed: photos that went through the backbone.
        cached: photos whose features were known, byte-equal twins included.
    """

    x: NDArray[np.float32]
    looks: NDArray[np.void]
    problems: tuple[Problem, ...]
    computed: int
    cached: int


def extract(records: Sequence[ImageRecord], engine: AnyEngine) -> Extraction:
    """Features of ``records``: from the cache where they are known, else computed and cached.

    What is computed is written every 256 photos or 5 seconds; a kill loses what is younger than that.

    Raises:
        BackboneError: the backbone cannot be built. A bad photo never raises.
    """
    rows: dict[str, list[int]] = defaultdict(list)
    for index, record in enumerate(records):
        rows[record.digest].append(index)
    decoded = _decoded_while_waiting([records[found[0]] for found in rows.values()], engine)
    cache = FeatureCache(engine.fingerprint, engine.backbone.num_features)
    x = np.full((len(records), engine.backbone.num_features), np.nan, np.float32)
    looks = np.zeros(len(records), LOOK)
    known: set[str] = set()
    for digest, (values, look) in cache.read(rows):
        known.add(digest)
        for row in rows[digest]:
            x[row], looks[row] = values, look
    todo = [indices[0] for digest, indices in rows.items() if digest not in known]
    problems: list[Problem] = []
    with cache.writer() as write, _console.progress("extracting features", len(todo)) as advance:
        loaders = [
            partial(
                decoded.pop(records[i].digest, _load_unchanged), records[i], engine.backbone.transform, looks[i : i + 1]
            )
            for i in todo
        ]
        for number, result in compute(loaders, engine):
            index = todo[number]
            same = rows[records[index].digest]
            if isinstance(result, str):
                problems += [Problem(records[i].path, result) for i in same]
            else:
                for row in same:
                    x[row], looks[row] = result, looks[index]
                write(records[index].digest, (result, looks[index]))
            advance()
    failed = {problem.path for problem in problems}
    computed = sum(records[i].path not in failed for i in todo)
    return Extraction(x, looks, tuple(problems), computed, len(records) - computed - len(problems))


Load = Callable[[ImageRecord, Transform, NDArray[np.void]], Pixels]
"""Returns a record's pixels, and writes the rest of what is kept of it into the third argument, (1,) of `LOOK`."""


def _load_unchanged(record: ImageRecord, transform: Transform, look: NDArray[np.void]) -> Pixels:
    return _keep(record.look(transform), look)


def _keep(seen: Look, look: NDArray[np.void]) -> Pixels:
    look[0] = (seen.thumbnail, seen.width, seen.height)
    return seen.pixels


def _hand_over(seen: Look, _record: ImageRecord, _transform: Transform, look: NDArray[np.void]) -> Pixels:
    return _keep(seen, look)


def _decoded_while_waiting(records: Sequence[ImageRecord], engine: AnyEngine) -> dict[str, Load]:
    """Decode photos on all other cores while a new engine is built and timed; then nothing is in the cache for it.

    Returns:
        For the photos that were decoded meanwhile, by their digest, what gives their pixels.
    """
    done: dict[str, Load] = {}
    if isinstance(engine, JaxEngine) or not engine.is_new:
        return done
    size, ready = engine.backbone.transform.size, threading.Event()
    waiting = iter(records[: AHEAD_BYTES // (size * size * 3)])

    def work() -> None:
        for record in waiting:
            if ready.is_set():
                return
            with suppress(ImageError):  # it is met again, and told, when its turn comes
                seen = record.look(engine.backbone.transform)
                done[record.digest] = partial(_hand_over, seen)

    workers = [threading.Thread(target=work, daemon=True) for _ in range(max(1, threads() - 1))]
    for thread in workers:
        thread.start()
    try:
        engine.fingerprint  # noqa: B018  (asking for it is what takes the time)
    finally:
        ready.set()
        for thread in workers:
            thread.join()
    return done


class FeatureCache:
    """Parquet part files of one engine's features, keyed by content digest.

    Each part is written under a temporary name and renamed, so a reader never meets half of one; a part that is
    damaged all the same is set aside with a warning, and its photos are computed again. Processes may share the folder:
    they add parts, and never change one.

    Args:
        fingerprint: the engine's; rows of another never mix in.
        num_features: D.
    """

    def __init__(self, fingerprint: str, num_features: int) -> None:
        self.folder = cache_folder("features") / fingerprint[:32]
        self._fingerprint = fingerprint
        self._num_features = num_features

    def read(self, wanted: Iterable[str]) -> Iterator[tuple[str, Row]]:
        """Yield (digest, row) for those of ``wanted`` that are known, each once."""
        missing = set(wanted)
        for path in sorted(self.folder.glob("part-*.parquet")):
            if not missing:
                return
            part = self._read_part(path, missing)
            if part is not None:
                for i, digest in enumerate(part.digests):
                    if digest in missing:
                        missing.discard(digest)
                        yield digest, (part.x[i], part.looks[i])

    def known(self, wanted: Iterable[str]) -> set[str]:
        """Those of ``wanted`` that `read` would find."""
        return {digest for digest, _ in self.read(wanted)}

    def _read_part(self, path: Path, missing: set[str]) -> Part | None:
        try:
            return read_part(path, self._fingerprint, self._num_features, missing)
        except FileNotFoundError:  # another process cleared the cache
            return None
        except DamagedPartError as error:
            set_aside(path, str(error))
            return None

    def writer(self) -> _Writer:
        """A context whose value is a function ``write(digest, row)``."""
        return _Writer(self)

    def write_part(self, digests: list[str], rows: list[Row]) -> None:
        """Write one part file: ``digests`` and their ``rows``."""
        write_part(self.folder / f"part-{uuid.uuid4().hex}.parquet", self._fingerprint, digests, rows)


class _Writer:
    """Collects rows and writes a part when one is full or old, and at the end, also when stopped half way."""

    def __init__(self, cache: FeatureCache) -> None:
        self._cache = cache
        self._digests: list[str] = []
        self._rows: list[Row] = []
        self._since = 0.0

    def __enter__(self) -> _Writer:
        return self

    def __call__(self, digest: str, row: Row) -> None:
        if not self._rows:
            self._since = monotonic()  # not while the engine starts
        self._digests.append(digest)
        self._rows.append(row)
        if len(self._rows) >= PART_ROWS or monotonic() - self._since > PART_SECONDS:
            self._flush()

    def __exit__(self, *_: Any) -> None:
        self._flush()

    def _flush(self) -> None:
        if self._rows:
            self._cache.write_part(self._digests, self._rows)
            self._digests, self._rows = [], []
