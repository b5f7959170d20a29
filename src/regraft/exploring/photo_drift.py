"""Whether new photos differ from the photos of a run: the function `regraft.check_drift`.

In: photos, with or without labels, and a run. Out: `Drift`: a verdict, the AUC of a domain classifier, and which photos
and classes differ.
Why: an accuracy holds for photos like those that were measured; whether new ones are like them shows before any label.
Surprise: what the run answers is compared with its answers to photos that were held out, as it knows the others by
heart; and a fine-tuned backbone knows them too, so that photos are compared with those that it has not learned from.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regraft.backbones.side_by_side import stage_widths
from regraft.classifiers.calibration import is_novel
from regraft.classifiers.classifier import Classifier, engines_of, open_photos, run_path, sides_of
from regraft.classifiers.predictor import Answers
from regraft.classifiers.run_folder import read_split
from regraft.config.levels import Levels
from regraft.engines.base import key_of
from regraft.errors import DataError, option
from regraft.exploring.domain_classifier import FOLDS, Auc, are_enough, auc_over_folds, out_of_fold_scores
from regraft.exploring.drift_record import ClassDrift, Drift, NewPhoto, ShareChange, Verdict
from regraft.exploring.records import lacks_labels, records_in
from regraft.features.duplicates import duplicate_groups
from regraft.features.features import Features, extract_all
from regraft.photos.dataset import Dataset, ImageRecord, takes_levels
from regraft.photos.images import Problem
from regraft.photos.sources.base import spec_of
from regraft.photos.splitting import units_of

MOST = 2000
"""The largest number of photos of the run, and of new photos, that are compared: a sample by digest of more."""

CLEARLY = 0.7
"""New photos differ clearly if the whole interval of the AUC is above this."""


def check_drift(
    new: str | os.PathLike[str] | Dataset,
    against: Classifier | str | os.PathLike[str],
    levels: Levels | None = None,
    photos: str | os.PathLike[str] | None = None,
) -> Drift:
    """Say whether new photos differ from the photos of a run, and which photos and classes differ.

    A domain classifier is fitted that tells new photos from photos of the run by their features, which come from the
    cache or go to it. Its AUC is measured out of fold; groups and photos that show the same picture stay in one fold.
    Of more than `MOST` photos a sample is compared, which is the same each time. No photo is changed.

    Args:
        new: the new photos, as `Dataset.open` takes them; also a photo, or a folder of photos without class folders.
        against: the run, or its path.
        levels: which folders name classes and groups of the new photos; by default the folders that do so in the run.
        photos: where the photos of the run are now, if they were moved.

    Returns:
        The verdict and the figures. Photos of the run, byte for byte, are left out of the new photos and counted.

    Raises:
        ConfigError, DataError: ``new`` are no photos, none of them can be read, or all are photos of the run; or the
            photos of the run are not there.
        RunError, BackboneError: the run cannot be read, or its backbone is not installed.
    """
    classifier = against if isinstance(against, Classifier) else Classifier.load(against)
    folder = run_path(classifier)
    found = records_in(new, _levels(classifier, new) if levels is None else levels)
    known = _known(folder)
    fresh = [record for record in found.records if not known & {record.identity, record.digest}]
    if not fresh:
        raise DataError(f"all {len(found.records)} photos there are photos of {folder}; type a folder with others")
    older = _photos_of(classifier, photos)
    compared = _compare(_sample(older), _sample(fresh), classifier)
    unreadable = {problem.path for problem in compared.problems}
    answers = classifier.answers_to(compared.x[compared.new])
    by_label = any(record.label in classifier.classes for record in compared.new_records)
    classes = _by_label(compared, classifier) if by_label else _by_prediction(compared, classifier, answers)
    rejected = _none_of_these(compared, classifier, answers)
    auc, shares = compared.auc(), [*(one.share for one in classes), *([rejected] if rejected else [])]
    return Drift(
        verdict=_verdict(auc, any(share.changed for share in shares)),
        auc=auc,
        run=folder,
        run_photos=int((~compared.new).sum()),
        run_total=sum(record.path not in unreadable for record in older),
        new_photos=int(compared.new.sum()),
        new_total=sum(record.path not in unreadable for record in fresh),
        known=len(found.records) - len(fresh),
        by="label" if by_label else "prediction",
        classes=tuple(classes),
        none_of_these=rejected,
        photos=_ranked(compared, classifier, answers),
        problems=(*found.problems, *compared.problems),
    )


def _levels(classifier: Classifier, new: str | os.PathLike[str] | Dataset) -> Levels:
    """Return the folders that name classes and groups in a run, where the new photos are in folders too."""
    if isinstance(new, Dataset) or lacks_labels(spec_of(new)) or not takes_levels(spec_of(new)):
        return Levels()
    return Levels(label_from=classifier.config.label_from, group_from=classifier.config.group_from)


def _known(folder: Path) -> set[str]:
    """Return the digests of all photos of a run. Raises RunError."""
    split = read_split(folder)
    return {*split.train, *split.val, *split.test}


def _photos_of(classifier: Classifier, photos: str | os.PathLike[str] | None) -> list[ImageRecord]:
    """Return the photos of a run, with their labels; of a fine-tuned run those that its backbone did not learn from."""
    dataset = open_photos(classifier, photos)
    sides = sides_of(classifier, dataset)
    train = () if classifier.backbone.options.tuned else sides.train
    found = [dataset.records[i] for i in sorted((*train, *sides.val, *sides.test))]
    if not found:
        raise DataError(
            f"the backbone of {classifier.path} was fine-tuned on all its photos, so that none is left to "
            f"compare with; type {option('against')} with the run that it was fine-tuned from"
        )
    return found


def _sample(records: Sequence[ImageRecord]) -> list[ImageRecord]:
    """Return at most `MOST` photos: those whose digests are the lowest, which says nothing of what they show."""
    return sorted(records, key=lambda record: (record.digest, str(record.path)))[:MOST]


@dataclass(frozen=True, slots=True)
class _Compared:
    """The photos that are compared, and the scores of the domain classifier.

    Attributes:
        records: the N photos that can be read.
        x: their features, ``(N, D)``.
        new: whether each photo is new, (N,).
        fold: the number of the fold of each photo, (N,).
        unit: the number of the unit of each photo, (N,): photos that belong together.
        scores: the score of each photo, (N,); all are NaN where there are too few photos.
        problems: the photos that cannot be read.
    """

    records: Sequence[ImageRecord]
    x: NDArray[np.float32]
    new: NDArray[np.bool_]
    fold: NDArray[np.int64]
    unit: NDArray[np.int64]
    scores: NDArray[np.float32]
    problems: Sequence[Problem]

    @property
    def new_records(self) -> list[ImageRecord]:
        """The new photos, in the order in which they stand among all."""
        return [self.records[i] for i in np.flatnonzero(self.new).tolist()]

    @property
    def designs(self) -> tuple[float, float]:
        """The design effects of shares of photos of the run and of new ones, where photos of one unit count as one."""
        run, new = (float(which.sum()) / len(np.unique(self.unit[which])) for which in (~self.new, self.new))
        return run, new

    def auc(self, among: NDArray[np.bool_] | None = None) -> Auc | None:
        """Return the AUC of the scores, of all photos or of those ``among`` them (N,); None for too few photos."""
        rows = np.arange(len(self.new)) if among is None else np.flatnonzero(among)
        return auc_over_folds(self.scores[rows], self.new[rows], self.fold[rows], self.unit[rows])


def _compare(older: Sequence[ImageRecord], fresh: Sequence[ImageRecord], classifier: Classifier) -> _Compared:
    """Compute the features of the photos, put them into folds, and score them. Raises DataError."""
    engines = engines_of(classifier)
    found = extract_all((*older, *fresh), engines)
    kept = np.flatnonzero(~np.isnan(found.x[:, 0]))
    records, x = [(*older, *fresh)[i] for i in kept.tolist()], found.x[kept]
    new = kept >= len(older)
    for count, which, what in ((len(fresh), new, "new photos"), (len(older), ~new, "photos of the run")):
        if not which.any():
            raise DataError(f"none of the {count} {what} can be read: {found.problems[-1].reason}")
    digests = tuple(record.digest for record in records)
    copies = duplicate_groups(digests, x, found.looks["thumbnail"][kept], key_of(engines))
    fold, unit = _places(records, new, copies)
    scores = np.full(len(records), np.nan, np.float32)
    if are_enough(new, unit):
        stages = stage_widths(classifier.backbone)
        features = Features(x, new.astype(np.int64), ("run", "new"), digests, classifier.backbone.name, stages)
        scores = out_of_fold_scores(features, fold)
    return _Compared(records, x, new, fold, unit, scores, found.problems)


def _places(
    records: Sequence[ImageRecord], new: NDArray[np.bool_], copies: Sequence[Sequence[int]]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the fold (N,) and the unit (N,) of each photo. Each fold has as many photos of each set as units allow."""
    sets = ["new" if is_new else "run" for is_new in new.tolist()]
    marked = tuple(replace(record, label=which) for record, which in zip(records, sets, strict=True))
    units = sorted(
        units_of(Dataset(marked, ("new", "run")), "", copies), key=lambda unit: (-len(unit.indices), unit.place)
    )
    counts: dict[str, list[int]] = {"new": [0] * FOLDS, "run": [0] * FOLDS}
    fold, number = np.zeros(len(records), np.int64), np.zeros(len(records), np.int64)
    for i, unit in enumerate(units):
        place = min(range(FOLDS), key=lambda k: (sum(counts[which][k] for which in unit.counts), k))
        fold[list(unit.indices)], number[list(unit.indices)] = place, i
        for which, count in unit.counts.items():
            counts[which][place] += count
    return fold, number


