"""Nearest photos."""

from __future__ import annotations

from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from regraft.features import Features
from regraft.heads import Matrix, OnStep, Scaling, array_of, best, constant_dense, require_two_classes, step_of


class Neighbours:
    """k nearest training photos by cosine similarity of standardised features; k is chosen on val.

    A class's probability is its share of the neighbours, weighted by ``exp(similarity / 0.1)`` as in
    Z. Wu et al., Unsupervised Feature Learning via Non-Parametric Instance Discrimination (2018).
    """

    options: ClassVar[tuple[str, ...]] = ()
    _TEMPERATURE = 0.1
    _CHUNK = 1024

    def fit(self, train: Features, val: Features, on_step: OnStep | None = None) -> Self:
        """Keep the training photos, choose k."""
        require_two_classes(train)
        self._scaling = Scaling.of(train.x)
        self._x = self._unit(train.x)
        self._y, self._classes = train.y, len(train.classes)
        ks = [k for k in (1, 3, 5, 10, 20, 50) if k <= len(train)]

        def with_k(k: float) -> Matrix:
            self.k_ = int(k)
            return self.logits(val.x)

        self.k_ = int(best([float(k) for k in ks], with_k, val, default=float(min(5, len(train)))))
        if on_step:
            on_step(step_of(1, self.logits(train.x), train.y, self.logits(val.x), val.y))
        return self

    def logits(self, x: Matrix) -> Matrix:
        """(N, D) features to (N, C) log-probabilities."""
        chunks = [self._logits(x[i : i + self._CHUNK]) for i in range(0, len(x), self._CHUNK)]
        return np.concatenate(chunks) if chunks else np.empty((0, self._classes), np.float32)

    def _logits(self, x: Matrix) -> Matrix:
        similarity = self._unit(x) @ self._x.T
        nearest = np.argpartition(-similarity, self.k_ - 1, axis=1)[:, : self.k_]
        weights = np.exp((np.take_along_axis(similarity, nearest, axis=1) - 1.0) / self._TEMPERATURE)
        votes = np.full((len(x), self._classes), 1e-6, np.float32)
        np.add.at(votes, (np.arange(len(x))[:, np.newaxis], self._y[nearest]), weights)
        # Laplace's share for every class keeps a single dissenting photo from costing infinite loss.
        shares = votes / votes.sum(axis=1, keepdims=True) * self.k_ + 0.5
        result: Matrix = np.log(shares / shares.sum(axis=1, keepdims=True)).astype(np.float32)
        return result

    def as_keras(self, x: Any) -> Any:
        """As many operations as photos, so to say: the export holds them all."""
        from keras import ops

        standard = ops.divide(ops.subtract(x, self._scaling.mean), self._scaling.spread)
        length = ops.sqrt(ops.sum(ops.square(standard), axis=1, keepdims=True))
        similarity = constant_dense(ops.divide(standard, ops.maximum(length, 1e-12)), self._x.T.copy())
        farthest = ops.min(ops.top_k(similarity, self.k_)[0], axis=1, keepdims=True)
        weights = ops.exp(ops.divide(ops.subtract(similarity, 1.0), self._TEMPERATURE))
        near = ops.cast(ops.greater_equal(similarity, farthest), "float32")
        labels = np.eye(self._classes, dtype=np.float32)[self._y]
        votes = ops.add(constant_dense(ops.multiply(weights, near), labels), 1e-6)
        shares = ops.add(ops.multiply(ops.divide(votes, ops.sum(votes, axis=1, keepdims=True)), self.k_), 0.5)
        return ops.log(ops.divide(shares, ops.sum(shares, axis=1, keepdims=True)))

    def _unit(self, x: Matrix) -> Matrix:
        standard = (x - self._scaling.mean) / self._scaling.spread
        length = np.linalg.norm(standard, axis=1, keepdims=True)
        result: Matrix = (standard / np.maximum(length, 1e-12)).astype(np.float32)
        return result

    def state(self) -> dict[str, NDArray[Any]]:
        """Unit rows ``x`` (N, D), ``y`` (N,), the scaling's ``mean`` and ``spread`` (D,), ``k``, ``classes``."""
        return {
            "x": self._x,
            "y": self._y,
            "mean": self._scaling.mean,
            "spread": self._scaling.spread,
            "k": np.array([self.k_], np.int64),
            "classes": np.array([self._classes], np.int64),
        }

    @classmethod
    def from_state(cls, state: dict[str, NDArray[Any]]) -> Self:
        """Inverse of `state`. Raises KeyError or ValueError for arrays that are no such state."""
        head = cls()
        head._x = array_of(state, "x", (None, None))
        photos, width = head._x.shape
        head._y = array_of(state, "y", (photos,), np.int64)
        head._scaling = Scaling(array_of(state, "mean", (width,)), array_of(state, "spread", (width,)))
        head.k_, head._classes = (int(array_of(state, name, (1,), np.int64)[0]) for name in ("k", "classes"))
        if not 1 <= head.k_ <= photos or head._y.min() < 0 or head._y.max() >= head._classes or head._classes > 2**20:
            raise ValueError(f"{head.k_} neighbours of {photos} photos whose classes are not all in {head._classes}")
        if not (head._scaling.spread > 0).all():
            raise ValueError("spread has values that are not above 0")
        return head
