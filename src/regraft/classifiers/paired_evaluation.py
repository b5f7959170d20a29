"""Two predictors on the same photos → the difference of their accuracies, with its confidence interval.

In: two predictors and labelled photos. Out: `Compared`: the figures of both, and the differences with their intervals.
Why: the intervals of two accuracies say little about the difference. The photos on which the predictors differ do.
Surprise: even where the answers to few photos changed, the interval is as wide as the number of photos demands.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from regraft.classifiers.calibration import is_novel
from regraft.classifiers.evaluation import measure
from regraft.classifiers.intervals import mcnemar, paired_interval
from regraft.classifiers.predictor import Answers, Predictor
from regraft.photos.dataset import ImageRecord

_WORSE_REJECTION = 0.05
"""The smallest rise of the share of photos answered with "none of these" that counts as worse."""


@dataclass(frozen=True, slots=True)
class Paired:
    """The change of a share (such as the accuracy) between two classifiers on the same photos.

    Attributes:
        n: the number of photos.
        gained: the number of photos that count only with the second classifier.
        lost: the number of photos that count only with the first classifier.
        difference: the share of the second classifier minus the share of the first, from -1 to 1.
        interval: the 95 % interval of the difference (`paired_interval`).
        p: the p value of McNemar's exact test that the difference is 0 (`mcnemar`).
    """

    n: int
    gained: int
    lost: int
    difference: float
    interval: tuple[float, float]
    p: float


@dataclass(frozen=True, slots=True)
class Figures:
    """The metrics of one of two classifiers on the photos of a comparison.

    Attributes:
        accuracy: the share of photos whose most probable class is their label.
        log_loss: the mean negative log-likelihood of the labels (cross-entropy), in nats.
        rejected: the share of photos answered with "none of these"; None where the classifier never gives this answer.
    """

    accuracy: float
    log_loss: float
    rejected: float | None


@dataclass(frozen=True, slots=True)
class Compared:
    """The comparison of two classifiers on the same photos.

    Attributes:
        n: the number of photos that both classifiers could read.
        before: the metrics of the classifier with the frozen backbone.
        after: the metrics of the fine-tuned classifier.
        accuracy: the change of the accuracy.
        rejected: the change of the share of photos answered with "none of these".
    """

    n: int
    before: Figures
    after: Figures
    accuracy: Paired
    rejected: Paired


def pair(before: NDArray[np.bool_], after: NDArray[np.bool_]) -> Paired:
    """Return the change of the share of photos that count.

    Args:
        before: (N,) bool, whether each photo counts before the change; N is at least 1.
        after: (N,) bool, whether each photo counts after the change.
    """
    gained, lost, n = int((after & ~before).sum()), int((before & ~after).sum()), len(before)
    return Paired(n, gained, lost, (gained - lost) / n, paired_interval(gained, lost, n), mcnemar(gained, lost))


def compare_predictors(before: Predictor, after: Predictor, records: Sequence[ImageRecord]) -> Compared | None:
    """Compare two predictors on the same photos.

    Args:
        before: the first predictor.
        after: the second predictor, with the same classes in the same order.
        records: the photos; each label is one of the classes.

    Returns:
        The comparison on the photos that both predictors could read; None where there is no such photo.
    """
    if not records:
        return None
    both = (before, after)
    found = [one.answers(records, on_problem=lambda _: None) for one in both]
    good = np.flatnonzero(~np.isnan(found[0].probabilities[:, 0] + found[1].probabilities[:, 0]))
    if not len(good):
        return None
    y = np.array([before.classes.index(records[i].label) for i in good.tolist()], np.int64)
    answers = [Answers(one.probabilities[good], one.novelty[good]) for one in found]
    right = [one.probabilities.argmax(axis=1) == y for one in answers]
    rejected = [is_novel(one.novelty, predictor.threshold) for one, predictor in zip(answers, both, strict=True)]
    paths = [records[i].path for i in good.tolist()]
    old, new = (_figures(one, y, predictor, paths) for one, predictor in zip(answers, both, strict=True))
    return Compared(len(good), old, new, pair(*right), pair(*rejected))


def _figures(answers: Answers, y: NDArray[np.int64], predictor: Predictor, paths: list[Path]) -> Figures:
    """Return the metrics of the answers that a predictor gave to photos with class indices ``y`` (N,)."""
    measured = measure(answers, y, predictor.classes, paths, predictor.temperature, predictor.threshold)
    return Figures(measured.accuracy or 0.0, measured.log_loss or 0.0, measured.rejected)


def what_is_worse(side: str, compared: Compared) -> list[str]:
    """Return one sentence for each figure that is worse after a change than before.

    Accuracy is worse as soon as it falls. The share answered with "none of these" is worse where it rises by at least
    `_WORSE_REJECTION` and the interval of the rise is above 0.

    Args:
        side: the side of the split on which both classifiers were compared, for the sentences.
        compared: the comparison.
    """
    sentences, before, after = [], compared.before, compared.after
    right, rejected = compared.accuracy, compared.rejected
    if right.difference < 0:
        chance = "" if right.interval[1] < 0 else ", which may be chance"
        sentences.append(
            f"{side} accuracy fell from {before.accuracy:.1%} to {after.accuracy:.1%} ({points(right)}; "
            f"{right.lost} of {right.n} photos became wrong and {right.gained} right{chance})"
        )
    if rejected.difference >= _WORSE_REJECTION and rejected.interval[0] > 0:
        sentences.append(
            f"{after.rejected or 0:.1%} of {rejected.n} {side} photos are answered with none of these, "
            f"in place of {before.rejected or 0:.1%} ({points(rejected)})"
        )
    return sentences


def points(change: Paired) -> str:
    """Return a difference with its interval, in percentage points, and the p value of McNemar's test as text."""
    low, high = change.interval
    p = f"p = {change.p:.3f}" if change.p >= 0.001 else "p < 0.001"
    return f"{change.difference * 100:+.1f} points, 95 % interval {low * 100:+.1f} to {high * 100:+.1f}, {p}"
