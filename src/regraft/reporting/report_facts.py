"""What a report tells of each photo of a run: its answer, whether the answer counts, how novel and how doubtful it is.

In: a run, and its photos or other labelled photos. Out: `Facts`, with one row for each photo.
Why: the page, the table and the plots of a report must show the same facts.
Surprise: only photos that the classifier was not trained on are measured. In a run with folds these are all photos, and
their answers are those of the folds; the answers to photos of the train side are shown, and counted nowhere.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from regraft.classifiers.classifier import Classifier, corrected, open_photos, sides_of
from regraft.classifiers.evaluation import Evaluation, measure
from regraft.classifiers.predictor import Answers
from regraft.classifiers.run_folder import Sides, read_split
from regraft.engines.base import key_of, load_engines
from regraft.errors import DataError, option
from regraft.features.duplicates import duplicate_groups
from regraft.features.features import Features, extract_all, labelled_features
from regraft.features.neighbours import last_stage, nearest
from regraft.foundation import console
from regraft.heads.doubtful_labels import DOUBT, label_margins, out_of_fold
from regraft.photos.dataset import Dataset, takes_levels
from regraft.training.cross_validation import DESIGN_EFFECT
from regraft.training.own_answers import own_answers

MeasuredOn = Literal["folds", "test", "val", "photos"]
"""Which photos are measured: those of all folds, of the test or val side, or photos that the run does not know."""

NEIGHBOURS = 3
"""The number of nearest training photos that are looked up for a photo."""

_ASKED = 10_000  # photos whose rows are copied at a time

NEW = "new"
"""The side of a photo that the run does not know."""


@dataclass(frozen=True, slots=True)
class Facts:
    """The facts of a report about N photos.

    Attributes:
        classifier: the classifier.
        dataset: the N photos that can be read.
        features: their features (N, D); the class indices are those of the classifier.
        sides: the side of each photo: ``train``, ``val``, ``test``, or `NEW`.
        fold: the number of each photo's fold, (N,), where the run has folds and the photos are those of the run;
            negative for a photo in no fold, and for all photos of another run.
        measured_on: which photos are measured.
        measured: the indices (M,) of these photos.
        answers: the answers to all N photos: those of the folds where there are folds, else those of the classifier.
        evaluation: the evaluation of the answers to the M photos.
        margins: (N,), the probability of each photo's label minus that of the most probable other class, by heads that
            were not trained on the photo; NaN where the class is too small.
        suggested: (N,), the index of that other class.
        groups: groups of indices of photos that show the same picture.
        missing: the number of photos of the run that are not among the photos.
    """

    classifier: Classifier
    dataset: Dataset
    features: Features
    sides: tuple[str, ...]
    fold: NDArray[np.int64]
    measured_on: MeasuredOn
    measured: NDArray[np.int64]
    answers: Answers
    evaluation: Evaluation
    margins: NDArray[np.float32]
    suggested: NDArray[np.int64]
    groups: tuple[tuple[int, ...], ...]
    missing: int

    @property
    def predicted(self) -> NDArray[np.int64]:
        """The index of the most probable class of each photo, (N,)."""
        result: NDArray[np.int64] = self.answers.probabilities.argmax(axis=1)
        return result

    @property
    def mistakes(self) -> NDArray[np.int64]:
        """The indices of the measured photos whose most probable class is not their label, the surest first."""
        wrong = self.measured[self.predicted[self.measured] != self.features.y[self.measured]]
        sure = self.answers.probabilities[wrong].max(axis=1) if len(wrong) else np.empty(0)
        result: NDArray[np.int64] = wrong[np.argsort(-sure, kind="stable")]
        return result

    @property
    def suspects(self) -> NDArray[np.int64]:
        """The indices of the photos whose label looks wrong, the most doubtful first."""
        order = np.argsort(self.margins, kind="stable")  # NaN comes last
        result: NDArray[np.int64] = order[self.margins[order] <= DOUBT]
        return result

    def nearest(self, wanted: Sequence[int]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return the nearest training photos of the photos at the indices ``wanted`` (Q,).

        A photo is compared with the photos that its answer comes from: those of the other folds, or else of the train
        side, without its own copies.

        Returns:
            Indices (Q, `NEIGHBOURS`), -1 where there are fewer, and the similarities, from -1 to 1.
        """
        asked = np.asarray(wanted, np.int64)
        rows = last_stage(self.features.x, self.features.stages)
        indices = np.full((len(asked), NEIGHBOURS), -1, np.int64)
        similarities = np.full((len(asked), NEIGHBOURS), np.nan)
        train = np.array([side == "train" for side in self.sides], np.bool_)
        digests = self.features.digests
        for fold in np.unique(self.fold[asked]).tolist():
            mine = np.flatnonzero(self.fold[asked] == fold)
            pool = np.flatnonzero(train & (self.fold != fold) if fold >= 0 else train)
            candidates, names = rows[pool], [digests[i] for i in pool]
            for part in np.split(mine, range(_ASKED, len(mine), _ASKED)):
                here = asked[part]
                both = names, [digests[i] for i in here]
                found, similarities[part] = nearest(candidates, rows[here], NEIGHBOURS, both)
                indices[part] = np.where(found >= 0, pool[found], -1) if len(pool) else -1
        return indices, similarities


