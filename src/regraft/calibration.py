"""Logits → probabilities that mean what they say, and the answer "none of these".

In: a fitted head's logits and the features under them. Out: `Calibration`, which turns both into `Answers`.
Why: at 0.9, nine in ten should be right; and a photo of something else should not be given a class.
Surprise: val fits both, test never; of the training photos only directions are kept, a few kilobytes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from regraft._documents import Fields
from regraft.features import Features
from regraft.heads import Head, Matrix, array_of, constant_dense, softmax

FEWEST = 10
"""Val photos below which nothing is said of what is none of the classes."""

PHOTOS = 4096
"""Training photos that `Novelty` looks at, at most."""

_PRIOR = 0.25
_WITHIN = 2  # directions beside those of the class means: more of them know the strangers too (docs/decisions.md)


class Answers(NamedTuple):
    """What a predictor says of N photos.

    Attributes:
        probabilities: (N, C) float32, each row summing to 1; NaN where the photo cannot be read.
        novelty: (N,) float32, how unlike all that was trained on; NaN where that is not known.
    """

    probabilities: Matrix
    novelty: Matrix


@dataclass(frozen=True, slots=True)
class Novelty:
    """How unlike all training photos one is: the part of its features that none of them has, less the surest logit.

    After H. Wang et al., ViM: Out-Of-Distribution with Virtual-logit Matching (2022), with changes that did better on
    our photos: the subspace is that of the class means and the two directions in which photos differ most within their
    classes; features are measured by the roots of their values, in which weak ones count; and a logit larger than
    nearly all of val's says no more than those, or one wild logit would make up for any strangeness.

    Attributes:
        basis: (S, K) float32, orthonormal directions in the roots of the last S features.
        weights: of the residual, of the largest logit, and what is added: (3,) float32. On val the median is 0.
        surest: the largest logit that counts.
    """

    basis: Matrix
    weights: Matrix
    surest: float

    @classmethod
    def fit(cls, train: Features, val: Features, logits: Matrix, last: int) -> Self:
        """Find the directions on train, and on val the scale.

        Args:
            train: what was trained on.
            val: at least `FEWEST` photos.
            logits: (N, C), what the head says of ``val``.
            last: S, how many of the features are of the last stage.
        """
        step = -(-len(train) // PHOTOS)  # records are sorted by label, so that every class keeps its share
        rows, labels = _unit_roots(train.x[::step], last), train.y[::step]
        means = np.stack([rows[labels == label].mean(axis=0) for label in np.unique(labels)])
        most = max(1, min(len(means), last // 2))
        directions = np.linalg.svd(means, full_matrices=False)[2][:most].T
        basis = np.concatenate([directions, _leading(rows - rows @ directions @ directions.T, _WITHIN)], axis=1)
        parts = np.stack([_residual(val.x, basis, last), -logits.max(axis=1)])
        near, middle, far = np.quantile(parts, (0.05, 0.5, 0.95), axis=1)
        scale = 1.0 / np.maximum(far - middle, 1e-3)
        weights = np.array([scale[0], -scale[1], -(scale @ middle)], np.float32)
        return cls(basis.astype(np.float32), weights, float(-near[1]))

    def of(self, x: Matrix, logits: Matrix) -> Matrix:
        """Novelty (N,) of features (N, D) with logits (N, C)."""
        residual = _residual(x, self.basis, len(self.basis))
        sure = np.minimum(logits.max(axis=1), np.float32(self.surest))
        result: Matrix = self.weights[0] * residual + self.weights[1] * sure + self.weights[2]
        return result

    def as_keras(self, x: Any, logits: Any) -> Any:
        """`of`, as operations of Keras on symbolic tensors."""
        from keras import ops

        first, second, third = map(float, self.weights)
        end = x[:, -len(self.basis) :]
        roots = ops.multiply(ops.sign(end), ops.sqrt(ops.abs(end)))
        length = ops.sqrt(ops.sum(ops.square(roots), axis=1, keepdims=True))
        inside = constant_dense(ops.divide(roots, ops.maximum(length, 1e-6)), self.basis)
        outside = ops.subtract(1.0, ops.sum(ops.square(inside), axis=1))
        residual = ops.multiply(ops.sqrt(ops.maximum(outside, 0.0)), first)
        sure = ops.multiply(ops.minimum(ops.max(logits, axis=1), self.surest), second)
        return ops.add(ops.add(residual, sure), third)


@dataclass(frozen=True, slots=True)
class Calibration:
    """What stands between logits and answers.

    Attributes:
        temperature: what logits are divided by.
        novelty: None where there was too little val to fit it on.
        threshold: the novelty above which the answer is none of these; None for never.
    """

    temperature: float = 1.0
    novelty: Novelty | None = None
    threshold: float | None = None

    @classmethod
    def fit(cls, head: Head, train: Features, val: Features, last: int, reject: float) -> Self:
        """Fit on val.

        Args:
            head: fitted; all it says counts as it is.
            train: what it was fitted on.
            val: photos that it was not fitted on; with few of them less is fitted.
            last: how many of the features, at their end, are of the last stage.
            reject: share of val photos that may be answered with none of these; 0 for never.
        """
        if not len(val):
            return cls()
        logits = head.logits(val.x)
        temperature = fit_temperature(logits, val.y)
        if len(val) < FEWEST:
            return cls(temperature)
        novelty = Novelty.fit(train, val, logits / temperature, last)
        scores = novelty.of(val.x, logits / temperature)
        threshold = float(np.quantile(scores, 1.0 - reject, method="higher")) if reject else None
        return cls(temperature, novelty, threshold)

    def answers(self, x: Matrix, logits: Matrix) -> Answers:
        """Of features (N, D) and the head's logits (N, C)."""
        scaled = logits / np.float32(self.temperature)
        novelty = self.novelty.of(x, scaled) if self.novelty else np.full(len(x), np.nan, np.float32)
        return Answers(softmax(scaled), novelty)

    def as_keras(self, x: Any, logits: Any) -> dict[str, Any]:
        """`answers` as operations of Keras on symbolic tensors; no ``novelty`` where there is none."""
        from keras import layers, ops

        scaled = ops.divide(logits, self.temperature)
        found = {"probabilities": layers.Softmax(name="probabilities")(scaled)}
        return {**found, "novelty": self.novelty.as_keras(x, scaled)} if self.novelty else found

    def state(self) -> dict[str, NDArray[Any]]:
        """All that was learned, as arrays."""
        if self.novelty is None:
            return {}
        return {"novelty_basis": self.novelty.basis, "novelty_weights": self.novelty.weights}

    def to_dict(self) -> dict[str, float | None]:
        """The numbers, as JSON values."""
        surest = self.novelty.surest if self.novelty else None
        return {"temperature": self.temperature, "threshold": self.threshold, "surest": surest}

    @staticmethod
    def numbers_of(fields: Fields) -> dict[str, float | None]:
        """Read what `to_dict` gave out of a JSON document. Raises DamagedError for what no calibration can have."""
        temperature = fields.number("temperature", 1e-4, 1e4)
        threshold, surest = fields.number_or_none("threshold", -1e6, 1e6), fields.number_or_none("surest", -1e6, 1e6)
        if threshold is not None and surest is None:
            raise fields.wrong("surest", "a number, as there is a threshold")
        return {"temperature": temperature, "threshold": threshold, "surest": surest}

    @classmethod
    def from_state(cls, numbers: Mapping[str, Any], state: Mapping[str, NDArray[Any]]) -> Self:
        """Inverse of `to_dict` and `state`.

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
    """What to divide logits (N, C) by for the lowest cross-entropy (C. Guo et al., 2017), between 0.1 and 10.

    Its logarithm is held to be about 0, give or take `_PRIOR`, before any photo is seen: where all of a few val photos
    are right, they alone would have every answer be certain.
    """
    z = logits.astype(np.float64)
    wanted = float(z[np.arange(len(y)), y].sum())
    low, high = math.log(0.1), math.log(10.0)
    for _ in range(40):  # the slope by the logarithm of the temperature rises
        middle = (low + high) / 2
        inverse = math.exp(-middle)
        given = float((softmax((z * inverse).astype(np.float32)) * z).sum())
        slope = (wanted - given) * inverse + middle / _PRIOR**2
        low, high = (middle, high) if slope < 0 else (low, middle)
    return math.exp((low + high) / 2)


def is_novel(novelty: Matrix, threshold: float | None) -> NDArray[np.bool_]:
    """Which of N photos are none of the classes. One whose novelty is not known is not called so."""
    return np.zeros(len(novelty), np.bool_) if threshold is None else novelty > threshold


def _unit_roots(x: Matrix, last: int) -> Matrix:
    """The signed roots of the last features (N, S), of length 1."""
    end = x[:, -last:]
    roots = np.sign(end) * np.sqrt(np.abs(end))
    result: Matrix = roots / np.maximum(np.linalg.norm(roots, axis=1, keepdims=True), 1e-6)
    return result


def _residual(x: Matrix, basis: Matrix, last: int) -> Matrix:
    inside = ((_unit_roots(x, last) @ basis) ** 2).sum(axis=1)
    result: Matrix = np.sqrt(np.maximum(1.0 - inside, 0.0))
    return result


def _leading(rows: Matrix, count: int) -> Matrix:
    """The leading principal directions (S, count) of rows (N, S), by subspace iteration: all of them take seconds."""
    found = np.linalg.qr(np.random.default_rng(0).normal(size=(rows.shape[1], count + 6)).astype(np.float32))[0]
    for _ in range(12):
        found = np.linalg.qr(rows.T @ (rows @ found))[0]
    ordered = np.linalg.svd(rows @ found, full_matrices=False)[2]
    result: Matrix = (found @ ordered.T)[:, :count]
    return result
