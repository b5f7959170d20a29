"""Precision, recall and F1 of each class, with their intervals."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from regraft.classifiers.intervals import f1_interval, wilson_interval

MOST_CONFUSED = 1000
"""The largest number of classes with a confusion matrix: one of 10,000 classes would have a hundred million numbers."""


@dataclass(frozen=True, slots=True)
class ClassMetrics:
    """Precision, recall and F1 of one class, in 0..1, with 95 % intervals, and its number of photos ``n``.

    Precision is None where no photo was predicted to be of the class; recall and F1 are None where no photo has the
    class as its label. An interval is None where its figure is, and in the evaluation of an older regraft.
    """

    label: str
    n: int
    precision: float | None
    recall: float | None
    f1: float | None
    precision_interval: tuple[float, float] | None = None
    recall_interval: tuple[float, float] | None = None
    f1_interval: tuple[float, float] | None = None


def per_class_metrics(
    y: NDArray[np.int64], predicted: NDArray[np.int64], classes: tuple[str, ...], design: float = 1.0
) -> tuple[ClassMetrics, ...]:
    """Return the metrics of each class.

    Args:
        y: the class index of the label of each of N photos.
        predicted: the class index that is predicted for each of them.
        classes: the C labels.
        design: the design effect of the intervals; see `wilson_interval`.
    """
    of_label, of_prediction, of_hit = (
        np.bincount(found, minlength=len(classes)).tolist() for found in (y, predicted, y[y == predicted])
    )

    def one(i: int) -> ClassMetrics:
        hits, labelled, predicted = of_hit[i], of_label[i], of_prediction[i]
        return ClassMetrics(
            classes[i],
            labelled,
            precision=hits / predicted if predicted else None,
            recall=hits / labelled if labelled else None,
            f1=2 * hits / (predicted + labelled) if labelled else None,
            precision_interval=wilson_interval(hits, predicted, design) if predicted else None,
            recall_interval=wilson_interval(hits, labelled, design) if labelled else None,
            f1_interval=f1_interval(hits, labelled, predicted, design) if labelled else None,
        )

    return tuple(one(i) for i in range(len(classes)))


def confusion_matrix(y: NDArray[np.int64], predicted: NDArray[np.int64], classes: int) -> tuple[tuple[int, ...], ...]:
    """Return the confusion matrix as tuples of Python integers; empty with more than `MOST_CONFUSED` classes."""
    if classes > MOST_CONFUSED:
        return ()
    counts = np.zeros((classes, classes), np.int64)
    np.add.at(counts, (y, predicted), 1)
    return tuple(map(tuple, counts.tolist()))
