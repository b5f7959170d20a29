"""Multinomial logistic regression, the default head."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar, Literal, Self

import numpy as np

from regraft._lbfgs import minimise
from regraft.features import Features
from regraft.heads import Linear, Matrix, OnStep, Scaling, Step, accuracy, cross_entropy, require_two_classes

ClassWeight = Literal["none", "balanced"]

_BLOCK = 64  # rows that a core's own cache holds: 0.4 MB of Lite0's features


class LogisticRegression(Linear):
    """Multinomial logistic regression with an L2 penalty, by L-BFGS.

    A path of strengths is fitted from strong to weak, each from where the last ended, and the one with the lowest
    cross-entropy on val is kept. Without val, 0.01 is fitted: the best on three photo sets was 0.01 to 0.03.

    Args:
        strengths: inverse penalties to try, ascending, on scikit-learn's scale of ``C``.
        class_weight: ``balanced`` weighs photos inversely to the size of their class.
        tolerance: largest gradient component at the optimum; the objective is a mean over photos. Ten times
            smaller took three times as long and moved no test figure (benchmarks/README.md).
    """

    options: ClassVar[tuple[str, ...]] = ("class_weight",)

    def __init__(
        self,
        strengths: Sequence[float] = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3),
        class_weight: ClassWeight = "none",
        tolerance: float = 1e-3,
    ) -> None:
        self.strengths = tuple(strengths)
        self.class_weight = class_weight
        self.tolerance = tolerance

    def fit(self, train: Features, val: Features, on_step: OnStep | None = None) -> Self:
        """Fit the path and choose; ``strength_`` is the choice."""
        require_two_classes(train)
        problem = _Problem(train, self.class_weight)
        parameters = np.zeros((train.x.shape[1] + 1) * len(train.classes), np.float32)
        steps, best, rises = 0, float("inf"), 0

        def report(parameters: Matrix) -> None:
            nonlocal steps
            steps += 1
            if on_step:
                weight, bias = problem.unpack(parameters)
                logits = val.x @ weight + bias
                train_loss, train_accuracy = problem.last
                on_step(Step(steps, train_loss, train_accuracy, cross_entropy(logits, val.y), accuracy(logits, val.y)))

        for strength in self.strengths if len(val) or len(self.strengths) == 1 else (0.01,):
            objective = problem.penalised(1.0 / (strength * len(train)))
            parameters = minimise(objective, parameters, self.tolerance, on_iteration=report)
            weight, bias = problem.unpack(parameters)
            loss = cross_entropy(val.x @ weight + bias, val.y) if len(val) else 0.0
            if loss < best:
                best, rises = loss, 0
                self.weight_, self.bias_, self.strength_ = weight, bias, strength
            else:
                rises += 1
                if rises == 2:  # the path is past its bottom
                    break
        return self


class _Problem:
    """The objective over raw features. Standardising is folded into the weights, so that ``x`` is never copied."""

    def __init__(self, train: Features, class_weight: ClassWeight) -> None:
        self._x, self._y = train.x, train.y
        self._scaling = Scaling.of(train.x)
        self._shape = (train.x.shape[1], len(train.classes))
        weights = np.ones(len(train.y), np.float32)
        if class_weight == "balanced":
            sizes = np.bincount(train.y, minlength=len(train.classes))
            weights = (len(train.y) / np.count_nonzero(sizes) / np.maximum(sizes, 1))[train.y].astype(np.float32)
        self._weights = weights / np.float32(len(train.y))
        self.last: tuple[float, float] = (float("nan"), float("nan"))
        """Mean cross-entropy and accuracy on train where the objective was last asked for: free by-products."""

    def unpack(self, parameters: Matrix) -> tuple[Matrix, Matrix]:
        """Weight (D, C) and bias (C,) for raw features."""
        features, classes = self._shape
        table = parameters.reshape(features + 1, classes)
        return self._scaling.fold(table[:features], table[features])

    def penalised(self, penalty: float) -> Callable[[Matrix], tuple[float, Matrix]]:
        """Weighted mean cross-entropy plus ``penalty / 2`` times the squared standardised weights."""
        features, classes = self._shape

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
        """Weighted loss, and its gradients by raw weight (D, C) and bias (C,).

        A block of rows is read once for both products while it is in the processor's cache.
        """
        loss = total = right = 0.0
        towards_weight = np.zeros((len(bias), len(weight)), np.float32)  # (C, D): this order multiplies faster
        towards_bias = np.zeros(len(bias), np.float32)
        for start in range(0, len(self._y), _BLOCK):
            block = slice(start, start + _BLOCK)
            x, y, weights = self._x[block], self._y[block], self._weights[block]
            rows = np.arange(len(y))
            logits = x @ weight + bias
            logits -= logits.max(axis=1, keepdims=True)
            truth = logits[rows, y].copy()
            residual = np.exp(logits, out=logits)
            sums = residual.sum(axis=1)
            losses = np.log(sums) - truth
            loss += float(weights @ losses)
            total += float(losses.sum())
            right += float(np.count_nonzero(truth == 0.0))  # 0: the label's logit is the largest
            residual /= sums[:, np.newaxis]
            residual[rows, y] -= 1.0
            residual *= weights[:, np.newaxis]
            towards_bias += residual.sum(axis=0)
            towards_weight += np.ascontiguousarray(residual.T) @ x
        self.last = (total / len(self._y), right / len(self._y))
        return loss, towards_weight.T, towards_bias
