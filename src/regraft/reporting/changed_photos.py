"""A run and the run before it → the photos whose answers became right or wrong, without a whole report.

In: the classifiers of both runs. Out: `Changes`.
Why: after a retraining, a person wants to see at once what changed, and a report of both runs takes much longer.
Surprise: both runs are held against the labels of the newer run, and only on photos from which neither has learned.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from regraft.classifiers.classifier import Classifier, engines_of, open_photos
from regraft.classifiers.metrics import Metrics
from regraft.classifiers.run_folder import read_split
from regraft.features.features import Features, extract_all, labelled_features
from regraft.photos.dataset import Dataset
from regraft.training.own_answers import own_answers


@dataclass(frozen=True, slots=True)
class ChangedPhoto:
    """A photo whose answer became right or wrong.

    Attributes:
        digest: the SHA-256 of the photo's content, 64 hexadecimal digits.
        path: the path of the photo.
        label: the label of the photo in the newer run.
        earlier: the answer of the older run.
        answer: the answer of the newer run.
        probability: the probability of that answer, 0 to 1.
    """

    digest: str
    path: Path
    label: str
    earlier: str
    answer: str
    probability: float


@dataclass(frozen=True, slots=True)
class Changes:
    """The photos that became right (``gained``) and wrong (``lost``), the surest answers of the newer run first."""

    gained: tuple[ChangedPhoto, ...]
    lost: tuple[ChangedPhoto, ...]


def changed_photos(before: Classifier, after: Classifier) -> Changes:
    """Return the photos whose answers became right or wrong from one run to a run that was trained from it.

    Features come from the cache. Copies of photos from which the older run has learned are compared as well, which the
    figures of the newer run leave out.

    Args:
        before: the older run.
        after: the newer run.

    Raises:
        DataError: the photos are not there any more.
        RunError: a run is damaged.
    """
    dataset = open_photos(after)
    dataset, features, _ = labelled_features(dataset, extract_all(dataset.records, engines_of(after)), after.backbone)
    rows, old, new = _compared(before, after, dataset, features)
    labels = [dataset.records[i].label for i in rows]
    sure = new[rows].max(axis=1) if rows else np.empty(0)
    gained: list[ChangedPhoto] = []
    lost: list[ChangedPhoto] = []
    for at in np.argsort(-sure, kind="stable").tolist():
        i, label = rows[at], labels[at]
        earlier, answer = before.classes[int(old[i].argmax())], after.classes[int(new[i].argmax())]
        if label in before.classes and (earlier == label) != (answer == label):
            record = dataset.records[i]
            one = ChangedPhoto(record.digest, record.path, label, earlier, answer, round(float(new[i].max()), 4))
            (gained if answer == label else lost).append(one)
    return Changes(tuple(gained), tuple(lost))


def _compared(
    before: Classifier, after: Classifier, dataset: Dataset, features: Features
) -> tuple[list[int], NDArray[np.float32], NDArray[np.float32]]:
    """Return the indices of the photos that count, and the probabilities of both runs for all N photos, (N, C) each."""
    splits = [read_split(one.path or Path()) for one in (before, after)]
    (old_fold, old), (fold, new) = (
        own_answers(one, dataset, features, split) for one, split in zip((before, after), splits, strict=True)
    )
    side, _ = Metrics.from_dict(after.metrics).measured
    measured = fold >= 0 if side == "folds" else _among(dataset, getattr(splits[1], side))
    known = (*splits[0].train, *(splits[0].val if side != "val" else ()))
    usable = (old_fold >= 0) | ~_among(dataset, known)
    return np.flatnonzero(measured & usable).tolist(), old.probabilities, new.probabilities


def _among(dataset: Dataset, digests: Iterable[str]) -> NDArray[np.bool_]:
    """Return for each photo of a data set, (N,), whether its digest or that of its original is one of these."""
    wanted = set(digests)
    found: Sequence[bool] = [r.identity in wanted or r.digest in wanted for r in dataset.records]
    return np.array(found, np.bool_)
