"""Feature extraction: photos to features, with a cache, so that each photo is computed only once.

In: records with content digests, and an engine. Out: `Features`, with one row for each readable photo.
Why: a run spends nearly all of its time here. A cache with content digests as keys survives renamed and relabelled
photos, and killed processes.
Surprise: a photo that cannot be decoded is found only here, not when the folder is listed. It becomes a `Problem` and
has no row of features.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from regraft.backbones.base import Backbone
from regraft.backbones.side_by_side import stage_widths
from regraft.engines.base import AHEAD_BYTES, Engine, Loader
from regraft.errors import ImageError
from regraft.features.feature_cache import FeatureCache
from regraft.features.parts import LOOK
from regraft.foundation import console
from regraft.foundation.files import threads
from regraft.foundation.large_arrays import BLOCK_ROWS, blocks_of, empty, give_back, take
from regraft.photos.dataset import Dataset, ImageRecord
from regraft.photos.images import Look, Pixels, Problem, Transform
from regraft.photos.unlabelled import Found, loader


@dataclass(frozen=True, slots=True)
class Features:
    """The features of N photos, with their class indices.

    Attributes:
        x: the features, ``(N, D)`` float32.
        y: the class indices, ``(N,)`` int64.
        classes: the labels, ordered by class index.
        digests: the content digests of the N photos.
        backbone: the full name of the backbone that computed the features.
        stages: the number of features of each stage, for each backbone whose features stand side by side (usually
            one), in the order of the columns; empty if unknown.
    """

    x: NDArray[np.float32]
    y: NDArray[np.int64]
    classes: tuple[str, ...]
    digests: tuple[str, ...]
    backbone: str
    stages: tuple[tuple[int, ...], ...] = ()

    def select(self, indices: Sequence[int]) -> Features:
        """Return the features of the photos at ``indices``, in that order."""
        rows = np.asarray(indices, dtype=np.int64)
        return replace(self, x=take(self.x, rows), y=self.y[rows], digests=tuple(self.digests[i] for i in rows))

    def __len__(self) -> int:
        return len(self.y)


@dataclass(frozen=True, slots=True)
class Extraction:
    """The result of `extract`.

    Attributes:
        x: the features, ``(N, D)`` float32, one row for each record, in the order of the records. A row is NaN if the
            photo cannot be read.
        looks: the thumbnail, width and height of each photo, ``(N,)`` of `LOOK`.
        problems: the photos that cannot be read, each with the reason.
        computed: the number of photos that the backbone computed.
        cached: the number of photos whose features were already known. It includes byte-equal copies of a photo.
    """

    x: NDArray[np.float32]
    looks: NDArray[np.void]
    problems: tuple[Problem, ...]
    computed: int
    cached: int


def extract(records: Sequence[ImageRecord], engine: Engine) -> Extraction:
    """Return the features of ``records``, from the cache where it has them, else computed and added to the cache.

    New features are written to the cache after every 256 photos or 5 seconds. A process that is killed loses only the
    features since the last write.

    Args:
        records: the N photos.
        engine: computes the features of a backbone.

    Raises:
        BackboneError: the backbone cannot be built. A photo that cannot be read raises no error.
    """
    rows: dict[str, list[int]] = defaultdict(list)
    for index, record in enumerate(records):
        rows[record.digest].append(index)
    decoded = _decoded_while_waiting([records[indices[0]] for indices in rows.values()], engine)
    cache = FeatureCache(engine.fingerprint, engine.backbone.num_features, engine.backbone.name)
    x = empty((len(records), engine.backbone.num_features))
    looks = np.zeros(len(records), LOOK)
    known: set[str] = set()
    for digest, (values, look) in cache.read(rows):
        known.add(digest)
        for row in rows[digest]:
            x[row], looks[row] = values, look
        if len(known) % BLOCK_ROWS == 0:
            give_back(x)
    x[[row for digest, same in rows.items() if digest not in known for row in same]] = np.nan
    todo = [indices[0] for digest, indices in rows.items() if digest not in known]
    problems: list[Problem] = []
    with cache.writer() as write, console.progress("extracting features", len(todo)) as advance:
        loaders = [
            partial(
                decoded.pop(records[i].digest, _load_unchanged), records[i], engine.backbone.transform, looks[i : i + 1]
            )
            for i in todo
        ]
        for number, result in computed_rows(engine, loaders):
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


def extract_all(records: Sequence[ImageRecord], engines: Sequence[Engine]) -> Extraction:
    """Return the features of several backbones side by side, each of them computed and cached as `extract` does.

    Args:
        records: the N photos.
        engines: the engines of the backbones, at least one.

    Returns:
        The features ``(N, D)`` over all backbones. A photo that one of them cannot take has no row. A photo counts as
        computed if a backbone computed it.

    Raises:
        BackboneError: a backbone cannot be built. A photo that cannot be read raises no error.
    """
    found = [extract(records, engine) for engine in engines]
    if len(found) == 1:
        return found[0]
    x = empty((len(records), sum(part.x.shape[1] for part in found)))
    for block, rows in blocks_of(x):
        rows[...] = np.concatenate([part.x[block] for part in found], axis=1)
        rows[np.isnan(rows).any(axis=1)] = np.nan
    problems = tuple({problem.path: problem for part in found for problem in part.problems}.values())
    computed = max(part.computed for part in found)
    return Extraction(x, found[0].looks, problems, computed, len(records) - computed - len(problems))


def features_of(photos: Sequence[Found], engines: Sequence[Engine]) -> tuple[NDArray[np.float32], dict[int, str]]:
    """Return the features of photos of any kind: those of records by way of the cache, all others computed.

    Args:
        photos: the N photos.
        engines: the engines of the backbones, at least one.

    Returns:
        The features ``(N, D)``, with a row of NaN for each photo that cannot be read; and by the index of such a photo,
        the reason.

    Raises:
        BackboneError: a backbone cannot be built.
    """
    x = np.full((len(photos), sum(engine.backbone.num_features for engine in engines)), np.nan, np.float32)
    reasons: dict[int, str] = {}
    records = {i: photo for i, photo in enumerate(photos) if isinstance(photo, ImageRecord)}
    if records:
        found = extract_all(list(records.values()), engines)
        x[list(records)] = found.x
        why = {problem.path: problem.reason for problem in found.problems}
        reasons |= {i: why[record.path] for i, record in records.items() if np.isnan(x[i, 0])}
    others = [i for i in range(len(photos)) if i not in records]
    end = 0
    for engine in engines if others else ():
        begin, end = end, end + engine.backbone.num_features
        loaders = [loader(photos[i], engine.backbone.transform) for i in others]
        for number, row in computed_rows(engine, loaders):
            if isinstance(row, str):
                reasons[others[number]] = row
            else:
                x[others[number], begin:end] = row
    x[list(reasons)] = np.nan
    return x, reasons


def computed_rows(engine: Engine, loaders: Sequence[Loader]) -> Iterator[tuple[int, NDArray[np.float32] | str]]:
    """Compute features as `Engine.compute` does; a row with a number that is not finite is a reason in place of a row.

    Args:
        engine: computes the features of a backbone.
        loaders: the functions that return the pixels of the photos.

    Yields:
        The number of a photo, and its features (D,) or the reason why it has none, in any order.
    """
    for number, row in engine.compute(loaders):
        whole = isinstance(row, str) or bool(np.isfinite(row).all())
        yield number, row if whole else "the network gives numbers for it that are not finite"


Load = Callable[[ImageRecord, Transform, NDArray[np.void]], Pixels]
"""A function that returns the pixels of a record, and writes its thumbnail, width and height to the third argument,
an array (1,) of `LOOK`."""


def labelled_features(
    dataset: Dataset, extraction: Extraction, backbone: Backbone
) -> tuple[Dataset, Features, NDArray[np.void]]:
    """Return the photos that could be decoded, with their labels and their features.

    Args:
        dataset: a dataset of N records.
        extraction: the result of `extract` for these N records.
        backbone: the backbone that computed the features.

    Returns:
        The dataset of the M decoded records, their features ``(M, D)``, and their thumbnails and sizes ``(M,)`` of
        `LOOK`, in the same order.
    """
    x, looks = extraction.x, extraction.looks
    kept = ~np.isnan(x[:, 0])
    give_back(x)
    if not kept.all():
        dataset, x, looks = dataset.without(extraction.problems), take(x, np.flatnonzero(kept)), looks[kept]
    index = {label: i for i, label in enumerate(dataset.classes)}
    y = np.array([index[r.label] for r in dataset.records], np.int64)
    digests = tuple(r.digest for r in dataset.records)
    return dataset, Features(x, y, dataset.classes, digests, backbone.name, stage_widths(backbone)), looks


def _load_unchanged(record: ImageRecord, transform: Transform, look: NDArray[np.void]) -> Pixels:
    """Read and decode a photo and return its pixels: the default `Load`. Raises ImageError."""
    return _keep(record.look(transform), look)


def _keep(source: Look, look: NDArray[np.void]) -> Pixels:
    """Return the pixels of a decoded photo, and write its thumbnail and its size to ``look``, (1,) of `LOOK`."""
    look[0] = (source.thumbnail, source.width, source.height)
    return source.pixels


def _hand_over(source: Look, _record: ImageRecord, _transform: Transform, look: NDArray[np.void]) -> Pixels:
    """Return the pixels of a photo that was decoded before. This function is a `Load` once ``source`` is bound."""
    return _keep(source, look)


def _decoded_while_waiting(records: Sequence[ImageRecord], engine: Engine) -> dict[str, Load]:
    """Decode photos on the other cores while a new engine builds and times its backbone.

    A new engine has no features in the cache, so all decoded photos will be needed.

    Args:
        records: photos with distinct digests, in the order in which they will be computed.
        engine: the engine. If it is not new, no photo is decoded.

    Returns:
        For each photo that was decoded meanwhile, by its digest, a function that returns the pixels.
    """
    done: dict[str, Load] = {}
    if not engine.is_new:
        return done
    size, ready = engine.backbone.transform.size, threading.Event()
    waiting = iter(records[: AHEAD_BYTES // (size * size * 3)])

    def work() -> None:
        for record in waiting:
            if ready.is_set():
                return
            with suppress(ImageError):  # the photo is decoded again in its turn, which reports the error
                done[record.digest] = partial(_hand_over, record.look(engine.backbone.transform))

    workers = [threading.Thread(target=work, daemon=True) for _ in range(max(1, threads() - 1))]
    for thread in workers:
        thread.start()
    try:
        engine.fingerprint  # noqa: B018  (computing the fingerprint builds and times the backbone)
    finally:
        ready.set()
        for thread in workers:
            thread.join()
    return done
