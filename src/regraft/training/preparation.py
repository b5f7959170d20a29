"""Labelled photos → features and a split: the first steps of every training.

In: a spec of photos (such as a folder) and the options. Out: a `Prepared` with features and a train / val / test split.
Why: training, sweeping and the classic commands share these steps; they differ only in the head that they fit.
Surprise: the features are computed before the split is made, because only decoding shows which photos can be read.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regraft.backbones.base import Backbone
from regraft.backbones.side_by_side import PLUS, parts_of
from regraft.config.features import FeatureConfig
from regraft.config.training import TrainConfig
from regraft.engines.base import key_of, load_engines
from regraft.engines.int8 import quantised_graph
from regraft.errors import DataError
from regraft.features.backbone_choice import AUTO, choose_backbone
from regraft.features.duplicates import duplicate_groups
from regraft.features.features import Features, extract_all, labelled_features
from regraft.foundation import console
from regraft.foundation.files import as_path
from regraft.heads.base import Head
from regraft.label_tools.label_files import absolute_spec
from regraft.photos.dataset import Dataset
from regraft.photos.images import Problem
from regraft.photos.splitting import Split, group_counts, split
from regraft.training.folding import NEVER
from regraft.training.keeping import Places, extend_folds, extend_split

_OF_CLASSES = ("discriminant", "knn", "prototype")
"""The heads that learn from classes alone, where labels are probabilities."""


class Clock:
    """Measure how long each step of a training takes, in seconds: ``with clock("scan"): …``."""

    def __init__(self) -> None:
        self._start = perf_counter()
        self._seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Measure the time of the step called ``name``; a second step of this name replaces the first."""
        start = perf_counter()
        try:
            yield
        finally:
            self._seconds[name] = round(perf_counter() - start, 3)

    def seconds(self) -> dict[str, float]:
        """Return the seconds of each step so far by name, and under ``total`` the seconds since the clock was made."""
        return {**self._seconds, "total": round(perf_counter() - self._start, 3)}


@dataclass(frozen=True, slots=True)
class Prepared:
    """Photos with their features and their split: everything that a head is fitted and measured on.

    Attributes:
        config: the options; ``backbone`` and ``folds`` are what was chosen, also where the options left it open.
        dataset: the N photos that can be read.
        backbone: the backbone that computed the features.
        int8: the quantised graph of the backbone (.xml) where the precision is int8; else None.
        features: the features ``(N, D)``, in the order of the dataset's records.
        sides: the split: the indices of the train, val and test photos; with folds, all photos are in train.
        fold: the number of each photo's fold, (N,), as `fold_photos` returns them; None without folds.
        metrics: the metrics that are known before a head is fitted (classes, counts, problems), as JSON values.
        source: the spec of the photos, valid from any working directory.
        together: the groups of indices of photos that show the same picture.
        precision: the precision in which an older run's features were computed, as `Classifier.precision` has it; empty
            for the fastest precision of this processor.
        start: the head of an older run with its classes, from which the new head starts; None to start from nothing.
    """

    config: TrainConfig
    dataset: Dataset
    backbone: Backbone
    int8: Path | None
    features: Features
    sides: Split
    fold: NDArray[np.int64] | None
    metrics: Mapping[str, Any]
    source: str
    together: Sequence[Sequence[int]] = ()
    precision: str = ""
    start: tuple[Head, tuple[str, ...]] | None = None


@dataclass(frozen=True, slots=True)
class Base:
    """What a training takes over from an older run.

    Attributes:
        backbone: the backbone of the run.
        int8: the quantised graph of the backbone; None where the run computes in floats.
        precision: the precision of the run's features, as `Classifier.precision` has it.
        places: the side or the fold of each photo of the run.
        start: the head of the run with its classes, from which the new head starts; None to start from nothing.
    """

    backbone: Backbone
    int8: Path | None
    precision: str
    places: Places
    start: tuple[Head, tuple[str, ...]] | None = None


def open_labelled(photos: str | os.PathLike[str], config: FeatureConfig) -> Dataset:
    """List the labelled photos of a training, and check them before minutes are spent on feature extraction.

    Args:
        photos: a folder of class folders, or any other spec that `Dataset.open` takes.
        config: the options; ``label_from`` and ``group_from`` say which folders name classes and groups.

    Raises:
        DataError: there are no photos, or all photos are of one class.
    """
    dataset = Dataset.open(photos, config.label_from, config.group_from)
    if dataset.hint:
        console.warn(dataset.hint)
    require_two_classes(dataset)
    return dataset


