"""Feature extraction: photos to features, with a cache, so that each photo is computed only once.

In: records with content digests, and an engine. Out: `Features`, with one row for each readable photo.
Why: a run spends nearly all of its time here. A cache with content digests as keys survives renamed and relabelled
photos, and killed processes.
Surprise: a photo that cannot be decoded is found only here, not when the folder is listed. It becomes a `Problem` and
has no row of features.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from regraft.backbones.base import Backbone
from regraft.backbones.side_by_side import stage_widths
from regraft.engines.base import Engine
from regraft.features.computing import computed_records, computed_rows, decoded_while_waiting
from regraft.features.elsewhere import cluster_in_use, filled
from regraft.features.feature_cache import FeatureCache
from regraft.features.parts import LOOK, Part
from regraft.foundation import console
from regraft.foundation.large_arrays import BLOCK_ROWS, SCATTERED_ROWS, blocks_of, empty, give_back, row_blocks, take
from regraft.photos.dataset import Dataset, ImageRecord
from regraft.photos.images import Problem
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
        certainty: the probability of the class ``y`` of each photo, ``(N,)`` float32, where the labels are
            probabilities of two classes; the rest belongs to the other class. None where all labels are certain.
        scratch: whether who gets these features may write into ``x``, as nobody else reads it. It saves the memory of a
            copy, whose first use takes as long as the arithmetic.
    """

    x: NDArray[np.float32]
    y: NDArray[np.int64]
    classes: tuple[str, ...]
    digests: tuple[str, ...]
    backbone: str
    stages: tuple[tuple[int, ...], ...] = ()
    certainty: NDArray[np.float32] | None = None
    scratch: bool = False

    def select(self, indices: Sequence[int], scratch: bool = False) -> Features:
        """Return a copy of the features of the photos at ``indices``, in that order."""
        rows = np.asarray(indices, dtype=np.int64)
        digests = tuple(self.digests[i] for i in rows)
        certainty = None if self.certainty is None else self.certainty[rows]
        return replace(
            self, x=take(self.x, rows), y=self.y[rows], digests=digests, certainty=certainty, scratch=scratch
        )

    def targets(self) -> NDArray[np.float32]:
        """Return the probability of each class for each photo, ``(N, C)``: 1 or 0 where the labels are certain."""
        result = np.eye(len(self.classes), dtype=np.float32)[self.y]
        if self.certainty is not None:
            certainty = self.certainty[:, np.newaxis]
            result = certainty * result + (1 - certainty) * (1 - result)
        return result

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
    decoded = decoded_while_waiting([records[indices[0]] for indices in rows.values()], engine)
    cache = FeatureCache(engine.fingerprint, engine.backbone.num_features, engine.backbone.name)
    x = empty((len(records), engine.backbone.num_features))
    looks = np.zeros(len(records), LOOK)
    known: set[str] = set()

    def place(part: Part) -> None:
        known.update(part.digests)
        at = [(index, i) for i, digest in enumerate(part.digests) for index in rows[digest]]
        for block in row_blocks(len(at), SCATTERED_ROWS):
            targets, sources = np.array(at[block]).T
            x[targets], looks[targets] = part.x[sources], part.looks[sources]
            give_back(x)

    for part in cache.read(rows):
        place(part)
    away = filled([records[same[0]] for digest, same in rows.items() if digest not in known], engine, cache.folder)
    for part in cache.read(away.added):
        place(part)
    x[[index for digest, same in rows.items() if digest not in known for index in same]] = np.nan
    problems = [Problem(records[i].path, reason) for digest, reason in away.reasons.items() for i in rows[digest]]
    todo = [records[same[0]] for digest, same in rows.items() if digest not in known and digest not in away.reasons]
    with cache.writer() as write, console.progress("extracting features", len(todo)) as advance:
        for number, result in computed_records(todo, engine, decoded):
            digest = todo[number].digest
            if isinstance(result, str):
                problems += [Problem(records[i].path, result) for i in rows[digest]]
            else:
                known.add(digest)
                for index in rows[digest]:
                    x[index], looks[index] = result
                write(digest, result)
                if len(known) % BLOCK_ROWS == 0:
                    give_back(x)
            advance()
    failed = {problem.path for problem in problems}
    computed = away.computed + sum(record.path not in failed for record in todo)
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
        for number, row in _rows_of([photos[i] for i in others], engine):
            if isinstance(row, str):
                reasons[others[number]] = row
            else:
                x[others[number], begin:end] = row
    x[list(reasons)] = np.nan
    return x, reasons


def _rows_of(photos: Sequence[Found], engine: Engine) -> Iterator[tuple[int, NDArray[np.float32] | str]]:
    """Yield what `computed_rows` yields, from the cluster if one is in use."""
    if cluster := cluster_in_use():
        return cluster.compute(photos, engine)
    return computed_rows(engine, [loader(photo, engine.backbone.transform) for photo in photos])


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
    digests, stages = tuple(r.digest for r in dataset.records), stage_widths(backbone)
    return dataset, Features(x, y, dataset.classes, digests, backbone.name, stages, _certainty(dataset)), looks


def _certainty(dataset: Dataset) -> NDArray[np.float32] | None:
    """Return the probability of each photo's label, ``(N,)``; None if all are certain, or of more than two classes."""
    if len(dataset.classes) != 2 or all(r.probability == 1 for r in dataset.records):
        return None
    return np.array([r.probability for r in dataset.records], np.float32)
