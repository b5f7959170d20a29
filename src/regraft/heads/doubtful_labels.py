"""Which labels look wrong: those that heads contradict which were fitted on the other photos.

In: features with their labels. Out: out-of-fold probabilities, and the margin of each label.
Why: no head doubts the labels that it was fitted on.
Surprise: the penalty is stronger than the one that predicts best, since a head must not learn wrong labels by heart.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from regraft.features.features import Features
from regraft.heads.base import softmax
from regraft.heads.logistic import LogisticRegression

FOLDS = 5
STRENGTH = 0.001
"""Inverse L2 penalty (scikit-learn's C) of the heads that find wrong labels. With 5 % of the flowers' labels flipped,
80 % of these were among the worst 5 %; with 0.01, which predicts better, 75 %: it fits more of the wrong labels."""
DOUBT = -0.5
"""A label counts as wrong where its margin is at most this: another class is more probable by 0.5."""


def out_of_fold(features: Features, groups: Sequence[Sequence[int]] = ()) -> NDArray[np.float32]:
    """Return out-of-fold probabilities (N, C): each photo's from a head that was not fitted on it or its copies.

    Each of ``groups`` holds the indices of duplicates, which stay in one fold. Rows are NaN for classes with fewer than
    `FOLDS` distinct photos, and where only one class has as many.
    """
    fold = np.array([int(digest[:8], 16) % FOLDS for digest in features.digests])
    for group in groups:
        fold[list(group)] = fold[group[0]]
    distinct = defaultdict(set)
    for y, digest in zip(features.y.tolist(), features.digests, strict=True):
        distinct[y].add(digest)
    known = np.array([len(distinct[y]) >= FOLDS for y in features.y.tolist()], bool)
    result = np.full((len(features), len(features.classes)), np.nan, np.float32)
    if len(set(features.y[known].tolist())) < 2:
        return result
    for number in range(FOLDS):
        held = np.flatnonzero(known & (fold == number))
        train = features.select(np.flatnonzero(known & (fold != number)).tolist())
        if len(held) and len(set(train.y.tolist())) > 1:
            head = LogisticRegression(strengths=(STRENGTH,)).fit(train, features.select([]))
            result[held] = softmax(head.logits(features.x[held]))
    return result


def label_margins(probabilities: NDArray[np.float32], y: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return the probability of each label ``y`` (N,) minus that of the most probable other class: -1 to 1, or NaN.

    The probabilities (N, C) are those of `out_of_fold`. Source: C. Northcutt et al., Confident Learning, 2021.
    """
    rows = np.arange(len(y))
    others = probabilities.copy()
    others[rows, y] = -1.0
    result: NDArray[np.float32] = probabilities[rows, y] - others.max(axis=1, initial=-1.0)
    return result