def gather(classifier: Classifier, photos: str | os.PathLike[str] | None = None, known_only: bool = False) -> Facts:
    """Gather the facts about the photos of a run, or about other labelled photos.

    Args:
        classifier: the classifier of the run.
        photos: where the photos of the run are now, or labelled photos that the run does not know, as `Dataset.open`
            takes them; None where the photos of the run have not moved.
        known_only: whether photos of classes that the classifier does not know are left out, in place of an error.

    Raises:
        DataError: no photo can be read, or the photos have a class that the classifier does not know.
        RunError: the run is damaged, or does not say where its photos are.
    """
    dataset, features, looks, key = _computed(classifier, _opened(classifier, photos, known_only))
    split = read_split(classifier.path) if classifier.path else Sides((), (), ())
    place = sides_of(classifier, dataset) if classifier.path else None
    sides = [NEW] * len(features)
    for side in ("train", "val", "test") if place else ():
        for i in getattr(place, side):
            sides[i] = side
    known = sum(side != NEW for side in sides)
    total = len({*split.train, *split.val, *split.test})
    # A few of them may stand in a set of other photos, which is measured nevertheless.
    own = known > 0 and (photos is None or 2 * known >= min(total, len(features)))
    missing = total - len({r.identity for r, side in zip(dataset.records, sides, strict=True) if side != NEW})
    with console.waiting_for("looking for copies and for doubtful labels"):
        groups = duplicate_groups(features.digests, features.x, looks["thumbnail"], key)
        probabilities = out_of_fold(features, groups)
    margins = label_margins(probabilities, features.y)
    others = probabilities.copy()
    others[np.arange(len(others)), features.y] = -1.0
    fold, answers = own_answers(classifier, dataset, features, split if own else None)
    measured_on, measured = _measured(sides, fold, own)
    chosen = Answers(answers.probabilities[measured], answers.novelty[measured])
    paths = [dataset.records[i].path for i in measured]
    design = DESIGN_EFFECT if measured_on == "folds" else 1.0
    calibration = classifier.calibration
    evaluation = measure(
        chosen, features.y[measured], classifier.classes, paths, calibration.temperature, calibration.threshold, design
    )
    return Facts(
        classifier,
        dataset,
        features,
        tuple(sides),
        fold,
        measured_on,
        measured,
        answers,
        evaluation,
        margins,
        np.nan_to_num(others, nan=-1.0).argmax(axis=1),
        tuple(tuple(group) for group in groups),
        max(0, missing) if own else 0,
    )


def _opened(classifier: Classifier, photos: str | os.PathLike[str] | None, known_only: bool) -> Dataset:
    """Return the photos to report on. Raises DataError if they are not there, or for unknown classes."""
    if photos is None:
        return open_photos(classifier)
    levels = (classifier.config.label_from, classifier.config.group_from) if takes_levels(photos) else ()
    dataset = Dataset.open(photos, *levels)
    split = read_split(classifier.path) if classifier.path else Sides((), (), ())
    known = {*split.train, *split.val, *split.test}
    own = sum(record.identity in known for record in dataset.records)
    dataset = corrected(classifier, dataset, adds=2 * own > len(dataset.records))
    strangers = [label for label in dataset.classes if label not in classifier.classes]
    if strangers and not known_only:
        raise DataError(
            f"{photos} has classes the classifier does not know: {', '.join(strangers)}; it knows "
            f"{', '.join(classifier.classes)}"
        )
    return dataset


def _computed(classifier: Classifier, dataset: Dataset) -> tuple[Dataset, Features, NDArray[np.void], str]:
    """Return the photos that can be read, their features and looks, and the key of the features in the cache."""
    engines = load_engines(classifier.backbone, classifier.config, True, classifier.int8, classifier.precision)
    dataset, features, looks = labelled_features(dataset, extract_all(dataset.records, engines), classifier.backbone)
    index = {label: i for i, label in enumerate(classifier.classes)}
    gone = [label for label in dataset.classes if label not in index]
    if gone:  # a class of the folder that the run left out, as none of its photos could be read
        kept = [i for i, record in enumerate(dataset.records) if record.label in index]
        records = tuple(dataset.records[i] for i in kept)
        console.warn(f"left out classes that the run does not know: {', '.join(gone)}")
        dataset = replace(dataset, records=records, classes=tuple(c for c in dataset.classes if c in index))
        features, looks = features.select(kept), looks[kept]
    if not len(features):
        raise DataError(f"none of the photos can be read; type {option('photos', 'FOLDER')}")
    y = np.array([index[record.label] for record in dataset.records], np.int64)
    return dataset, replace(features, y=y, classes=classifier.classes), looks, key_of(engines)


def _measured(sides: Sequence[str], fold: NDArray[np.int64], own: bool) -> tuple[MeasuredOn, NDArray[np.int64]]:
    """Return which photos are measured, and their indices.

    Args:
        sides: the side of each of N photos.
        fold: the number of each photo's fold (N,), negative for a photo in no fold.
        own: whether the photos are those of the run; of other photos those are measured that the run does not know.
    """
    if not own:
        return "photos", np.array([i for i, side in enumerate(sides) if side == NEW], np.int64)
    if (fold >= 0).any():
        return "folds", np.flatnonzero(fold >= 0)
    on: MeasuredOn = "test" if "test" in sides else "val"
    return on, np.array([i for i, side in enumerate(sides) if side == on], np.int64)