def prepare(dataset: Dataset, config: TrainConfig, clock: Clock, photos: str, base: Base | None = None) -> Prepared:
    """Choose the backbone, compute the features, find duplicate photos, and make the split.

    Args:
        dataset: the labelled photos.
        config: the options.
        clock: measures the steps ``extract`` and ``duplicates``.
        photos: the spec of the photos, which the run records as its source.
        base: what is taken over from an older run; None to begin anew.

    Raises:
        BackboneError: the backbone cannot be computed.
        DataError: no photo can be read.
    """
    with clock("extract"):
        config, base = (config, base) if base else _chosen(config, dataset)
        backbone, int8 = base.backbone, base.int8
        engines = load_engines(backbone, config, int8=int8, trained=base.precision)
        extraction = extract_all(dataset.records, engines)
        dataset, features, looks = labelled_features(dataset, extraction, backbone)
    with clock("duplicates"):  # copies of one photo must not be both trained on and measured
        known = {*base.places.sides, *base.places.folds}
        together = duplicate_groups(features.digests, features.x, looks["thumbnail"], key_of(engines), known)
    config, fold = _folds(dataset, config, together, base.places)
    if fold is None:
        sides = extend_split(dataset, (config.val, config.test), config.salt, together, base.places.sides)
    else:
        sides = split(dataset, (0.0, 0.0), config.salt, together)
    metrics = {
        "classes": list(dataset.classes),
        "counts": {"train": len(sides.train), "val": len(sides.val), "test": len(sides.test)},
        "groups": group_counts(dataset, sides),
        "problems": [{"path": str(p.path), "reason": p.reason} for p in dataset.problems],
        "duplicate_groups": {"groups": len(together), "photos": sum(map(len, together))},
        "features": {"computed": extraction.computed, "cached": extraction.cached},
    }
    spec = whole_spec(photos)
    return Prepared(
        config,
        dataset,
        backbone,
        int8,
        features,
        sides,
        fold,
        metrics,
        spec,
        together,
        base.precision,
        base.start,
    )


def _chosen(config: TrainConfig, dataset: Dataset) -> tuple[TrainConfig, Base]:
    """Choose the backbone where there is no older run, and return the options with its name."""
    backbone = choose_backbone(config, dataset.records)
    if config.backbone == AUTO:  # at several sizes, a backbone is named once, and the effort gives the sizes again
        names = dict.fromkeys(part.name for part in parts_of(backbone))
        config = replace(config, backbone=PLUS.join(names))
    int8 = quantised_graph(backbone, dataset.records) if config.precision == "int8" else None
    return config, Base(backbone, int8, "", Places())


def _folds(
    dataset: Dataset, config: TrainConfig, together: Sequence[Sequence[int]], places: Places
) -> tuple[TrainConfig, NDArray[np.int64] | None]:
    """Return the options with the number of folds, and the number of each photo's fold; None if there are no folds."""
    folds = config.folds_for(len(dataset.records))
    if any(record.split for record in dataset.records):
        if config.folds:
            console.note("there are no folds, as the photos have sides of their own")
        folds = 0
    config = replace(config, folds=folds)
    return config, extend_folds(dataset, folds, config.salt, together, places.folds) if folds else None


def require_trainable(prepared: Prepared) -> None:
    """Warn of the files that are left out and of the classes that cannot be measured.

    Args:
        prepared: the photos, after feature extraction has shown which of them can be read.

    Raises:
        DataError: the photos that can be read are of fewer than two classes.
    """
    dataset, sides = prepared.dataset, prepared.sides
    report_problems(dataset.problems)
    require_two_classes(dataset)
    _tell_what_is_learned(prepared)
    trained = Counter(dataset.records[i].label for i in sides.train)
    single = [label for label, count in dataset.counts().items() if count == 1 and trained[label]]
    if single:
        console.warn(f"classes with one photo are trained on, and cannot be measured: {', '.join(single)}")
    if prepared.fold is not None:
        measured = {dataset.records[i].label for i in np.flatnonzero(prepared.fold != NEVER)}
        if not measured:
            console.warn("no class has two photos that differ: the accuracy of the classifier cannot be measured")
            return
        whole = [label for label in dataset.classes if label not in measured and label not in single]
        if whole:
            console.warn(f"classes whose photos all stay together, which cannot be measured: {', '.join(whole)}")
        return
    if not sides.test and not sides.val:
        console.warn("there are no val and no test photos: the accuracy of the classifier cannot be measured")
        return
    if not sides.test:
        console.warn("there are no test photos: the val figures are slightly too high, as they also chose the head")
    measured = {dataset.records[i].label for i in (*sides.val, *sides.test)}
    whole = [label for label in dataset.classes if label not in measured and label not in single]
    if whole:
        console.warn(f"classes with all their photos in train, which cannot be measured: {', '.join(whole)}")


def _tell_what_is_learned(prepared: Prepared) -> None:
    """Say so where the labels are probabilities, and the head learns from the more probable classes alone."""
    dataset, head = prepared.dataset, prepared.config.head
    if all(record.probability == 1 for record in dataset.records):
        return
    if len(dataset.classes) > 2:
        console.warn(
            f"labels are probabilities of two classes, and there are {len(dataset.classes)}: the head learns from the "
            "more probable class of each photo, not from its probability"
        )
    elif head in _OF_CLASSES:
        console.note(f"the head {head} learns from the more probable class of each photo, not from its probability")


def require_two_classes(dataset: Dataset) -> None:
    """Raise DataError where a dataset has fewer than two classes."""
    if len(dataset.classes) < 2:
        raise DataError(f"there is only one class, {dataset.classes[0]!r}; wanted photos of at least two classes")


def report_problems(problems: Sequence[Problem], shown: int = 10) -> None:
    """Warn of each file that is left out; after ``shown`` files give only a count (the run's metrics list all)."""
    for problem in problems[:shown]:
        console.warn(f"left out {problem.path}: {problem.reason}")
    if len(problems) > shown:
        console.warn(f"left out {len(problems) - shown} more files")


def whole_spec(photos: str | os.PathLike[str]) -> str:
    """Return a spec of photos that is valid from any working directory: paths become absolute, all else is as given."""
    path = as_path(photos, "photos")
    return str(path.resolve()) if path.exists() else absolute_spec(os.fsdecode(photos))
