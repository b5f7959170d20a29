"""The k-nearest-neighbours head."""

from __future__ import annotations

from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from regraft.features.features import Features
from regraft.heads.base import (
    ClassWeight,
    Matrix,
    OnStep,
    Scaling,
    array_of,
    best,
    constant_dense,
    photo_weights,
    require_two_classes,
    step_of,
)


class Neighbours:
    """k nearest neighbours among the training photos, by cosine similarity of standardised features.

    The k with the lowest cross-entropy on val is chosen. The probability of a class is its share of the k neighbours,
    each weighted by ``exp(similarity / 0.1)`` as in Z. Wu et al., Unsupervised Feature Learning via Non-Parametric
    Instance Discrimination (2018).

    Args:
        class_weight: ``balanced`` and ``logit-adjusted`` weigh the vote of each photo inversely to the size of its
            class; ``none`` counts all votes alike.

    Attributes:
        k_: the chosen number of neighbours.
    """

    options: ClassVar[tuple[str, ...]] = ("class_weight",)
    k_: int
    _TEMPERATURE = 0.1
    _CHUNK = 1024  # rows that are compared at a time, which limits the memory for similarities

    def __init__(self, class_weight: ClassWeight = "none") -> None:
        self.class_weight = class_weight

    def fit(self, train: Features, val: Features, on_step: OnStep | None = None) -> Self:
        """Keep the features of the training photos and choose k on val. See `Head.fit`."""
        require_two_classes(train)
        self._scaling = Scaling.of(train.x)
        self._x = self._unit(train.x)
        self._y, self._classes = train.y, len(train.classes)
        self._weights = photo_weights(train, "none" if self.class_weight == "none" else "balanced")
        ks = [k for k in (1, 3, 5, 10, 20, 50) if k <= len(train)]

        def with_k(k: float) -> Matrix:
            self.k_ = int(k)
            return self.logits(val.x)

        self.k_ = int(best([float(k) for k in ks], with_k, val, default=float(min(5, len(train)))))
        if on_step:
            on_step(step_of(1, self.logits(train.x), train.y, self.logits(val.x), val.y))
        return self

    def logits(self, x: Matrix) -> Matrix:
        """Return the logits (N, C) of features (N, D). They are the logarithms of the probabilities."""
        chunks = [self._logits(x[i : i + self._CHUNK]) for i in range(0, len(x), self._CHUNK)]
        return np.concatenate(chunks) if chunks else np.empty((0, self._classes), np.float32)

    def _logits(self, x: Matrix) -> Matrix:
        """Return the logits (N, C) of one chunk of features (N, D)."""
        similarity = self._unit(x) @ self._x.T
        nearest = np.argpartition(-similarity, self.k_ - 1, axis=1)[:, : self.k_]
        weights = np.exp((np.take_along_axis(similarity, nearest, axis=1) - 1.0) / self._TEMPERATURE)
        votes = np.full((len(x), self._classes), 1e-6, np.float32)  # above 0, so that the sum below never is 0
        np.add.at(votes, (np.arange(len(x))[:, np.newaxis], self._y[nearest]), weights * self._weights[nearest])
        # Additive smoothing: without the 0.5, a class with no neighbour has a probability of almost 0, and a huge loss.
        shares = votes / votes.sum(axis=1, keepdims=True) * self.k_ + 0.5
        result: Matrix = np.log(shares / shares.sum(axis=1, keepdims=True)).astype(np.float32)
        return result

    def as_keras(self, x: Any) -> Any:
        """Return the logits (N, C) of a symbolic tensor ``x`` (N, D). The export holds all training features."""
        from keras import ops

        standard = ops.divide(ops.subtract(x, self._scaling.mean), self._scaling.spread)
        length = ops.sqrt(ops.sum(ops.square(standard), axis=1, keepdims=True))
        similarity = constant_dense(ops.divide(standard, ops.maximum(length, 1e-12)), self._x.T.copy())
        farthest = ops.min(ops.top_k(similarity, self.k_)[0], axis=1, keepdims=True)
        weights = ops.exp(ops.divide(ops.subtract(similarity, 1.0), self._TEMPERATURE))
        near = ops.cast(ops.greater_equal(similarity, farthest), "float32")
        labels = np.eye(self._classes, dtype=np.float32)[self._y] * self._weights[:, np.newaxis]
        votes = ops.add(constant_dense(ops.multiply(weights, near), labels), 1e-6)
        shares = ops.add(ops.multiply(ops.divide(votes, ops.sum(votes, axis=1, keepdims=True)), self.k_), 0.5)
        return ops.log(ops.divide(shares, ops.sum(shares, axis=1, keepdims=True)))

    def _unit(self, x: Matrix) -> Matrix:
        """Return the features (N, D), standardised and scaled to length 1."""
        standard = (x - self._scaling.mean) / self._scaling.spread
        length = np.linalg.norm(standard, axis=1, keepdims=True)
        result: Matrix = (standard / np.maximum(length, 1e-12)).astype(np.float32)
        return result

    def state(self) -> dict[str, NDArray[Any]]:
        """Return all that the head has learned, as arrays.

        The arrays are ``x`` (N, D), the training features scaled to length 1; ``y`` (N,), their class indices; ``mean``
        and ``spread`` (D,) of the standardisation; ``k`` (1,) and ``classes`` (1,), the number of classes; and
        ``weights`` (N,) of the votes.
        """
        return {
            "x": self._x,
            "y": self._y,
            "mean": self._scaling.mean,
            "spread": self._scaling.spread,
            "k": np.array([self.k_], np.int64),
            "classes": np.array([self._classes], np.int64),
            "weights": self._weights,
        }

    @classmethod
    def from_state(cls, state: dict[str, NDArray[Any]]) -> Self:
        """Return the head with these arrays of `state`. Raises KeyError or ValueError if the arrays do not fit."""
        head = cls()
        head._x = array_of(state, "x", (None, None))
        photos, width = head._x.shape
        head._y = array_of(state, "y", (photos,), np.int64)
        head._scaling = Scaling(array_of(state, "mean", (width,)), array_of(state, "spread", (width,)))
        head.k_, head._classes = (int(array_of(state, name, (1,), np.int64)[0]) for name in ("k", "classes"))
        if not 1 <= head.k_ <= photos or head._y.min() < 0 or head._y.max() >= head._classes or head._classes > 2**20:
            raise ValueError(f"{head.k_} neighbours of {photos} photos whose classes are not all in {head._classes}")
        # Runs of an earlier regraft have no weights.
        head._weights = array_of(state, "weights", (photos,)) if "weights" in state else np.ones(photos, np.float32)
        if not (head._scaling.spread > 0).all():
            raise ValueError("spread has values that are not above 0")
        return head
