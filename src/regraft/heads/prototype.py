"""Nearest class mean."""

from __future__ import annotations

from typing import Self

import numpy as np

from regraft.features import Features
from regraft.heads import Linear, Matrix, OnStep, Scaling, best, require_two_classes, step_of


class Prototype(Linear):
    """Nearest class mean in standardised features (J. Snell et al., Prototypical Networks, 2017): no iteration.

    The scale of the distances, and with it the confidence, is the one of lowest cross-entropy on val.
    """

    def fit(self, train: Features, val: Features, on_step: OnStep | None = None) -> Self:
        """Average each class, choose the scale."""
        require_two_classes(train)
        scaling = Scaling.of(train.x)
        means = np.stack([_mean_or_far(train, c) for c in range(len(train.classes))])
        means = (means - scaling.mean) / scaling.spread
        # |x - m|² = |x|² - 2x·m + |m|², and |x|² is the same for all classes: the rule is linear.
        weight, bias = scaling.fold(means.T.copy(), -0.5 * (means**2).sum(axis=1))
        scale = best(
            [10.0**e for e in np.arange(-4.0, 0.1, 0.25)], lambda s: (val.x @ weight + bias) * s, val, default=0.01
        )
        self.weight_, self.bias_ = (weight * scale).astype(np.float32), (bias * scale).astype(np.float32)
        if on_step:
            on_step(step_of(1, self.logits(train.x), train.y, self.logits(val.x), val.y))
        return self


def _mean_or_far(train: Features, index: int) -> Matrix:
    rows = train.x[train.y == index]
    # A class with no training photo is never the nearest.
    return rows.mean(axis=0) if len(rows) else np.full(train.x.shape[1], 1e4, np.float32)
