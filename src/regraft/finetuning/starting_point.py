"""A run → what its fine-tuning starts from: photos, split, features, and a linear head.

In: the classifier of a run. Out: `Opened`, its photos with their features; and the classifier on the sides of a split.
Why: fine-tuning needs val photos to stop early, test photos to measure, and a head whose gradient is simple.
Surprise: a run with folds was trained on all its photos. Its head is fitted again on a train side that is drawn here,
so that val and test are new to it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from regraft.backbones.side_by_side import parts_of
from regraft.classifiers.classifier import Classifier, sides_of
from regraft.config.finetuning import FinetuneConfig
from regraft.config.training import TrainConfig
from regraft.engines.base import load_engine
from regraft.errors import DataError, TrainingError, option
from regraft.features.duplicates import duplicate_groups
from regraft.features.features import Features, extract, labelled_features
from regraft.foundation import console
from regraft.heads.base import head_of
from regraft.heads.logistic import STRENGTHS, LogisticRegression
from regraft.photos.dataset import Dataset
from regraft.photos.splitting import Split, split
from regraft.training.training import calibrate, evaluate_side

VAL = 0.1
"""The share of val where the run has none: fine-tuning stops early by it."""


def in_floats(before: Classifier) -> TrainConfig:
    """Return the options of a run, with precision ``auto`` in place of ``int8``: fine-tuning computes in floats."""
    return replace(before.config, precision="auto") if before.config.precision == "int8" else before.config


def require_fit(before: Classifier, config: FinetuneConfig) -> None:
    """Check that a run can be fine-tuned with these options.

    Raises:
        TrainingError: the run has several backbones side by side, of which none can be thawed alone; or folds are
            wanted, and its backbone has learned from all photos already.
    """
    if config.folds and before.backbone.options.tuned:
        raise TrainingError(
            f"{before.path} is fine-tuned already: its backbone has learned from the photos that folds would hold out; "
            "start from the run that it was fine-tuned from"
        )
    if before.backbone.options.beside:
        raise TrainingError(
            f"{before.path} has frozen and fine-tuned features side by side, which cannot be fine-tuned again; start "
            "from the run that it was fine-tuned from"
        )
    if len(parts_of(before.backbone)) > 1:
        raise TrainingError(
            f"{before.path} has the features of several backbones or photo sizes side by side, which cannot be "
            f"fine-tuned; train with one {option('backbone', 'NAME')} and one {option('resolution', 'PIXELS')} first"
        )


@dataclass(frozen=True, slots=True)
class Opened:
    """A run, and its photos with their features.

    Attributes:
        before: the classifier of the run.
        photos: where the photos are now, as the user said; None where they have not moved.
        dataset: the N photos of the run that can be read.
        features: their features (N, D).
        looks: their thumbnails and sizes (N,), of `LOOK`.
        key: the fingerprint of the engine that computed the features.
    """

    before: Classifier
    photos: str | os.PathLike[str] | None
    dataset: Dataset
    features: Features
    looks: NDArray[np.void]
    key: str

    @property
    def together(self) -> list[list[int]]:
        """The groups of photos that show the same picture."""
        return duplicate_groups(self.features.digests, self.features.x, self.looks["thumbnail"], self.key)

    @property
    def has_own_sides(self) -> bool:
        """Whether the photos come with sides of their own."""
        return any(record.split for record in self.dataset.records)


def with_features(before: Classifier, dataset: Dataset, photos: str | os.PathLike[str] | None) -> Opened:
    """Return the photos of a run with their features.

    Args:
        before: the classifier of the run.
        dataset: the photos, as `open_photos` returns them.
        photos: where the photos are now; None where they have not moved.

    Raises:
        DataError: the photos are not those of the run.
    """
    sides = sides_of(before, dataset)
    if not sides.train:
        raise DataError(
            f"the photos that {before.path} was trained on are not there; type {option('photos', 'FOLDER')}"
        )
    known = sorted({*sides.train, *sides.val, *sides.test})  # others were added since
    dataset = replace(dataset, records=tuple(dataset.records[i] for i in known)).in_order(before.classes)
    engine = load_engine(before.backbone, in_floats(before), trained=before.precision)
    dataset, features, looks = labelled_features(dataset, extract(dataset.records, engine), before.backbone)
    if dataset.classes != before.classes:
        raise DataError(
            f"the photos have the classes {', '.join(dataset.classes)}; the run has {', '.join(before.classes)}"
        )
    return Opened(before, photos, dataset, features, looks, engine.fingerprint)


def starting_point(opened: Opened, in_folds: bool) -> tuple[Classifier, Split]:
    """Return the classifier from which the fine-tuning of a run starts, and the split of its photos.

    Its head and metrics are those of the train side, also where the head of the run was trained on all photos.

    Args:
        opened: the run and its photos.
        in_folds: whether folds measure the result, so that there is no test side.
    """
    before, dataset = opened.before, opened.dataset
    if in_folds:
        sides = split(dataset, (before.config.val or VAL, 0.0), before.config.salt, opened.together)
    elif before.config.folds:
        console.note(
            "the run has folds: fine-tuning draws a val and a test side, and fits the head on the others first"
        )
        sides = split(dataset, (before.config.val, before.config.test), before.config.salt, opened.together)
    else:
        sides = sides_of(before, dataset)
        if "folds" in before.metrics:
            console.note("the run was measured in folds and has no test side: val alone measures the result")
        return before, sides
    return on_sides(before, dataset, sides, opened.features), sides


def on_sides(before: Classifier, dataset: Dataset, sides: Split, features: Features) -> Classifier:
    """Return the classifier with a head that is fitted, calibrated and measured on the sides of a split."""
    head = head_of(before.config).fit(features.select(sides.train), features.select(sides.val))
    calibration = calibrate(head, features, sides, before.backbone, before.config)
    measured = {
        side: evaluate_side(head, features, dataset, getattr(sides, side), calibration).to_dict()
        for side in ("val", "test")
    }
    counts = {side: len(getattr(sides, side)) for side in ("train", "val", "test")}
    kept = {name: value for name, value in before.metrics.items() if name not in ("folds", "int8_beside")}
    config = replace(in_floats(before), folds=0)
    metrics = {**kept, **measured, "counts": counts}
    return replace(before, head=head, calibration=calibration, metrics=metrics, config=config, int8=None)


def linear_head(
    before: Classifier, features: Features, sides: Split
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return weight (D, C) and bias (C,) of the classifier's head if it is linear, else of one that is fitted now."""
    state = before.head.state()
    if not {"weight", "bias"} <= set(state):
        console.note("the head of the run is not linear: fine-tuning starts from a linear one on the same features")
        state = LogisticRegression(STRENGTHS).fit(features.select(sides.train), features.select(sides.val)).state()
    return state["weight"], state["bias"]
