"""Linear discriminant analysis: a head from sums over the photos, for very many photos or classes.

In: the features and the class indices of the train split. Out: a linear head.
Why: each step of logistic regression goes through all photos for all classes. These sums are made in one pass over the
photos, and 10,000 classes cost little more than 10.
Surprise: features are not normally distributed, so that the head is too sure or not sure enough. One factor of its
logits, which is chosen on val with the penalty, corrects that.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from regraft.features.features import Features
from regraft.foundation.large_arrays import blocks_of
from regraft.heads.base import (
    FEWEST_VAL,
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

PENALTIES = (0.1, 0.3, 1.0, 3.0, 10.0)
"""The ridge penalties that are tried, in units of the mean variance of the features within a class."""

_PENALTY = 1.0
"""The penalty with fewer than `FEWEST_VAL` val photos."""

_FACTORS = tuple(float(factor) for factor in np.geomspace(0.05, 2, 16))
"""The factors of the logits that are tried."""

_FACTOR = 0.4
"""The factor with fewer than `FEWEST_VAL` val photos."""

_MOST_LOGITS = 10_000_000
"""At most so many logits of val photos choose penalty and factor, as logits of 10,000 classes take much memory."""


class Discriminant(LinearOnRoots):
    """Linear discriminant analysis whose covariance has a ridge penalty.

    All classes share one covariance within a class, and each has a mean and a share of the photos. These follow from
    two sums over the photos: of the products of all pairs of features, and of the features of each class.
    Source: J. Friedman, Regularized Discriminant Analysis (1989), with the covariance common to all classes.

    Args:
        class_weight: how the classes count; see `HeadConfig.class_weight`.

    Attributes:
        penalty_: the penalty of the fit, in units of the mean variance of the features within a class.
        factor_: the factor of the logits, apart from the logarithms of the shares.
    """

    options: ClassVar[tuple[str, ...]] = ("class_weight",)
    weight_: Matrix
    bias_: Matrix
    roots_: Roots | None = None
    penalty_: float
    factor_: float

    def __init__(self, class_weight: ClassWeight = "none") -> None:
        self.class_weight = class_weight

    def fit(self, train: Features, val: Features, on_step: OnStep | None = None) -> Self:
        """Solve for each penalty and keep the one with the lowest cross-entropy on val. See `Head.fit`."""
        require_two_classes(train)
        self.roots_ = Roots.suited(train) if train.stages else None
        sums = _Sums.of(train, self.roots_, self.class_weight)
        solve, prior = sums.solver(), sums.prior
        some = _some(val)
        best = (float("inf"), _PENALTY, _FACTOR)
        x = self.roots_.of(some.x) if self.roots_ else some.x
        for penalty in PENALTIES if len(val) >= FEWEST_VAL else ():
            weight, bias = solve(penalty)
            logits = x @ weight + bias
            tried = ((cross_entropy(logits * np.float32(f) + prior, some.y), penalty, f) for f in _FACTORS)
            best = min(best, *tried)
        _, self.penalty_, self.factor_ = best
        weight, bias = solve(self.penalty_)
        self.weight_ = weight * np.float32(self.factor_)
        self.bias_ = bias * np.float32(self.factor_) + prior - adjustment(train, self.class_weight)
        if on_step:
            shown = _some(train)
            on_step(step_of(1, self.logits(shown.x), shown.y, self.logits(some.x), some.y))
        return self


class _Sums(NamedTuple):
    """Weighted sums over the training photos, E features and C classes.

    Attributes:
        products: the products of features, (E, E).
        by_class: the features of each class, (C, E).
        sizes: the weight of each class, (C,).
    """

    products: NDArray[np.float64]
    by_class: NDArray[np.float64]
    sizes: NDArray[np.float64]

    @classmethod
    def of(cls, train: Features, roots: Roots | None, class_weight: ClassWeight) -> _Sums:
        """Go through the photos once, in blocks."""
        weights, classes = photo_weights(train, class_weight), len(train.classes)
        width = len(roots.columns) if roots else train.x.shape[1]
        products, by_class = np.zeros((width, width)), np.zeros((classes, width))
        for block, rows in blocks_of(train.x):
            x, y = roots.of(rows) if roots else rows, train.y[block]
            weighted = x * weights[block, np.newaxis]
            products += x.T @ weighted
            order = np.argsort(y, kind="stable")
            present, first = np.unique(y[order], return_index=True)
            by_class[present] += np.add.reduceat(weighted[order], first, axis=0)
        return cls(products, by_class, np.bincount(train.y, weights.astype(np.float64), classes).astype(np.float64))

    @property
    def prior(self) -> Matrix:
        """The logarithm of the share of each class, (C,); of a class without photos, that of a billionth photo."""
        return np.asarray(np.log(np.maximum(self.sizes, 1e-9) / self.sizes.sum()), np.float32)

    def solver(self) -> _Solve:
        """Decompose the covariance once, and return the function that gives weight and bias for a penalty."""
        photos, present = self.sizes.sum(), np.count_nonzero(self.sizes)
        shares, mean = (self.sizes / photos)[:, np.newaxis], self.by_class.sum(axis=0) / photos
        means = self.by_class / np.maximum(self.sizes, 1e-9)[:, np.newaxis] - mean * (shares > 0)
        total = self.products / photos - np.outer(mean, mean)
        # The covariance of all photos counts as one photo: where each class has a single one, it is all that is known.
        within = ((total - (means * shares).T @ means) * photos + total) / (photos - present + 1)
        variances, directions = np.linalg.eigh(within)
        unit, towards = max(float(variances.mean()), 1e-12), directions.T @ means.T

        def solve(penalty: float) -> tuple[Matrix, Matrix]:
            weight = directions @ (towards / (np.maximum(variances, 0) + penalty * unit)[:, np.newaxis])
            bias = -0.5 * (means.T * weight).sum(axis=0) - mean @ weight
            return weight.astype(np.float32), bias.astype(np.float32)

        return solve


def _some(features: Features) -> Features:
    """Return every n-th photo, so many that their logits are at most `_MOST_LOGITS`."""
    step = -(-len(features) * len(features.classes) // _MOST_LOGITS)
    return features.select(range(0, len(features), step)) if step > 1 else features
