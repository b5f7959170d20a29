"""Logistic regression by steps of plain gradient descent, as TensorFlow Hub's retrain.py learned it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import repeat
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from regraft.errors import TrainingError
from regraft.features import Features
from regraft.heads import Linear, Matrix, OnStep, Scaling, Step, accuracy, cross_entropy, require_two_classes, softmax

_REPORTS = 100


class GradientDescent(Linear):
    """Steps down the cross-entropy of standardised features, each of some photos drawn at random; no penalty.

    Val is only reported. The optimum, with a penalty chosen on val, is `LogisticRegression`'s.

    Args:
        learning_rate: length of a step.
        steps: how many.
        batch_size: photos a step; 0 for all.
        report_every: tell of each so many steps; 0 for a hundred times in all.
        balanced: draw a photo's class first, all alike, as retrain.py did.
    """

    options: ClassVar[tuple[str, ...]] = ("learning_rate", "steps", "batch_size")

    def __init__(
        self,
        learning_rate: float = 0.01,
        steps: int = 4000,
        batch_size: int = 100,
        report_every: int = 0,
        balanced: bool = False,
    ) -> None:
        self.learning_rate, self.steps, self.batch_size = learning_rate, steps, batch_size
        self.balanced = balanced
        self.report_every = report_every or max(1, steps // _REPORTS)

    @np.errstate(over="ignore", invalid="ignore")  # what diverges is told in words
    def fit(self, train: Features, val: Features, on_step: OnStep | None = None) -> Self:
        """Take all steps, from nothing learned; the same photos in the same order each time.

        Raises:
            TrainingError: the steps are so long that the weights are no numbers any more.
        """
        require_two_classes(train)
        scaling, dice = Scaling.of(train.x), np.random.default_rng(0)
        x: Matrix = (train.x - scaling.mean) / scaling.spread
        targets = np.eye(len(train.classes), dtype=np.float32)[train.y]
        weight, bias = np.zeros((x.shape[1], len(train.classes)), np.float32), np.zeros(len(train.classes), np.float32)
        draws = _draws(train.y, self.batch_size, self.balanced, dice)
        for number, rows in zip(range(1, self.steps + 1), draws, strict=False):
            batch = x[rows]
            logits: Matrix = batch @ weight + bias
            if on_step and (number == 1 or number % self.report_every == 0 or number == self.steps):
                self._keep(scaling, weight, bias)
                found, y = self.logits(val.x), train.y[rows]
                loss, right = cross_entropy(logits, y), accuracy(logits, y)
                on_step(Step(number, loss, right, cross_entropy(found, val.y), accuracy(found, val.y)))
            error = (softmax(logits) - targets[rows]) * np.float32(self.learning_rate / len(rows))
            weight -= batch.T @ error
            bias -= error.sum(axis=0)
        self._keep(scaling, weight, bias)
        return self

    def _keep(self, scaling: Scaling, weight: Matrix, bias: Matrix) -> None:
        if not np.isfinite(weight).all():
            raise TrainingError(f"the head diverged; type a smaller --learning-rate than {self.learning_rate:g}")
        self.weight_, self.bias_ = scaling.fold(weight, bias)


def _draws(y: NDArray[np.int64], size: int, balanced: bool, dice: np.random.Generator) -> Iterator[NDArray[np.int64]]:
    """The photos of each step; 0 for all of them."""
    if not size:
        yield from repeat(np.arange(len(y)))
    order, counts = np.argsort(y, kind="stable"), np.bincount(y)
    present, first = np.flatnonzero(counts), np.cumsum(counts) - counts
    while True:
        if balanced:
            drawn = present[dice.integers(0, len(present), size)]
            yield order[first[drawn] + dice.integers(0, counts[drawn])]
        else:
            yield dice.integers(0, len(y), size)
