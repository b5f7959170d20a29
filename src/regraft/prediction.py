"""A Predictor × photos → the most probable classes of each photo.

In: whatever `photos_in` takes. Out: a `Prediction` for each photo, in the order asked, as soon as it is known.
Why: whoever has a classifier wants to point it at things.
Surprise: a file that cannot be read is answered too, with its error, and stops nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from regraft._files import kind_of
from regraft.calibration import is_novel
from regraft.classifier import MANY
from regraft.dataset import ImageRecord
from regraft.errors import ConfigError, DataError
from regraft.evaluation import Predictor, wilson_interval
from regraft.images import Problem
from regraft.sources import Entry
from regraft.unlabelled import Found, path_of, photos_in

CHUNK = 64
"""Photos that are answered at once. No more answers are held, so that memory does not grow with their number."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """One photo's answer.

    Attributes:
        path: the file.
        top: (label, probability) pairs, the most probable first; empty where it cannot be read.
        novel: whether it looks like none of the classes, and so ``top`` is not the answer.
        error: why it cannot be read, or None.
        label: what the source says it is; empty where it says nothing.
    """

    path: Path
    top: tuple[tuple[str, float], ...] = ()
    novel: bool = False
    error: str | None = None
    label: str = ""

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        if self.error is not None:
            return {"path": str(self.path), "error": self.error}
        top = [{"label": label, "probability": p} for label, p in self.top]
        return {"path": str(self.path), "none_of_these": self.novel, "top": top}


@dataclass(frozen=True, slots=True)
class Rejection:
    """How many photos of none of the classes were told to be that.

    Attributes:
        label: the folder, or whatever else their source calls them.
        n: photos that could be read.
        rejected: the share answered with none of these.
        interval: its 95 % Wilson score interval.
    """

    label: str
    n: int
    rejected: float
    interval: tuple[float, float]


def predict_each(predictor: Predictor, photos: Any, top: int = 1) -> Iterator[Prediction]:
    """Answer photos one after the other; memory does not grow with their number.

    Args:
        predictor: a classifier, or an exported file that was loaded.
        photos: what `photos_in` takes: files, which are always answered; folders, of which only what looks like an
            image is; other sources, bytes, pixels; one of these or several, also from a generator.
        top: how many classes each answer holds, at least 1.

    Returns:
        An iterator over the answers, in the order asked.

    Raises:
        ConfigError: ``top`` is no whole number of at least 1.
        DataError: there is something among the photos that is none.
    """
    require_top(top)
    return (answer for chunk in answer_chunks(predictor, photos_in(photos), top) for answer in chunk)


def require_top(top: Any) -> None:
    """Raise ConfigError where ``top`` is no whole number of at least 1."""
    if not isinstance(top, int) or isinstance(top, bool):
        raise ConfigError(f"top is {kind_of(top)}; wanted a whole number")
    if top < 1:
        raise ConfigError(f"--top is {top}; wanted at least 1")


def answer_chunks(
    predictor: Predictor, photos: Iterable[Found | None], top: int, first: int = MANY
) -> Iterator[list[Prediction]]:
    """Answer photos, several at a time.

    Args:
        predictor: what answers.
        photos: those that were found; None where the next one may be long in coming, so that nothing waits for it.
        top: how many classes each answer holds.
        first: how many photos are answered at first, before `CHUNK` at a time: few, so that an answer comes soon.
    """
    number = 0
    for chunk in _chunks(photos, first):
        yield _answered(predictor, chunk, number, top)
        number += len(chunk)


def _chunks(photos: Iterable[Found | None], size: int) -> Iterator[list[Found]]:
    """Yield photos in lists of ``size``, and of `CHUNK` after the first.

    The last list takes up what else would be fewer than `MANY` photos: for so few a second engine would be compiled.
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
            waiting, size = waiting[size:], CHUNK
    if waiting:
        yield waiting


def _answered(predictor: Predictor, chunk: Sequence[Found], number: int, top: int) -> list[Prediction]:
    """Return the answers to photos of which the first is number ``number`` of all that are asked about."""
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
        result.append(Prediction(path, pairs, bool(novel[i]), label=label))
    return result


def rejections(predictor: Predictor, photos: str | os.PathLike[str]) -> tuple[Rejection, ...]:
    """Show a predictor photos of none of its classes; one row a label or folder, and before them one for all.

    Raises:
        ConfigError: the predictor never answers with none of these.
        DataError: there is no photo.
    """
    if predictor.threshold is None:
        raise ConfigError("this classifier never answers with none of these: it had too few val photos, or --reject 0")
    found: dict[str, list[bool]] = {}
    for prediction in predict_each(predictor, photos):
        if prediction.error is None:
            found.setdefault(prediction.label, []).append(prediction.novel)
    if not found:
        raise DataError(f"no photo was found in {photos}")
    groups = [("all photos", [novel for group in found.values() for novel in group])]
    groups += list(found.items()) if len(found) > 1 else []
    return tuple(
        Rejection(label, len(novel), sum(novel) / len(novel), wilson_interval(sum(novel), len(novel)))
        for label, novel in groups
    )
