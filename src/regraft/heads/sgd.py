"""Logistic regression by stochastic gradient descent, as the retrain.py script of TensorFlow Hub trained it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import repeat
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from regraft.errors import TrainingError, option
from regraft.features.features import Features
from regraft.heads.base import (
    ClassWeight,
    Linear,
    Matrix,
    OnStep,
    Scaling,
    Step,
    accuracy,
    adjustment,
    cross_entropy,
    photo_weights,
    require_two_classes,
    softmax,
)

_REPORTS = 100
"""The number of reports of a whole fit, if the caller does not set an interval."""


class GradientDescent(Linear):
    """Logistic regression on standardised features by stochastic gradient descent, without a penalty.

    Each step uses a batch of photos that is drawn at random. The losses on val are reported and choose nothing. To get
    the optimum, with a penalty chosen on val, use `LogisticRegression`.

    Args:
        learning_rate: the factor of the gradient in each step, above 0.
        steps: the number of steps.
        batch_size: the number of photos in each step; 0 uses all photos in each step.
        report_every: the number of steps between two reports; 0 makes about 100 reports in all.
        balanced: whether to draw a class first, each with the same probability, and then a photo of that class, as
            retrain.py did. Otherwise each photo has the same probability.
        class_weight: as that of `LogisticRegression`.
    """

    options: ClassVar[tuple[str, ...]] = ("learning_rate", "steps", "batch_size", "class_weight")
    weight_: Matrix
    bias_: Matrix

    def __init__(
        self,
        learning_rate: float = 0.01,
        steps: int = 4000,
        batch_size: int = 100,
        report_every: int = 0,
        balanced: bool = False,
        class_weight: ClassWeight = "none",
    ) -> None:
        self.learning_rate: float = learning_rate
        self.steps: int = steps
        self.batch_size: int = batch_size
        self.balanced = balanced
        self.class_weight = class_weight
        self.report_every: int = report_every or max(1, steps // _REPORTS)

    @np.errstate(over="ignore", invalid="ignore")  # TrainingError says that the weights diverged
    def fit(self, train: Features, val: Features, on_step: OnStep | None = None) -> Self:
        """Take all steps, from weights of zero. The seed is fixed, so each fit draws the same photos. See `Head.fit`.

        Raises:
            DataError: ``train`` has photos of fewer than two classes.
            TrainingError: the learning rate is so large that the weights are not finite any more.
        """
        require_two_classes(train)
        scaling, rng = Scaling.of(train.x), np.random.default_rng(0)
        x: Matrix = (train.x - scaling.mean) / scaling.spread
        weights = photo_weights(train, self.class_weight)[:, np.newaxis]
        targets, certainty = train.targets(), train.certainty
        weight, bias = np.zeros((x.shape[1], len(train.classes)), np.float32), np.zeros(len(train.classes), np.float32)
        draws = _draws(train.y, self.batch_size, self.balanced, rng)
        for number, rows in zip(range(1, self.steps + 1), draws, strict=False):
            batch = x[rows]
            logits: Matrix = batch @ weight + bias
            if on_step and (number == 1 or number % self.report_every == 0 or number == self.steps):
                self._keep(scaling, weight, bias)
                val_logits, y = self.logits(val.x), train.y[rows]
                loss = cross_entropy(logits, y, None if certainty is None else certainty[rows])
                val_loss, val_accuracy = cross_entropy(val_logits, val.y, val.certainty), accuracy(val_logits, val.y)
                on_step(Step(number, loss, accuracy(logits, y), val_loss, val_accuracy))
            error = (softmax(logits) - targets[rows]) * weights[rows] * np.float32(self.learning_rate / len(rows))
            weight -= batch.T @ error
            bias -= error.sum(axis=0)
        self._keep(scaling, weight, bias)
        self.bias_ = self.bias_ - adjustment(train, self.class_weight)
        return self

    def _keep(self, scaling: Scaling, weight: Matrix, bias: Matrix) -> None:
        """Store the weights for raw features. Raises TrainingError if they are not finite."""
        if not np.isfinite(weight).all():
            raise TrainingError(
                f"the head diverged; type a smaller {option('learning_rate')} than {self.learning_rate:g}"
            )
        self.weight_, self.bias_ = scaling.fold(weight, bias)


def _draws(y: NDArray[np.int64], size: int, balanced: bool, rng: np.random.Generator) -> Iterator[NDArray[np.int64]]:
    """Yield the indices of the photos of each step, without end. A ``size`` of 0 yields all photos each time."""
    if not size:
        yield from repeat(np.arange(len(y)))
    order, counts = np.argsort(y, kind="stable"), np.bincount(y)
    present, first = np.flatnonzero(counts), np.cumsum(counts) - counts
    while True:
        if balanced:
            drawn = present[rng.integers(0, len(present), size)]
            yield order[first[drawn] + rng.integers(0, counts[drawn])]
        else:
            yield rng.integers(0, len(y), size)
