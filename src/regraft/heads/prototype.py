"""The nearest-class-mean head."""

from __future__ import annotations

from typing import ClassVar, Self

import numpy as np

from regraft.features.features import Features
from regraft.heads.base import ClassWeight, Linear, Matrix, OnStep, Scaling, best, require_two_classes, step_of


class Prototype(Linear):
    """Nearest class mean in standardised features (J. Snell et al., Prototypical Networks, 2017).

    The fit has a closed form and needs no iteration. The scale of the distances decides how confident the
    probabilities are; the scale with the lowest cross-entropy on val is chosen.

    Args:
        class_weight: changes nothing: the mean of a class says nothing about its size, so all classes count alike.
    """

    options: ClassVar[tuple[str, ...]] = ("class_weight",)

    weight_: Matrix
    bias_: Matrix

    def __init__(self, class_weight: ClassWeight = "none") -> None:
        self.class_weight = class_weight

    def fit(self, train: Features, val: Features, on_step: OnStep | None = None) -> Self:
        """Compute the mean of each class and choose the scale on val. See `Head.fit`."""
        require_two_classes(train)
        scaling = Scaling.of(train.x)
        means = np.stack([_mean_or_far(train, c) for c in range(len(train.classes))])
        means = (means - scaling.mean) / scaling.spread
        # -|x - m|²/2 = x·m - |m|²/2 - |x|²/2, and |x|² is the same for all classes: the logits are linear in x.
        weight, bias = scaling.fold(means.T.copy(), -0.5 * (means**2).sum(axis=1))
        scale = best(
            [10.0**e for e in np.arange(-4.0, 0.1, 0.25)], lambda s: (val.x @ weight + bias) * s, val, default=0.01
        )
        self.weight_, self.bias_ = (weight * scale).astype(np.float32), (bias * scale).astype(np.float32)
        if on_step:
            on_step(step_of(1, self.logits(train.x), train.y, self.logits(val.x), val.y))
        return self


def _mean_or_far(train: Features, index: int) -> Matrix:
    """Return the mean features (D,) of a class. A class without training photos gets a mean far from all photos."""
    rows = train.x[train.y == index]
    return rows.mean(axis=0) if len(rows) else np.full(train.x.shape[1], 1e4, np.float32)