def _verdict(auc: Auc | None, changed: bool) -> Verdict:
    """Return the verdict, which the lower end of the interval decides, and whether a share surely ``changed``."""
    if auc is None:
        return "too few photos to tell"
    low, _ = auc.interval
    return "differ clearly" if low > CLEARLY else "differ a little" if low > 0.5 or changed else "no difference seen"


def _by_label(compared: _Compared, classifier: Classifier) -> list[ClassDrift]:
    """Return the classes of all photos by their labels."""
    labels = np.array([record.label for record in compared.records])
    run, new = Counter(labels[~compared.new].tolist()), Counter(labels[compared.new].tolist())
    return _classes(dict.fromkeys((*classifier.classes, *sorted(new))), run, new, labels, compared)


def _by_prediction(compared: _Compared, classifier: Classifier, answers: Answers) -> list[ClassDrift]:
    """Return the classes by the predictions: those for new photos, and those for photos held out from the training.

    Where the AUC of a class is concerned, photos of the run have their labels.
    """
    evaluation = classifier.evaluation
    if not evaluation.confusion:
        return []
    labels = np.array([record.label for record in compared.records], object)
    labels[compared.new] = [classifier.classes[i] for i in answers.probabilities.argmax(axis=1).tolist()]
    held_out = np.sum(evaluation.confusion, axis=0).tolist()
    run = dict(zip(classifier.classes, held_out, strict=True))
    return _classes(classifier.classes, run, Counter(labels[compared.new].tolist()), labels, compared)


