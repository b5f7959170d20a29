"""The objective of multinomial logistic regression, and a path of fits with penalties from strong to weak.

In: the features and the class indices of the train split. Out: the weights that minimise cross-entropy plus penalty.
Why: the objective takes nearly all the time of a fit. All cores compute it, in blocks that fit into their caches.
Surprise: the sums of parts of the photos are added in a fixed order, so that the number of threads changes no bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import NamedTuple, Self

import numpy as np

from regraft.features.features import Features
from regraft.foundation.files import threads
from regraft.foundation.large_arrays import give_back, row_blocks
from regraft.heads.base import (
    ClassWeight,
    Matrix,
    OnStep,
    Scaling,
    Step,
    accuracy,
    cross_entropy,
    logits_of,
    mean_logits,
    photo_weights,
)
from regraft.heads.curvature import WIDEST, Curvature
from regraft.heads.lbfgs import minimise

_BLOCK_ROWS = 256
"""The number of feature rows that fit into the caches of one core: 1.7 MB of the features of EfficientNet-Lite0."""

_PART_ROWS = 1024
"""The number of feature rows that a thread works on at a time. The sums of the parts are added in their order, so that
the result does not depend on the number of threads."""

_CURVE_PHOTOS = 2000
"""So many val photos draw a learning curve; all of them choose the penalty."""


@contextmanager
def blas_threads(count: int) -> Iterator[None]:
    """Let each matrix product run on ``count`` cores.

    The threads of OpenBLAS wait for each other at each small product: where another program used a core, an objective
    took four times as long. So the products of an objective, which has threads of its own, run on one core each.
    """
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    with threadpool_limits(count, user_api="blas"):
        yield


class Fit(NamedTuple):
    """A fit: the inverse penalty, the flat vector of parameters, and the cross-entropy on val (0 without photos)."""

    strength: float
    parameters: Matrix
    loss: float


@dataclass(frozen=True, slots=True)
class Solver:
    """How the objective is minimised.

    Attributes:
        tolerance: the largest component of the gradient at which a fit ends.
        curvature: `Problem.curvature` of the photos or of some of them, with which a fit takes fewer steps; or None.
    """

    tolerance: float
    curvature: Curvature | None = None

    def solve(
        self,
        problem: Problem,
        strength: float,
        start: Matrix,
        on_iteration: Callable[[Matrix], None] | None = None,
    ) -> Matrix:
        """Return the flat vector of parameters at which the objective with an inverse penalty is smallest."""
        penalty = 1.0 / (strength * problem.count)
        divide = self.curvature.divide(problem.classes, penalty) if self.curvature else None
        return minimise(problem.penalised(penalty), start, self.tolerance, on_iteration=on_iteration, divide=divide)


class Path:
    """Fits with a series of penalties, from strong to weak, and the learning curves of all of them.

    Args:
        solver: how each fit is made.
        val: the photos on which the penalty is chosen, with the representation that the head learns on.
        on_step: called after each step of each fit; or None. Of many val photos it gets the figures of `_CURVE_PHOTOS`.
    """

    def __init__(self, solver: Solver, val: Features, on_step: OnStep | None) -> None:
        self._solver, self._val, self._on_step = solver, val, on_step
        self._some = val.select(range(0, len(val), -(-len(val) // _CURVE_PHOTOS))) if len(val) > _CURVE_PHOTOS else val
        self._steps = 0

    def best(self, problem: Problem, strengths: Sequence[float], start: Matrix | None = None) -> Fit:
        """Return the fit with the lowest cross-entropy on val.

        Args:
            problem: the objective.
            strengths: the inverse penalties, ascending. Each fit starts at the parameters of the one before it.
            start: the parameters at which the first fit starts; None for zeros.
        """
        parameters, rises = problem.zeros() if start is None else start, 0
        best = Fit(strengths[0], parameters, float("inf"))
        for strength in strengths:
            parameters = self._solver.solve(problem, strength, parameters, partial(self._report, problem))
            loss = _loss(_logits(self._val, problem, parameters), self._val) if len(self._val) else 0.0
            if loss < best.loss:
                best, rises = Fit(strength, parameters, loss), 0
            else:
                rises += 1
                if rises == 2:  # two fits in a row were no better than the best: weaker penalties overfit
                    break
        return best

    def _report(self, problem: Problem, parameters: Matrix) -> None:
        self._steps += 1
        if self._on_step:
            logits = _logits(self._some, problem, parameters)
            self._on_step(Step(self._steps, *problem.last, _loss(logits, self._some), accuracy(logits, self._some.y)))


def _logits(features: Features, problem: Problem, parameters: Matrix) -> Matrix:
    return logits_of(features.x, *problem.unpack(parameters))


def _loss(logits: Matrix, photos: Features) -> float:
    return cross_entropy(logits, photos.y, photos.certainty)


class Problem:
    """The objective of logistic regression on the train split.

    The features stay as they are and are never copied: the scaling is folded into the weights.

    Attributes:
        count: N, the number of photos.
        width: D, the number of features.
        classes: C, the number of classes.
        last: the mean cross-entropy in nats and the accuracy on train at the point where the objective was last
            computed. Both are free by-products of the objective.
    """

    def __init__(self, train: Features, class_weight: ClassWeight, scaling: Scaling) -> None:
        self._x, self._y, self._certainty = train.x, train.y, train.certainty
        self.count: int = len(train.x)
        self.width: int = train.x.shape[1]
        self.classes: int = len(train.classes)
        self._scaling = scaling
        self._weights = photo_weights(train, class_weight) / np.float32(len(train.y))
        self.last: tuple[float, float] = (float("nan"), float("nan"))
        self._parts = row_blocks(self.count, _PART_ROWS)
        self._pool = ThreadPoolExecutor(threads()) if min(len(self._parts), threads()) > 1 else None

    def seconds(self) -> float:
        """Return about how many seconds one evaluation of the objective takes. A part of it is computed for that."""
        weight, bias = self.unpack(self.zeros())
        start = perf_counter()
        self._part(weight, bias, self._parts[0])
        return (perf_counter() - start) * len(self._parts) / min(len(self._parts), threads())

    def zeros(self) -> Matrix:
        """Return the parameters at which a fit begins: zeros, in a flat vector."""
        features, classes = self.width, self.classes
        return np.zeros((features + 1) * classes, np.float32)

    def pack(self, weight: Matrix, bias: Matrix) -> Matrix:
        """Return the flat vector of parameters whose `unpack` is this weight (D, C) and this bias (C,)."""
        scaled = weight * self._scaling.spread[:, np.newaxis]
        return np.append(scaled, bias + self._scaling.mean @ weight).astype(np.float32)

    def unpack(self, parameters: Matrix) -> tuple[Matrix, Matrix]:
        """Return the weight (D, C) and the bias (C,) for raw features, from a flat vector of parameters."""
        features, classes = self.width, self.classes
        table = parameters.reshape(features + 1, classes)
        return self._scaling.fold(table[:features], table[features])

    def curvature(self) -> Curvature | None:
        """Return the curvature of the objective, without a penalty; None where there are too many features for it."""
        if self.width > WIDEST:
            return None
        with blas_threads(threads()):
            return Curvature.of(self._x, self._scaling.spread)

    def penalised(self, penalty: float) -> Callable[[Matrix], tuple[float, Matrix]]:
        """Return the objective: weighted mean cross-entropy plus ``penalty / 2`` times the sum of squared weights.

        The penalised weights are those for standardised features. The objective takes a flat vector of parameters, and
        returns its value and its gradient.
        """
        features, classes = self.width, self.classes

        def objective(parameters: Matrix) -> tuple[float, Matrix]:
            flat = parameters[: features * classes]
            loss, towards_weight, towards_bias = self._cross_entropy(*self.unpack(parameters))
            gradient = np.empty((features + 1, classes), np.float32)
            gradient[:features] = towards_weight - np.outer(self._scaling.mean, towards_bias)
            gradient[:features] /= self._scaling.spread[:, np.newaxis]
            gradient[:features] += np.float32(penalty) * flat.reshape(features, classes)
            gradient[features] = towards_bias
            return loss + 0.5 * penalty * float(flat @ flat), gradient.ravel()

        return objective

    def _cross_entropy(self, weight: Matrix, bias: Matrix) -> tuple[float, Matrix, Matrix]:
        """Return the weighted mean cross-entropy and its gradients by the raw weight (D, C) and the bias (C,)."""
        work = partial(self._part, weight, bias)
        sums = _Sums.zeros(*weight.shape)
        for found in self._pool.map(work, self._parts) if self._pool else map(work, self._parts):
            sums.add(found)
        self.last = (sums.total / self.count, sums.right / self.count)
        return sums.loss, sums.towards_weight.T, sums.towards_bias

    def _part(self, weight: Matrix, bias: Matrix, part: slice) -> _Sums:
        """Return the sums over some photos.

        The rows are processed in blocks: a block is read from memory once, and serves both matrix products while it
        is in the cache of the processor.
        """
        sums = _Sums.zeros(*weight.shape)
        for start in range(part.start, part.stop, _BLOCK_ROWS):
            block = slice(start, min(start + _BLOCK_ROWS, part.stop))
            x, y, weights = self._x[block], self._y[block], self._weights[block]
            rows, certainty = np.arange(len(y)), None if self._certainty is None else self._certainty[block]
            logits = x @ weight + bias
            logits -= logits.max(axis=1, keepdims=True)
            truth = logits[rows, y].copy()
            expected = truth if certainty is None else mean_logits(logits, y, certainty)
            residual = np.exp(logits, out=logits)
            totals = residual.sum(axis=1)
            losses = np.log(totals) - expected
            sums.loss += float(weights @ losses)
            sums.total += float(losses.sum())
            sums.right += float(np.count_nonzero(truth == 0.0))  # 0 means that the true class has the largest logit
            residual /= totals[:, np.newaxis]
            if certainty is None:
                residual[rows, y] -= 1.0
            else:
                residual[rows, y] -= certainty
                residual[rows, 1 - y] -= 1 - certainty
            residual *= weights[:, np.newaxis]
            sums.towards_bias += residual.sum(axis=0)
            sums.towards_weight += np.ascontiguousarray(residual.T) @ x
        give_back(self._x[part])
        return sums


@dataclass(slots=True)
class _Sums:
    """The sums that make up the objective and its gradient.

    Attributes:
        loss: the weighted cross-entropy.
        total: the cross-entropy without weights.
        right: the number of photos whose class has the largest logit.
        towards_weight: the gradient by the weight, (C, D): it multiplies faster than (D, C).
        towards_bias: the gradient by the bias, (C,).
    """

    loss: float
    total: float
    right: float
    towards_weight: Matrix
    towards_bias: Matrix

    @classmethod
    def zeros(cls, features: int, classes: int) -> Self:
        """Return the sums over no photos."""
        return cls(0.0, 0.0, 0.0, np.zeros((classes, features), np.float32), np.zeros(classes, np.float32))

    def add(self, other: _Sums) -> None:
        """Add the sums over other photos to these."""
        self.loss += other.loss
        self.total += other.total
        self.right += other.right
        self.towards_weight += other.towards_weight
        self.towards_bias += other.towards_bias
