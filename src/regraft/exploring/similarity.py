"""The photos that look most like a photo: the function `regraft.similar`.

In: a run, a folder or another source of photos, and the photos that are asked about. Out: for each of these the nearest
photos, with their labels.
Why: the photos beside which an answer stands say more about it than its probability; and copies are found as well.
Surprise: photos are compared by their features before any head, so that the classes of a run play no part.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regraft.backbones.base import Backbone
from regraft.backbones.side_by_side import stage_widths
from regraft.classifiers.classifier import MANY, Classifier, open_photos, sides_of
from regraft.classifiers.prediction import require_top
from regraft.classifiers.run_folder import is_run
from regraft.config.features import FeatureConfig
from regraft.engines.base import load_engines
from regraft.errors import ConfigError, DataError, option
from regraft.exploring.records import recorded, records_in
from regraft.features.backbone_choice import choose_backbone, require_backbone
from regraft.features.features import features_of
from regraft.features.neighbours import last_stage, nearest
from regraft.foundation.files import digest_bytes
from regraft.photos.dataset import Dataset, ImageRecord
from regraft.photos.sources.base import spec_of
from regraft.photos.unlabelled import Found, path_of, photos_in


@dataclass(frozen=True, slots=True)
class SimilarPhoto:
    """A photo that looks like the one that was asked about.

    Attributes:
        path: the path of the photo.
        label: the label of the photo; None where it has none.
        similarity: the cosine of the signed square roots of the features of both photos, -1..1; 1 for the same photo.
        same: whether both photos have the same bytes.
    """

    path: Path
    label: str | None
    similarity: float
    same: bool


@dataclass(frozen=True, slots=True)
class SimilarPhotos:
    """The photos that look most like one photo.

    Attributes:
        path: the path of the photo that was asked about.
        similar: the nearest photos, the most similar first; empty where the photo cannot be read.
        error: the reason why the photo cannot be read; None where it can be read.
    """

    path: Path
    similar: tuple[SimilarPhoto, ...] = ()
    error: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values, which name the path and either the error or the similar photos."""
        if self.error is not None:
            return {"path": str(self.path), "error": self.error}
        found = [
            {"path": str(one.path), "label": one.label, "similarity": one.similarity, "same": one.same}
            for one in self.similar
        ]
        return {"path": str(self.path), "similar": found}


def similar(
    where: Classifier | str | os.PathLike[str] | Dataset,
    asked: Any,
    top: int = 5,
    photos: str | os.PathLike[str] | None = None,
) -> list[SimilarPhotos]:
    """Return the photos of a run or of a source that look most like each of the photos that are asked about.

    Photos are compared by the last stage of the features of each backbone, exactly. Equally similar photos are in the
    order of the source. Features of the photos that are searched come from the cache or go to it, and so do those of
    files that are asked about.

    Args:
        where: what is searched: a classifier or the path of a run, for the photos that the run was trained and measured
            on, by its backbone; or photos as `embed` takes them, by the default backbone.
        asked: the photos that are asked about, as `predict` takes them: one or several files, folders, bytes, pixels.
        top: the number of similar photos for each photo, at least 1. There are fewer if fewer photos are searched.
        photos: where the photos of the run are now, if they were moved.

    Returns:
        One object for each photo that is asked about, in their order.

    Raises:
        ConfigError: ``top`` is not a whole number of at least 1, or ``photos`` is given without a run.
        DataError: there are no photos to search, or ``asked`` are no photos.
        RunError, BackboneError: the run cannot be read, or its backbone is not installed.
    """
    require_top(top)
    searched = _searched(where, photos)
    questions = [recorded(photo) for photo in photos_in(asked)]
    x, reasons = searched.features(searched.records)
    kept = [i for i in range(len(searched.records)) if i not in reasons]
    if not kept:
        raise DataError(f"none of the {len(searched.records)} photos can be read: {next(iter(reasons.values()))}")
    stages = stage_widths(searched.backbone)
    rows = last_stage(x[kept], stages)
    x, reasons = searched.features(questions)
    good = [i for i in range(len(questions)) if i not in reasons]
    found = zip(*nearest(rows, last_stage(x[good], stages), top), strict=True)
    answers = {
        i: _similar_to(questions[i], [searched.records[kept[row]] for row in row_numbers if row >= 0], values)
        for i, (row_numbers, values) in zip(good, found, strict=True)
    }
    return [SimilarPhotos(path_of(photo, i), answers.get(i, ()), reasons.get(i)) for i, photo in enumerate(questions)]


@dataclass(frozen=True, slots=True)
class _Searched:
    """The photos that are searched.

    Attributes:
        records: the photos.
        backbone: the backbone that computes features.
        features: the function that returns the features (N, D) of photos, and by the index of a photo that cannot be
            read, the reason.
    """

    records: Sequence[ImageRecord]
    backbone: Backbone
    features: Callable[[Sequence[Found]], tuple[NDArray[np.float32], dict[int, str]]]


def _searched(where: Classifier | str | os.PathLike[str] | Dataset, photos: Any) -> _Searched:
    """Return the photos to search. Raises the errors that `similar` raises."""
    if isinstance(where, Classifier):
        return _of_run(where, photos)
    if not isinstance(where, Dataset) and is_run(Path(spec_of(where)).expanduser()):
        return _of_run(Classifier.load(where), photos)
    if photos is not None:
        raise ConfigError(f"{where} is no run, whose photos may have moved; leave {option('photos')} out")
    config = FeatureConfig()
    require_backbone(config)
    records = records_in(where).records
    backbone = choose_backbone(config, records)

    def features(asked: Sequence[Found]) -> tuple[NDArray[np.float32], dict[int, str]]:
        return features_of(asked, load_engines(backbone, config, many=len(asked) >= MANY))

    return _Searched(records, backbone, features)


def _of_run(classifier: Classifier, photos: Any) -> _Searched:
    """Return the photos of a run's split, and its backbone."""
    dataset = open_photos(classifier, photos)
    sides = sides_of(classifier, dataset)
    records = [dataset.records[i] for i in sorted((*sides.train, *sides.val, *sides.test))]

    def features(asked: Sequence[Any]) -> tuple[NDArray[np.float32], dict[int, str]]:
        x, problems = classifier.features(asked)
        missing = np.flatnonzero(np.isnan(x[:, 0])).tolist()
        return x, {i: problem.reason for i, problem in zip(missing, problems, strict=True)}

    return _Searched(records, classifier.backbone, features)


def _similar_to(
    photo: Found, records: Sequence[ImageRecord], similarities: NDArray[np.float64]
) -> tuple[SimilarPhoto, ...]:
    """Return the records that are similar to a photo. Similarities beyond the number of records are those of none."""
    digest = photo.digest if isinstance(photo, ImageRecord) else digest_bytes(photo) if isinstance(photo, bytes) else ""
    return tuple(
        SimilarPhoto(record.path, record.label or None, similarity, digest in (record.digest, record.identity))
        for record, similarity in zip(records, similarities.tolist(), strict=False)
    )
