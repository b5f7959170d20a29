"""Logits → calibrated probabilities, and the answer "none of these".

In: the logits of a fitted head, and the features that the logits come from. Out: `Calibration`, which turns both into
`Answers`.
Why: of the answers with probability 0.9, nine in ten should be right; and a photo of something else should get no
class.
Surprise: the temperature, and the scale and threshold of the novelty, are fitted on the val split, or on out-of-fold
answers, and never on test.
The training photos only give directions in feature space, which take a few kilobytes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from regraft.classifiers.predictor import Answers
from regraft.features.features import Features
from regraft.features.unit_roots import unit_roots, unit_roots_as_keras
from regraft.foundation.documents import Fields
from regraft.foundation.large_arrays import blocks_of
from regraft.heads.base import Head, Matrix, array_of, constant_dense, softmax

FEWEST = 10
"""The smallest number of val photos on which novelty is fitted. With fewer, no photo is answered "none of these"."""

PHOTOS = 4096
"""The largest number of training photos on which `Novelty.fit` finds the directions."""

MOST_LOGITS = 20_000_000
"""The largest number of logits, val photos times classes, on which a calibration is fitted."""

_PRIOR_STD = 0.25
"""The standard deviation of the Gaussian prior (mean 0) on the logarithm of the temperature."""

_WITHIN_CLASS_DIRECTIONS = 2
"""The number of directions within classes that are added to those of the class means. With more directions, the
subspace also describes photos of other things (docs/decisions.md)."""


@dataclass(frozen=True, slots=True)
class Novelty:
    """The novelty of a photo: a number that says how unlike all training photos the photo is.

    Novelty grows with the residual, which is the part of the features outside the subspace of the training photos, and
    falls with the largest logit. The method is that of H. Wang et al., ViM: Out-Of-Distribution with Virtual-logit
    Matching (2022), with three changes that gave better results on our photos:

    - The subspace holds the class means and the two directions in which photos differ most within their classes.
    - The signed square roots of the features are used, in which weak features count more.
    - A logit above `surest` counts as `surest`. Otherwise one extreme logit would hide any residual.

    Attributes:
        basis: the subspace, (S, K) float32: K orthonormal directions in the roots of the last S features.
        weights: (3,) float32: the weight of the residual, the weight of the largest logit, and the bias. A photo with
            the median residual and the median largest logit of the val photos has novelty 0.
        surest: the limit of the largest logit, which is the 95th percentile of the largest logits of the val photos.
    """

    basis: Matrix
    weights: Matrix
    surest: float

    @classmethod
    def fit(cls, train: Features, val: Features, logits: Matrix, last: int) -> Self:
        """Find the directions on the training photos and the weights on the val photos, and return the novelty.

        Args:
            train: the features of the training photos.
            val: the features of N val photos, at least `FEWEST`.
            logits: the logits (N, C) of ``val``, divided by the temperature.
            last: S, the number of features, at the end of each row, that come from the last stage of the backbone.
        """
        basis = _directions(train, last)
        return cls.weigh(basis, _residual(val.x, basis, last), logits.max(axis=1))

    @classmethod
    def weigh(cls, basis: Matrix, residual: Matrix, largest: Matrix) -> Self:
        """Return the novelty with the weights that N photos give which were not trained on.

        Args:
            basis: the subspace, (S, K).
            residual: the residuals (N,) of the photos.
            largest: the largest logits (N,) of the photos, divided by the temperature.
        """
        parts = np.stack([residual, -largest])
        near, middle, far = np.quantile(parts, (0.05, 0.5, 0.95), axis=1)
        scale = 1.0 / np.maximum(far - middle, 1e-3)
        weights = np.array([scale[0], -scale[1], -(scale @ middle)], np.float32)
        return cls(basis, weights, float(-near[1]))

    def of(self, x: Matrix, logits: Matrix) -> Matrix:
        """Return the novelty (N,) of photos with features ``x`` (N, D) and calibrated ``logits`` (N, C)."""
        return self.score(_residual(x, self.basis, len(self.basis)), logits.max(axis=1))

    def score(self, residual: Matrix, largest: Matrix) -> Matrix:
        """Return the novelty (N,) of photos with these residuals (N,) and largest calibrated logits (N,)."""
        sure = np.minimum(largest, np.float32(self.surest))
        result: Matrix = self.weights[0] * residual + self.weights[1] * sure + self.weights[2]
        return result

    def as_keras(self, x: Any, logits: Any) -> Any:
        """Return the novelty (N,) that `of` computes, as Keras operations on symbolic tensors."""
        from keras import ops

        first, second, third = map(float, self.weights)
        inside = constant_dense(unit_roots_as_keras(x[:, -len(self.basis) :]), self.basis)
        outside = ops.subtract(1.0, ops.sum(ops.square(inside), axis=1))
        residual = ops.multiply(ops.sqrt(ops.maximum(outside, 0.0)), first)
        sure = ops.multiply(ops.minimum(ops.max(logits, axis=1), self.surest), second)
        return ops.add(ops.add(residual, sure), third)


@dataclass(frozen=True, slots=True)
class Calibration:
    """The calibration of a classifier: the step from the head's logits to answers.

    Attributes:
        temperature: the number by which the logits are divided before the softmax.
        novelty: the fitted novelty; None where there were too few val photos to fit novelty on.
        threshold: the novelty above which the answer is "none of these"; None for never.
    """

    temperature: float = 1.0
    novelty: Novelty | None = None
    threshold: float | None = None

    @classmethod
    def fit(cls, head: Head, train: Features, val: Features, last: int, reject: float) -> Self:
        """Fit temperature, novelty and threshold, and return the calibration.

        With no val photo nothing is fitted (temperature 1); with fewer than `FEWEST` only the temperature is.

        Args:
            head: the fitted head, which is not changed.
            train: the features of the photos on which the head was fitted.
            val: the features of photos on which the head was not fitted.
            last: the number of features, at the end of each row, that come from the last stage of the backbone.
            reject: the share of val photos, from 0 up to 1, that may be answered "none of these"; 0 for never.
        """
        if not len(val):
            return cls()
        logits = head.logits(val.x)
        temperature = fit_temperature(logits, val.y)
        if len(val) < FEWEST:
            return cls(temperature)
        novelty = Novelty.fit(train, val, logits / temperature, last)
        scores = novelty.of(val.x, logits / temperature)
        return cls(temperature, novelty, _threshold(scores, reject))

    @classmethod
    def fit_folds(
        cls, logits: Matrix, features: Features, fold: NDArray[np.int64], last: int, reject: float
    ) -> tuple[Self, Answers]:
        """Fit temperature, novelty and threshold on out-of-fold logits.

        The calibration that is returned is fitted on all photos that are in a fold. The answers are cross-fitted: the
        calibration of the answers in one fold is fitted on the other folds, so that the answers measure what a
        calibration is worth on photos that it has not seen.

        Args:
            logits: the logits (N, C) of each photo, from a head that was not fitted on the photo's fold.
            features: the features of the N photos.
            fold: the number of each photo's fold, (N,); negative for a photo in no fold, whose logits do not count.
            last: the number of features, at the end of each row, that come from the last stage of the backbone.
            reject: the share of photos, from 0 up to 1, that may be answered "none of these"; 0 for never.

        Returns:
            The calibration, and the answers to the photos. The novelty of an answer is shifted, so that it is above the
            threshold of the calibration where it is above the threshold of its own fold.
        """
        known = fold >= 0
        numbers = np.unique(fold[known]).tolist()
        others = {i: known & (fold != i) for i in numbers}
        temperatures = {i: fit_temperature(logits[rest], features.y[rest]) for i, rest in others.items()}
        scaled = logits / np.array([temperatures.get(i, 1.0) for i in fold.tolist()], np.float32)[:, np.newaxis]
        temperature = fit_temperature(logits[known], features.y[known])
        novelty = np.full(len(fold), np.nan, np.float32)
        if known.sum() < FEWEST:
            return cls(temperature), Answers(softmax(scaled), novelty)
        residual, largest = np.full(len(fold), np.nan, np.float32), scaled.max(axis=1)
        for i in numbers:
            basis = _directions(features.select(np.flatnonzero(fold != i).tolist()), last)
            residual[fold == i] = _residual(features.x[fold == i], basis, last)
        found = Novelty.weigh(_directions(features, last), residual[known], largest[known])
        threshold = _threshold(found.score(residual[known], largest[known]), reject)
        for i, rest in others.items():
            inner = Novelty.weigh(found.basis, residual[rest], largest[rest])
            novelty[fold == i] = inner.score(residual[fold == i], largest[fold == i])
            if threshold is not None:
                own = _threshold(inner.score(residual[rest], largest[rest]), reject) or 0.0
                novelty[fold == i] += np.float32(threshold - own)
        return cls(temperature, found, threshold), Answers(softmax(scaled), novelty)

    def answers(self, x: Matrix, logits: Matrix) -> Answers:
        """Return the answers to N photos.

        Args:
            x: the features (N, D).
            logits: the head's logits (N, C), not yet divided by the temperature.

        Returns:
            Probabilities (N, C), and novelty (N,), which is NaN where no novelty was fitted.
        """
        scaled = logits / np.float32(self.temperature)
        novelty = self.novelty.of(x, scaled) if self.novelty else np.full(len(x), np.nan, np.float32)
        return Answers(softmax(scaled), novelty)

    def as_keras(self, x: Any, logits: Any) -> dict[str, Any]:
        """Return what `answers` computes, as Keras operations on symbolic tensors.

        Args:
            x: the features (N, D).
            logits: the head's logits (N, C), not yet divided by the temperature.

        Returns:
            The tensors by name: ``probabilities``, and ``novelty`` where novelty was fitted.
        """
        from keras import layers, ops

        scaled = ops.divide(logits, self.temperature)
        found = {"probabilities": layers.Softmax(name="probabilities")(scaled)}
        return {**found, "novelty": self.novelty.as_keras(x, scaled)} if self.novelty else found

    def state(self) -> dict[str, NDArray[Any]]:
        """Return the arrays of the novelty by name; an empty dict where no novelty was fitted."""
        if self.novelty is None:
            return {}
        return {"novelty_basis": self.novelty.basis, "novelty_weights": self.novelty.weights}

    def to_dict(self) -> dict[str, float | None]:
        """Return temperature, threshold and largest logit of the calibration as JSON values."""
        surest = self.novelty.surest if self.novelty else None
        return {"temperature": self.temperature, "threshold": self.threshold, "surest": surest}

    @staticmethod
    def numbers_of(fields: Fields) -> dict[str, float | None]:
        """Read and check the numbers that `to_dict` gave from a JSON document. Raises DamagedError."""
        temperature = fields.number("temperature", 1e-4, 1e4)
        threshold, surest = fields.number_or_none("threshold", -1e6, 1e6), fields.number_or_none("surest", -1e6, 1e6)
        if threshold is not None and surest is None:
            raise fields.wrong("surest", "a number, as there is a threshold")
        return {"temperature": temperature, "threshold": threshold, "surest": surest}

    @classmethod
    def from_state(cls, numbers: Mapping[str, Any], state: Mapping[str, NDArray[Any]]) -> Self:
        """Return the calibration whose `to_dict` gave ``numbers`` and whose `state` gave the arrays ``state``.

        Raises:
            KeyError: a number or an array is missing.
            ValueError: an array is of another type or shape than `state` gives it.
        """
        novelty = None
        if numbers["surest"] is not None:
            basis = array_of(dict(state), "novelty_basis", (None, None))
            weights = array_of(dict(state), "novelty_weights", (3,))
            novelty = Novelty(basis, weights, float(numbers["surest"]))
        return cls(float(numbers["temperature"]), novelty, numbers["threshold"])


def fit_temperature(logits: Matrix, y: NDArray[np.int64]) -> float:
    """Return the temperature, between 0.1 and 10, with the lowest cross-entropy (C. Guo et al., 2017) plus a prior.

    The prior is a Gaussian on the logarithm of the temperature with mean 0 and standard deviation `_PRIOR_STD`. Without
    the prior, a few val photos that are all right would give the smallest temperature, and every answer would be
    certain.

    Args:
        logits: the logits (N, C) of val photos.
        y: the class indices (N,) of these photos.
    """
    z = logits.astype(np.float64)
    wanted = float(z[np.arange(len(y)), y].sum())
    low, high = math.log(0.1), math.log(10.0)
    for _ in range(40):  # bisection: the slope of the loss by the logarithm of the temperature rises
        middle = (low + high) / 2
        inverse = math.exp(-middle)
        given = float((softmax((z * inverse).astype(np.float32)) * z).sum())
        slope = (wanted - given) * inverse + middle / _PRIOR_STD**2
        low, high = (middle, high) if slope < 0 else (low, middle)
    return math.exp((low + high) / 2)


def _threshold(scores: Matrix, reject: float) -> float | None:
    """Return the novelty above which a share ``reject`` of photos with these novelties lies; None for a share of 0."""
    return float(np.quantile(scores, 1.0 - reject, method="higher")) if reject else None


def _directions(train: Features, last: int) -> Matrix:
    """Return the subspace (S, K) of the training photos: orthonormal directions in the roots of the last features."""
    step = -(-len(train) // PHOTOS)  # records are sorted by label, so that every class keeps its share
    rows, labels = unit_roots(train.x[::step, -last:]), train.y[::step]
    means = np.stack([rows[labels == label].mean(axis=0) for label in np.unique(labels)])
    most = max(1, min(len(means), last // 2))  # at least half of the space must stay outside the subspace
    directions = np.linalg.svd(means, full_matrices=False)[2][:most].T
    within = _leading(rows - rows @ directions @ directions.T, _WITHIN_CLASS_DIRECTIONS)
    return np.concatenate([directions, within], axis=1).astype(np.float32)


def is_novel(novelty: Matrix, threshold: float | None) -> NDArray[np.bool_]:
    """Return for each of N photos whether the answer is "none of these".

    Args:
        novelty: the novelty (N,) of the photos; a photo whose novelty is NaN is never novel.
        threshold: the novelty above which a photo is novel; None for never.
    """
    return np.zeros(len(novelty), np.bool_) if threshold is None else novelty > threshold


def _residual(x: Matrix, basis: Matrix, last: int) -> Matrix:
    """Return the length (N,), in 0..1, of the part of `unit_roots` that is orthogonal to ``basis`` (S, K)."""
    result = np.empty(len(x), np.float32)
    for block, rows in blocks_of(x):
        inside = ((unit_roots(rows[:, -last:]) @ basis) ** 2).sum(axis=1)
        result[block] = np.sqrt(np.maximum(1.0 - inside, 0.0))
    return result


def _leading(rows: Matrix, count: int) -> Matrix:
    """Return the leading principal directions (S, count) of rows (N, S).

    Subspace iteration finds the few directions fast; a whole singular value decomposition would take seconds.
    """
    found = np.linalg.qr(np.random.default_rng(0).normal(size=(rows.shape[1], count + 6)).astype(np.float32))[0]
    for _ in range(12):
        found = np.linalg.qr(rows.T @ (rows @ found))[0]
    ordered = np.linalg.svd(rows @ found, full_matrices=False)[2]
    result: Matrix = (found @ ordered.T)[:, :count]
    return result