def _classes(
    names: Iterable[str], run: Mapping[str, int], new: Mapping[str, int], labels: NDArray[Any], compared: _Compared
) -> list[ClassDrift]:
    """Return the classes with their numbers of photos in the run and among the new ones, the most changed first."""
    before, after, names, found = sum(run.values()), sum(new.values()), list(names), []
    for name in names:
        counts = (run.get(name, 0), before), (new.get(name, 0), after)
        share = ShareChange.of(*counts, compared.designs, 1 + len(names))  # the other one is that of none of these
        found.append(ClassDrift(name, share, compared.auc(labels == name)))
    return sorted(found, key=lambda one: -abs(one.share.change))


def _none_of_these(compared: _Compared, classifier: Classifier, answers: Answers) -> ShareChange | None:
    """Return the share of "none of these" among the answers to new photos, and to photos held out from the training."""
    evaluation = classifier.evaluation
    if classifier.threshold is None or evaluation.rejected is None or not evaluation.n:
        return None
    rejected = int(is_novel(answers.novelty, classifier.threshold).sum())
    before = round(evaluation.rejected * evaluation.n), evaluation.n
    after = rejected, len(answers.novelty)
    return ShareChange.of(before, after, compared.designs, 1 + len(classifier.classes))


def _ranked(compared: _Compared, classifier: Classifier, answers: Answers) -> tuple[NewPhoto, ...]:
    """Return the new photos, those with the highest scores first; without scores those with the highest novelty."""
    records, scores, novelty = compared.new_records, compared.scores[compared.new], answers.novelty
    none, best = is_novel(novelty, classifier.threshold), answers.probabilities.argmax(axis=1).tolist()
    order = np.argsort(-(novelty if np.isnan(scores).all() else scores), kind="stable")
    return tuple(
        NewPhoto(
            records[i].path,
            records[i].label or None,
            classifier.classes[best[i]],
            _number(scores[i]),
            _number(novelty[i]),
            bool(none[i]),
        )
        for i in order.tolist()
    )


def _number(value: np.float32) -> float | None:
    """Return a number that is not NaN; else None."""
    return None if np.isnan(value) else float(value)
