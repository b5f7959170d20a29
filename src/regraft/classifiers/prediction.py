"""A predictor and photos → the most probable classes of each photo.

In: a predictor, and whatever `photos_in` takes. Out: a `Prediction` for each photo, in the order of the photos.
Why: photos to answer come as files, folders, bytes or pixels, and one function takes all of these.
Surprise: a file that cannot be read gets a `Prediction` too, which holds the error; all others are answered.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from regraft.classifiers.calibration import is_novel
from regraft.classifiers.classifier import MANY
from regraft.classifiers.intervals import wilson_interval
from regraft.classifiers.predictor import Predictor
from regraft.drawing.html import displayed_by
from regraft.errors import ConfigError, DataError, option
from regraft.features.elsewhere import photos_at_once
from regraft.foundation.files import kind_of
from regraft.photos.dataset import ImageRecord
from regraft.photos.images import Problem
from regraft.photos.sources.base import Entry
from regraft.photos.unlabelled import Found, path_of, photos_in

CHUNK = 64
"""The number of photos that are answered at once; more with a cluster. Memory grows with this number and not with the
number of photos."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """The answer to one photo.

    Attributes:
        path: the path of the photo.
        top: (label, probability) pairs, the most probable first; empty where the photo cannot be read.
        novel: whether the answer is "none of these" in place of ``top``, because the photo is unlike all training
            photos.
        error: the reason why the photo cannot be read; None where it can be read.
        label: the label that the source gives the photo; empty where the source gives none.
        novelty: how unlike the training photos the photo is, on the scale of the predictor's ``threshold``; None where
            novelty was not fitted or the photo cannot be read.
    """

    path: Path
    top: tuple[tuple[str, float], ...] = ()
    novel: bool = False
    error: str | None = None
    label: str = ""
    novelty: float | None = None

    _repr_html_ = displayed_by("regraft.reporting.displays:prediction_html")

    def to_dict(self) -> dict[str, Any]:
        """Return the answer as JSON values, which name the path and either the error or the classes."""
        if self.error is not None:
            return {"path": str(self.path), "error": self.error}
        top = [{"label": label, "probability": p} for label, p in self.top]
        return {"path": str(self.path), "none_of_these": self.novel, "novelty": self.novelty, "top": top}


@dataclass(frozen=True, slots=True)
class ClassProbability:
    """A class and its probability."""

    label: str
    probability: float


@dataclass(frozen=True, slots=True)
class PredictionReport:
    """One element of the array that `predict` prints: the answer to a photo, or the error of a photo.

    Attributes:
        path: the path of the photo.
        none_of_these: whether the answer is "none of these", since the photo is unlike all training photos; missing
            where there is an ``error``.
        top: the classes with the highest probabilities, the most probable first; missing where there is an ``error``.
        error: the reason why the photo could not be read; missing where it could be read.
        novelty: how unlike the training photos the photo is, on the scale of the run's threshold; None where novelty
            was not fitted; missing where there is an ``error``.
    """

    path: str
    none_of_these: bool = False
    novelty: float | None = None
    top: tuple[ClassProbability, ...] = ()
    error: str = ""


@dataclass(frozen=True, slots=True)
class Rejection:
    """The share of photos of none of the classes that were rightly answered with "none of these".

    Attributes:
        label: the label of these photos in their source, such as the folder name.
        n: the number of photos that could be read.
        rejected: the share of these photos answered with "none of these", in 0..1.
        interval: the 95 % Wilson score interval of the share.
    """

    label: str
    n: int
    rejected: float
    interval: tuple[float, float]


def predict_each(predictor: Predictor, photos: Any, top: int = 1) -> Iterator[Prediction]:
    """Return an iterator over the answers to photos. Memory does not grow with the number of photos.

    Args:
        predictor: a classifier, or a loaded export.
        photos: what `photos_in` takes: files, each of which is answered; folders, in which only files that look like an
            image are answered; other sources, bytes, pixels; one of these or several, also from a generator.
        top: the number of classes in each answer, at least 1.

    Returns:
        An iterator over the answers, in the order of the photos.

    Raises:
        ConfigError: ``top`` is not a whole number of at least 1.
        DataError: one of the items in ``photos`` is not a photo.
    """
    require_top(top)
    return (answer for chunk in answer_chunks(predictor, photos_in(photos), top) for answer in chunk)


def require_top(top: Any) -> None:
    """Check that ``top`` is a whole number of at least 1. Raises ConfigError."""
    if not isinstance(top, int) or isinstance(top, bool):
        raise ConfigError(f"top is {kind_of(top)}; wanted a whole number")
    if top < 1:
        raise ConfigError(f"{option('top')} is {top}; wanted at least 1")


def answer_chunks(
    predictor: Predictor, photos: Iterable[Found | None], top: int, first: int = MANY
) -> Iterator[list[Prediction]]:
    """Yield the answers to photos in chunks.

    Args:
        predictor: the predictor that answers.
        photos: the photos. A None among them means that the next photo may come late, so that the photos before it are
            answered without waiting for it.
        top: the number of classes in each answer.
        first: the number of photos in the first chunk; each further chunk has `CHUNK` photos. With a small first chunk
            the first answers come soon.
    """
    number = 0
    for chunk in _chunks(photos, first):
        yield _answered(predictor, chunk, number, top)
        number += len(chunk)


def _chunks(photos: Iterable[Found | None], size: int) -> Iterator[list[Found]]:
    """Yield photos in lists: ``size`` photos in the first list, and `CHUNK` photos in each further list.

    The last list also takes a rest of fewer than `MANY` photos, since for so few photos a second engine would be
    compiled.
    """
    waiting: list[Found] = []
    for photo in photos:
        if photo is None:
            if waiting:
                yield waiting
            waiting = []
            continue
        waiting.append(photo)
        if len(waiting) == size + MANY:
            yield waiting[:size]
            waiting, size = waiting[size:], photos_at_once(CHUNK)
    if waiting:
        yield waiting


def _answered(predictor: Predictor, chunk: Sequence[Found], number: int, top: int) -> list[Prediction]:
    """Return the answers to a chunk of photos, of which the first has the index ``number`` among all photos."""
    problems: dict[Path, str] = {}

    def note(problem: Problem) -> None:
        problems[problem.path] = problem.reason

    answers = predictor.answers(chunk, on_problem=note)
    novel = is_novel(answers.novelty, predictor.threshold)
    result = []
    for i, photo in enumerate(chunk):
        path, row = path_of(photo, number + i), answers.probabilities[i]
        if np.isnan(row[0]):
            result.append(Prediction(path, error=problems.get(path_of(photo, i), "cannot be read")))
            continue
        best = np.argsort(-row, kind="stable")[:top]
        pairs = tuple((predictor.classes[j], float(row[j])) for j in best)
        label = photo.label if isinstance(photo, Entry | ImageRecord) else ""
        novelty = None if np.isnan(answers.novelty[i]) else float(answers.novelty[i])
        result.append(Prediction(path, pairs, bool(novel[i]), label=label, novelty=novelty))
    return result


def rejections(predictor: Predictor, photos: str | os.PathLike[str]) -> tuple[Rejection, ...]:
    """Measure how often a predictor answers "none of these" to photos of none of its classes.

    Args:
        predictor: a classifier or a loaded export.
        photos: a source of photos of other things.

    Returns:
        One `Rejection` for all photos, and one for each label where there are several labels.

    Raises:
        ConfigError: the predictor never answers with "none of these".
        DataError: no photo could be read.
    """
    if predictor.threshold is None:
        raise ConfigError(
            f"this classifier never answers with none of these: it had too few val photos, or {option('reject', '0')}"
        )
    found: dict[str, list[bool]] = {}
    for prediction in predict_each(predictor, photos):
        if prediction.error is None:
            found.setdefault(prediction.label, []).append(prediction.novel)
    if not found:
        raise DataError(f"no photo in {photos} can be read")
    groups = [("all photos", [novel for group in found.values() for novel in group])]
    groups += list(found.items()) if len(found) > 1 else []
    return tuple(
        Rejection(label, len(novel), sum(novel) / len(novel), wilson_interval(sum(novel), len(novel)))
        for label, novel in groups
    )
