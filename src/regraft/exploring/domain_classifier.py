"""Whether two sets of photos can be told apart: a domain classifier, and the AUC of its out-of-fold scores.

In: the features of photos of two sets, their folds, and which photos belong together. Out: a score of each photo, and
the AUC with an interval.
Why: if no classifier tells new photos from older ones, they differ in nothing that the features show (D. Lopez-Paz,
M. Oquab, Revisiting Classifier Two-Sample Tests, 2017).
Surprise: the usual interval of an AUC is too narrow here. The heads of any two folds share photos, so that their AUCs
err together; without a correction, one of ten pairs of equal sets would seem to differ (benchmarks/README.md).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from regraft.classifiers.intervals import wilson_interval
from regraft.features.features import Features
from regraft.heads.base import softmax
from regraft.heads.logistic import LogisticRegression

FOLDS = 5
FEWEST = 20
"""The smallest number of photos of each set for which an AUC is computed."""

FEWEST_UNITS = 10
"""The smallest number of units of each set: photos that belong together, such as those of one group, are one unit."""

_STRENGTH = 0.001
"""The inverse penalty of the domain classifier on standardised features."""

_SHARED = 1 + FOLDS / (FOLDS - 1)
"""How many times as large the variance of an AUC over folds is as that of independent folds: the corrected variance of
C. Nadeau, Y. Bengio, Inference for the Generalization Error (2003), where each head is fitted on all other folds."""


@dataclass(frozen=True, slots=True)
class Auc:
    """The area under the ROC curve: how often a new photo has a higher score than an older one.

    Attributes:
        value: the area, 0 to 1: 0.5 if the two sets cannot be told apart, 1 if each photo can.
        interval: its 95 % interval.
    """

    value: float
    interval: tuple[float, float]


def are_enough(new: NDArray[np.bool_], unit: NDArray[np.int64]) -> bool:
    """Return whether there are enough photos of both sets for an AUC.

    Args:
        new: whether each of N photos is new, (N,).
        unit: the number of the unit of each photo, (N,).
    """
    sets = (unit[new], unit[~new])
    return all(len(units) >= FEWEST and len(np.unique(units)) >= FEWEST_UNITS for units in sets)


def out_of_fold_scores(features: Features, fold: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return the score (N,) of each photo: the probability that it is new, where both sets count alike.

    The score of a photo is from a logistic regression that was fitted on the photos of the other folds.

    Args:
        features: the features of N photos, with the class index 1 for new photos and 0 for the others.
        fold: the number of the fold of each photo, (N,). Photos that belong together are in one fold.
    """
    scores = np.full(len(features), np.nan, np.float32)
    for number in np.unique(fold).tolist():
        held = np.flatnonzero(fold == number)
        train = features.select(np.flatnonzero(fold != number).tolist())
        if len(np.unique(train.y)) == 2:
            head = LogisticRegression((_STRENGTH,), class_weight="balanced").fit(train, features.select([]))
            scores[held] = softmax(head.logits(features.x[held]))[:, 1]
    return scores


def auc_over_folds(
    scores: NDArray[np.float32], new: NDArray[np.bool_], fold: NDArray[np.int64], unit: NDArray[np.int64]
) -> Auc | None:
    """Return the AUC of out-of-fold scores, with its 95 % interval; None if there are too few photos.

    Scores are compared within a fold alone, since each fold has a head of its own. The variance is that of E. LeDell,
    M. Petersen, M. van der Laan, Computationally efficient confidence intervals for cross-validated area under the ROC
    curve estimates (2015), which in one fold is that of E. DeLong et al. (1988); photos of one unit are added up before
    they are squared; and `_SHARED` corrects it for the photos that the heads share. The interval is that of a share
    with this variance (E. B. Wilson, 1927), which stays between 0 and 1, and has a width also where the AUC is 1.

    Args:
        scores: the scores of N photos, (N,), as `out_of_fold_scores` returns them.
        new: whether each photo is new, (N,).
        fold: the number of the fold of each photo, (N,).
        unit: the number of the unit of each photo, (N,). Photos of one unit may err together.
    """
    if not are_enough(new, unit):
        return None
    folds = [np.flatnonzero(fold == number) for number in np.unique(fold).tolist()]
    pairs = np.array([int(new[rows].sum()) * int((~new[rows]).sum()) for rows in folds], np.float64)
    if not pairs.any():
        return None
    value, errors = 0.0, np.zeros(len(scores))
    for rows, weight in zip(folds, (pairs / pairs.sum()).tolist(), strict=True):
        if weight:
            auc, parts = _in_fold(scores[rows], new[rows], unit[rows])
            value += weight * auc
            errors[rows] = weight * parts
    variance = _SHARED * float((np.bincount(unit, errors) ** 2).sum())
    n = min(len(np.unique(unit[new])), len(np.unique(unit[~new])))
    spread = value * (1 - value)
    design = variance * n / spread if spread > 0 and variance > 0 else 1.0
    return Auc(value, wilson_interval(value * n, n, design))


def _in_fold(
    scores: NDArray[np.float32], new: NDArray[np.bool_], unit: NDArray[np.int64]
) -> tuple[float, NDArray[np.float64]]:
    """Return the AUC of the M photos of a fold, and the part (M,) that each photo has in its error."""
    above, below = _share_below(scores[new], scores[~new]), _share_below(-scores[~new], -scores[new])
    auc = float(above.mean())
    parts = np.zeros(len(scores))
    for of_set, places in ((new, above), (~new, below)):
        units = len(np.unique(unit[of_set]))
        parts[of_set] = (places - auc) / len(places) * np.sqrt(units / max(units - 1, 1))
    return auc, parts


def _share_below(values: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return for each value the share of the others that are below it; an equal one counts half."""
    ordered = np.sort(others)
    found = np.searchsorted(ordered, values) + np.searchsorted(ordered, values, side="right")
    shares: NDArray[np.float64] = found / (2 * len(others))
    return shares
