"""Labelled photos → out-of-fold answers: a head for each fold, and all photos as a test of them.

In: photos with features and folds. Out: `CrossValidation`, with pooled answers to all photos.
Why: of 200 photos a test side of 20 measures an accuracy to within 15 points; all 200 measure it to within 5.
Surprise: the heads choose no hyperparameter on held-out photos, as there are too few; they take their defaults.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from regraft.classifiers.calibration import Calibration
from regraft.classifiers.evaluation import Evaluation, measure
from regraft.classifiers.held_out import HeldOut
from regraft.classifiers.predictor import Answers
from regraft.config.training import TrainConfig
from regraft.config.values import options_of
from regraft.errors import ConfigError, option
from regraft.features.backbone_choice import require_backbone
from regraft.foundation import console
from regraft.heads.base import head_of
from regraft.photos.dataset import Dataset
from regraft.photos.sources.base import spec_of
from regraft.training.folding import NEVER
from regraft.training.preparation import Clock, Prepared, open_labelled, prepare, require_trainable

DESIGN_EFFECT = 1.35
"""The variance of the accuracy of folds around that of the classifier, as a multiple of that of independent photos.

The heads of two folds share most of their photos, so their mistakes are not independent; and the classifier is one of
many that so many photos could have given. The factor is the mean over two photo sets, five numbers of photos, and 100
draws of each (docs/decisions.md, 2026-11-27)."""


@dataclass(frozen=True, slots=True)
class CrossValidation:
    """The pooled out-of-fold answers to N photos.

    Attributes:
        k: the number of folds.
        evaluation: the metrics over all photos that are in a fold.
        held_out: the number of each photo's fold, and the answers.
        calibration: the calibration that the answers of all folds together give.
        dataset: the N photos, in an order that depends on their contents alone.
    """

    k: int
    evaluation: Evaluation
    held_out: HeldOut
    calibration: Calibration
    dataset: Dataset

    def to_dict(self) -> dict[str, Any]:
        """Return the number of folds and the metrics as JSON values."""
        return {"k": self.k, **self.evaluation.to_dict()}


def cross_validate(
    photos: str | os.PathLike[str],
    config: TrainConfig | Mapping[str, Any] | str | os.PathLike[str] | None = None,
    folds: int = 5,
) -> CrossValidation:
    """Measure what `train` with the same options would learn, on all photos, and write no run.

    Args:
        photos: a folder of class folders, or any other spec that `Dataset.open` takes, without sides of its own.
        config: the options, as a `TrainConfig`, a dict of values by name, or the path of a TOML file.
        folds: the number of folds, which replaces that of ``config``.

    Raises:
        ConfigError: an option is not valid, or the photos have sides of their own.
        DataError: there are no readable photos, or they are of fewer than two classes.
        BackboneError: the backbone is unknown or not installed.
    """
    photos, config, clock = spec_of(photos), replace(options_of(TrainConfig, config), folds=folds), Clock()
    require_backbone(config)
    prepared = prepare(open_labelled(photos, config), config, clock, photos)
    if prepared.fold is None:
        raise ConfigError(f"there are no folds: {photos} has sides of its own, or {option('folds')} is 0")
    require_trainable(prepared)
    return hold_out(prepared, prepared.config)


def hold_out(prepared: Prepared, config: TrainConfig) -> CrossValidation:
    """Fit a head for each fold on all photos that are not in the fold, and answer the photos of the fold with it.

    Args:
        prepared: the photos with their features and their folds.
        config: the options of the head.
    """
    assert prepared.fold is not None  # noqa: S101 (the caller has asked)
    order = list(prepared.sides.train)  # by content, so that the sums below are the same wherever the photos are
    features, fold = prepared.features.select(order), prepared.fold[order]
    dataset = replace(prepared.dataset, records=tuple(prepared.dataset.records[i] for i in order))
    logits = np.zeros((len(features), len(features.classes)), np.float32)
    numbers = np.unique(fold[fold != NEVER]).tolist()
    nothing = features.select([])
    with console.progress("folds", len(numbers)) as advance:
        for number in numbers:
            held = np.flatnonzero(fold == number)
            head = head_of(config).fit(features.select(np.flatnonzero(fold != number).tolist()), nothing)
            logits[held] = head.logits(features.x[held])
            advance()
    calibration, answers = Calibration.fit_folds(logits, features, fold, prepared.backbone.widths[-1], config.reject)
    known = np.flatnonzero(fold != NEVER)
    evaluation = measure(
        Answers(answers.probabilities[known], answers.novelty[known]),
        features.y[known],
        dataset.classes,
        [dataset.records[i].path for i in known],
        calibration.temperature,
        calibration.threshold,
        DESIGN_EFFECT,
    )
    probabilities = np.where((fold != NEVER)[:, np.newaxis], answers.probabilities, np.float32(np.nan))
    held_out = HeldOut(fold, Answers(probabilities, answers.novelty))
    return CrossValidation(len(numbers), evaluation, held_out, calibration, dataset)
