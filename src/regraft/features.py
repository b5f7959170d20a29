"""Photos → features, each computed once, ever.

In: records with content digests, and an engine. Out: `Features`, one row a readable photo.
Why: nearly all of a run's time is here; what is cached by content survives renaming, relabelling and kills.
Surprise: a photo that cannot be decoded is found only here; it comes back as a `Problem`, not as a row.
"""

from __future__ import annotations

import queue
import threading
import uuid
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
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
from regraft._files import cache_folder
from regraft.accelerator import BATCH, AnyEngine, JaxEngine
from regraft.dataset import ImageRecord
from regraft.engine import Engine
from regraft.errors import ImageError
from regraft.images import Pixels, Problem, Transform

Loader = Callable[[], Pixels]

PART_ROWS = 256
AHEAD_BYTES = 192 * 2**20  # what may be decoded before the engine is ready
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
    cache = FeatureCache(engine.fingerprint, engine.backbone.num_features)
    rows: dict[str, list[int]] = defaultdict(list)
    for index, record in enumerate(records):
        rows[record.digest].append(index)
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
        loaders = [partial(_load_unchanged, records[i], engine.backbone.transform, looks[i : i + 1]) for i in todo]
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


def compute(loaders: Sequence[Loader], engine: AnyEngine) -> Iterator[tuple[int, NDArray[np.float32] | str]]:
    """Yield (index, features (D,), or the reason why not) for each photo as it is done, in any order.

    Each thread takes a photo all the way, from bytes to features. Decoding and
    inference both release the interpreter, so cores stay busy with no queue between two stages to balance; a
    few threads more than cores fill the gaps. While the engine is still being built, the threads decode ahead.

    Args:
        loaders: functions that return a photo's transformed pixels, or raise ImageError.
        engine: computes the features.
    """
    if isinstance(engine, JaxEngine):
        yield from _in_batches(loaders, engine)
        return
    workers = _Workers(loaders, engine)
    running = workers.start()
    try:
        while running:
            result = workers.results.get()
            if result is None:
                running -= 1
            elif isinstance(result, BaseException):
                raise result
            else:
                yield result
    finally:
        workers.stop()


def _in_batches(loaders: Sequence[Loader], engine: JaxEngine) -> Iterator[tuple[int, NDArray[np.float32] | str]]:
    """`compute` for an engine that takes batches: while one is at work the next ones are decoded."""
    at_work: tuple[list[int], Any] | None = None
    for batch in _decoding(loaders):
        decoded: list[tuple[int, Pixels]] = []
        for index, future in batch:
            try:
                decoded.append((index, future.result()))
            except ImageError as error:
                yield index, str(error)
        if decoded:
            launched = [i for i, _ in decoded], engine.launch(np.stack([pixels for _, pixels in decoded]))
            yield from _rows(at_work)
            at_work = launched
    yield from _rows(at_work)


def _decoding(loaders: Sequence[Loader]) -> Iterator[list[tuple[int, Future[Pixels]]]]:
    """Batches of photos that are being decoded, two more than the one that is yielded."""
    waiting: deque[list[tuple[int, Future[Pixels]]]] = deque()
    with ThreadPoolExecutor() as pool:
        for start in range(0, len(loaders), BATCH):
            numbers = range(start, min(start + BATCH, len(loaders)))
            waiting.append([(i, pool.submit(loaders[i])) for i in numbers])
            if len(waiting) > 2:
                yield waiting.popleft()
        yield from waiting


def _rows(batch: tuple[list[int], Any] | None) -> Iterator[tuple[int, NDArray[np.float32]]]:
    if batch is not None:
        yield from zip(batch[0], np.asarray(batch[1]), strict=True)


class _Workers:
    """The threads behind `compute`. ``results`` gets each photo's result, an error of theirs, and None from each."""

    def __init__(self, loaders: Sequence[Loader], engine: Engine) -> None:
        self.results: queue.SimpleQueue[tuple[int, NDArray[np.float32] | str] | BaseException | None]
        self.results = queue.SimpleQueue()
        self._jobs, self._lock = iter(enumerate(loaders)), threading.Lock()
        self._engine = engine
        self._ahead: deque[tuple[int, Pixels]] = deque()
        self._stopped = threading.Event()
        count = min(len(loaders), engine.workers)
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(count)]

    def start(self) -> int:
        """Start the threads; how many there are."""
        for thread in self._threads:
            thread.start()
        return len(self._threads)

    def stop(self) -> None:
        """End the threads after the photos they are at, and wait for that."""
        self._stopped.set()
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        try:
            for index, pixels in self._decoded():
                self._ahead.append((index, pixels))
                if not self._engine.starting or len(self._ahead) * pixels.nbytes > AHEAD_BYTES:
                    self._run_what_is_decoded()
            self._run_what_is_decoded()
        except BaseException as error:  # carried to the caller's thread, which raises it
            self.results.put(error)
        finally:
            self.results.put(None)

    def _decoded(self) -> Iterator[tuple[int, Pixels]]:
        while not self._stopped.is_set():
            with self._lock:
                index, loader = next(self._jobs, (-1, None))
            if loader is None:
                return
            try:
                yield index, loader()
            except ImageError as error:
                self.results.put((index, str(error)))

    def _run_what_is_decoded(self) -> None:
        while not self._stopped.is_set():
            try:
                index, pixels = self._ahead.popleft()
            except IndexError:  # another thread took the last
                return
            self.results.put((index, self._engine.run(pixels)))


def _load_unchanged(record: ImageRecord, transform: Transform, look: NDArray[np.void]) -> Pixels:
    """The record's pixels; ``look`` (1,) gets the rest."""
    seen = record.look(transform)
    look[0] = (seen.thumbnail, seen.width, seen.height)
    return seen.pixels


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
