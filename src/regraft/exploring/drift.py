"""Whether photos that a predictor answers are still like those of its training.

In: a predictor, and its answers to recent photos. Out: figures, such as the stability index of the classes.
Why: a classifier that was good in spring may be wrong in winter, and nobody labels the photos of winter.
Surprise: beside the stability index stands the one that chance alone would give, which falls with the number of
photos.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regraft.classifiers.classifier import Classifier
from regraft.classifiers.predictor import Predictor

RECENT = 1000
"""The number of the latest answered photos of a predictor that are compared with its training."""

FEWEST = 100
"""The smallest number of photos whose classes are compared with those of the training."""

_SMALLEST = 1e-4  # a share in the stability index, so that a class without a photo does not make it infinite

DRIFT = {
    "recent_photos": f"Photos that the other recent figures are of: the latest, at most {RECENT}.",
    "recent_novelty": "Mean novelty of recent photos; about 0 for photos like those of the training.",
    "none_of_these_novelty": 'Novelty above which the answer is "none of these".',
    "recent_none_of_these_ratio": 'Share of recent photos answered "none of these".',
    "training_none_of_these_ratio": 'Share of the photos held out in the training that were answered "none of these".',
    "recent_class_drift": "Population stability index: answers to recent photos against those to photos held out.",
    "chance_class_drift": "The stability index that as many photos like those of the training would have on average.",
}
"""The figures that tell whether photos differ from those of the training, and what each is."""


def drift_of(predictor: Predictor, recent: Sequence[tuple[int, float]]) -> dict[str, float]:
    """Return the figures that tell whether photos differ from those of the training.

    Args:
        predictor: the predictor that answered them.
        recent: class index and novelty of the latest photos.

    Returns:
        The figures by the names in `DRIFT`; those that are not known are missing.
    """
    found = {"recent_photos": float(len(recent))}
    threshold = predictor.threshold
    if threshold is not None:
        found["none_of_these_novelty"] = threshold
    novelty = [value for _, value in recent if not math.isnan(value)]
    if novelty:
        found["recent_novelty"] = float(np.mean(novelty))
        if threshold is not None:
            found["recent_none_of_these_ratio"] = float(np.mean(np.array(novelty) > threshold))
    if isinstance(predictor, Classifier):
        evaluation = predictor.evaluation
        if evaluation.rejected is not None:
            found["training_none_of_these_ratio"] = evaluation.rejected
        if len(recent) >= FEWEST and evaluation.confusion:
            seen = np.bincount([index for index, _ in recent], minlength=len(predictor.classes))
            found["recent_class_drift"] = stability_index(np.sum(evaluation.confusion, axis=0), seen)
            found["chance_class_drift"] = (len(seen) - 1) * (1 / len(recent) + 1 / evaluation.n)
    return found


def stability_index(expected: NDArray[Any], seen: NDArray[Any]) -> float:
    """Return the population stability index of two counts (C,) of the same classes: 0 where the shares are equal."""
    before, now = (np.maximum(counts / counts.sum(), _SMALLEST) for counts in (expected, seen))
    return float(np.sum((now - before) * np.log(now / before)))
