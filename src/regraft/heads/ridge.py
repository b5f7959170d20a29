"""Ridge regression on the classes: a head from sums over the photos, for very many photos and classes.

In: the features and the class indices of the train split. Out: a linear head.
Why: each step of logistic regression goes through all photos for all classes. These sums are made in one pass over the
photos, and 10,000 classes cost little more than 10.
Surprise: its values are no logits of probabilities. One scale makes them so, which is chosen on val with the penalty.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from regraft.features.features import Features
from regraft.foundation.large_arrays import blocks_of
from regraft.heads.base import (
    ClassWeight,
    Matrix,
    OnStep,
    adjustment,
    cross_entropy,
    photo_weights,
    require_two_classes,
    step_of,
)
from regraft.heads.roots import LinearOnRoots, Roots

_Solve = Callable[[float], tuple[Matrix, Matrix]]

PENALTIES = (0.01, 0.1, 1.0, 10.0)
"""The penalties that are tried, in units of the mean variance of the features."""

_PENALTY = 0.1
"""The penalty without val photos."""

_SCALES = tuple(float(scale) for scale in np.geomspace(2, 500, 16))
"""The scales that are tried, by which a value between 0 (another class) and 1 (this class) becomes a logit."""

_SCALE = 20.0
"""The scale without val photos."""

_MOST_LOGITS = 10_000_000
"""At most so many logits of val photos choose penalty and scale, as logits of 10,000 classes take much memory."""


class Ridge(LinearOnRoots):
    """Ridge regression (least squares with an L2 penalty) on one indicator for each class.

    Its solution needs two sums over the photos: of the products of all pairs of features, and of the features of each
    class. Source: A. Hoerl, R. Kennard, Ridge Regression (1970); as a classifier, R. Rifkin et al. (2003).

    Args:
        class_weight: how the classes count; see `HeadConfig.class_weight`.

    Attributes:
        penalty_: the penalty of the fit, in units of the mean variance of the features.
    """

    options: ClassVar[tuple[str, ...]] = ("class_weight",)
    penalty_: float

    def __init__(self, class_weight: ClassWeight = "none") -> None:
        self.class_weight = class_weight

    def fit(self, train: Features, val: Features, on_step: OnStep | None = None) -> Self:
        """Solve for each penalty and keep the one with the lowest cross-entropy on val. See `Head.fit`."""
        require_two_classes(train)
        self.roots_ = Roots.suited(train) if train.stages else None
        sums = _Sums.of(train, self.roots_, self.class_weight)
        some = _some(val)
        x = self.roots_.of(some.x) if self.roots_ else some.x
        best = (float("inf"), _PENALTY, _SCALE)
        solve = sums.solver()
        for penalty in PENALTIES if len(some) else ():
            weight, bias = solve(penalty)
            logits = x @ weight + bias
            best = min(best, *((cross_entropy(logits * np.float32(s), some.y), penalty, s) for s in _SCALES))
        _, self.penalty_, scale = best
        weight, bias = solve(self.penalty_)
        self.weight_ = weight * np.float32(scale)
        self.bias_ = bias * np.float32(scale) - adjustment(train, self.class_weight)
        if on_step:
            shown = _some(train)
            on_step(step_of(1, self.logits(shown.x), shown.y, self.logits(some.x), some.y))
        return self


class _Sums(NamedTuple):
    """Weighted means over the training photos, E features and C classes.

    Attributes:
        products: the mean of the products of features, (E, E).
        by_class: the mean of the features times the indicator of each class, (C, E).
        shares: the share of each class, (C,).
    """

    products: NDArray[np.float64]
    by_class: NDArray[np.float64]
    shares: NDArray[np.float64]

    @classmethod
    def of(cls, train: Features, roots: Roots | None, class_weight: ClassWeight) -> _Sums:
        """Go through the photos once, in blocks."""
        weights, classes = photo_weights(train, class_weight), len(train.classes)
        shares = np.bincount(train.y, weights, classes) / len(train)
        products: NDArray[np.float64] | None = None
        for block, rows in blocks_of(train.x):
            x, w = roots.of(rows) if roots else rows, weights[block, np.newaxis]
            if products is None:
                products, by_class = np.zeros((x.shape[1],) * 2), np.zeros((classes, x.shape[1]))
            weighted = x * w
            products += x.T @ weighted
            order = np.argsort(train.y[block], kind="stable")
            present, first = np.unique(train.y[block][order], return_index=True)
            by_class[present] += np.add.reduceat(weighted[order], first, axis=0)
        assert products is not None  # noqa: S101 (there are two classes, so there are photos)
        return cls(products / len(train), by_class / len(train), shares)

    def solver(self) -> _Solve:
        """Decompose the covariance once, and return the function that solves for a penalty."""
        mean = self.by_class.sum(axis=0)
        variances, directions = np.linalg.eigh(self.products - np.outer(mean, mean))
        towards = (directions.T @ (self.by_class - np.outer(self.shares, mean)).T).astype(np.float32)
        unit, left = max(float(variances.mean()), 1e-12), directions.astype(np.float32)

        def solve(penalty: float) -> tuple[Matrix, Matrix]:
            factors = 1 / (np.maximum(variances, 0) + penalty * unit)
            weight: Matrix = left @ (towards * factors[:, np.newaxis].astype(np.float32))
            return weight, (self.shares - mean @ weight).astype(np.float32)

        return solve


def _some(features: Features) -> Features:
    """Return every n-th photo, so many that their logits are at most `_MOST_LOGITS`."""
    step = -(-len(features) * len(features.classes) // _MOST_LOGITS)
    return features.select(range(0, len(features), step)) if step > 1 else features
