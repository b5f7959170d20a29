"""Kernel logistic regression: classes whose borders are curved, at the speed of a linear head."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from regraft.features.features import Features
from regraft.foundation.large_arrays import blocks_of, empty, give_back, take
from regraft.heads.base import (
    FEWEST_VAL,
    ClassWeight,
    Matrix,
    OnStep,
    Scaling,
    adjustment,
    array_of,
    constant_dense,
    mean_of,
    require_two_classes,
)
from regraft.heads.logistic_objective import Path, Problem, Solver, blas_threads
from regraft.heads.roots import Roots

_LANDMARKS = 2500
"""With more training photos, so many of them are the landmarks: a run and its exports hold their features (17 MB)."""

_BLOCK_ROWS = 1024
"""The number of photos that are compared with the landmarks at a time, which limits the memory."""

_STRENGTHS = (10.0, 30.0, 100.0)
"""The inverse penalties that are tried on val."""

_STRENGTH = 30.0
"""The inverse penalty with fewer than `FEWEST_VAL` val photos: the best on the flowers and the solar cells."""

_TOLERANCE = 1e-4
"""The largest component of the gradient at which a fit ends."""

_LEAST_SPREAD = 1e-9
"""Photos whose square roots differ by less, as a mean of squares, are the same photo."""

_JITTER = 1e-3
"""What is added to the similarity of each landmark to itself, so that photos which are nearly equal do no harm."""


class KernelLogisticRegression:
    """Multinomial logistic regression on the similarities of a photo to training photos, with an L2 penalty.

    The similarity of two photos is a Gaussian of the distance between the signed square roots of their features
    (`Roots`). The squared distance is divided by its mean over pairs of training photos. The training photos to which a
    photo is compared are the landmarks: all, or `_LANDMARKS` that are drawn with a fixed seed. The penalty is that of
    the kernel space which the landmarks span.

    Source: T. Hastie and J. Zhu, Kernel Logistic Regression and the Import Vector Machine, 2001, with the landmarks of
    C. Williams and M. Seeger, Using the Nyström Method to Speed Up Kernel Machines, 2000.

    Args:
        class_weight: ``balanced`` weighs each photo inversely to the size of its class; ``logit-adjusted`` subtracts
            the logarithm of each class's share from the logits of the fit; ``none`` does neither.

    Attributes:
        weight_: the weight of each landmark in the logits, (M, C).
        bias_: the bias, (C,).
        landmarks_: the square roots of the landmarks, less their mean, (M, E).
        centre_: their mean, (E,).
        roots_: the representation of the features, from (N, D) to (N, E).
        gamma_: the factor of the squared distance in the exponent of the similarity, above 0.
        strength_: the inverse penalty of the fit, on the scale of ``C`` in scikit-learn.
    """

    options: ClassVar[tuple[str, ...]] = ("class_weight",)
    weight_: Matrix
    bias_: Matrix
    landmarks_: Matrix
    centre_: Matrix
    roots_: Roots
    gamma_: float
    strength_: float

    def __init__(self, class_weight: ClassWeight = "none") -> None:
        self.class_weight = class_weight

    def fit(self, train: Features, val: Features, on_step: OnStep | None = None) -> Self:
        """Fit the head with each of a few penalties, and keep the one with the lowest cross-entropy on val.

        See `Head.fit`.
        """
        require_two_classes(train)
        self.roots_ = Roots.suited(train) if train.stages else Roots((train.x.shape[1],), (1.0,))
        chosen = np.sort(np.random.default_rng(0).permutation(len(train))[:_LANDMARKS])
        roots = self.roots_.of(take(train.x, chosen))
        # Without their mean, as the distances of photos that are alike drown in rounding errors of long vectors.
        self.centre_ = mean_of(roots)
        self._compare_with(roots - self.centre_)
        spread = float(self._lengths.mean(dtype=np.float64))
        self.gamma_ = 1 / (2 * spread) if spread > _LEAST_SPREAD else 1.0
        among = self._similarities(self.landmarks_.astype(np.float64))
        lower = np.linalg.cholesky(among + _JITTER * np.eye(len(among)))
        whiten = np.linalg.inv(lower).T.astype(np.float32)  # similarities @ whiten: coordinates in the kernel space
        train, val = (replace(side, x=self._compared(side.x, whiten), stages=()) for side in (train, val))
        problem = Problem(train, self.class_weight, Scaling.centre(train.x))
        strengths = _STRENGTHS if len(val) >= FEWEST_VAL else (_STRENGTH,)
        with blas_threads(1):  # the objective has threads of its own
            found = Path(Solver(_TOLERANCE), val, on_step).best(problem, strengths)
        weight, bias = problem.unpack(found.parameters)
        self.weight_, self.bias_ = whiten @ weight, bias - adjustment(train, self.class_weight)
        self.strength_ = found.strength
        return self

    def _compare_with(self, landmarks: Matrix) -> None:
        """Set the landmarks (M, E), and their squared lengths (M,), which each photo that is answered needs."""
        self.landmarks_ = landmarks
        self._lengths: Matrix = (landmarks**2).sum(axis=1)

    def logits(self, x: Matrix) -> Matrix:
        """Return the logits (N, C) of features (N, D)."""
        return self._compared(x, self.weight_) + self.bias_

    def _compared(self, x: Matrix, weight: Matrix) -> Matrix:
        """Return the similarities (N, M) of features (N, D) to the landmarks, times a weight (M, K): (N, K)."""
        result = empty((len(x), weight.shape[1]))
        for block, rows in blocks_of(x, _BLOCK_ROWS):
            result[block] = self._similarities(self.roots_.of(rows) - self.centre_) @ weight
            give_back(result[block])
        return result

    def _similarities(self, roots: NDArray[Any]) -> NDArray[Any]:
        """Return the similarities (n, M), from 0 to 1, of square roots (n, E), less the mean, to the landmarks."""
        squares = (roots**2).sum(axis=1)[:, np.newaxis] + self._lengths
        distances = np.maximum(squares - 2 * roots @ self.landmarks_.T, 0)
        result: NDArray[Any] = np.exp(-self.gamma_ * distances)
        return result

    def as_keras(self, x: Any) -> Any:
        """Return the logits (N, C) of a symbolic tensor ``x`` (N, D). The export holds the landmarks."""
        from keras import ops

        roots = ops.subtract(self.roots_.as_keras(x), self.centre_)
        gamma = np.float32(self.gamma_)
        towards = constant_dense(roots, 2 * gamma * self.landmarks_.T, -gamma * self._lengths)
        own = ops.multiply(ops.sum(ops.square(roots), axis=1, keepdims=True), gamma)
        return constant_dense(ops.exp(ops.minimum(ops.subtract(towards, own), 0.0)), self.weight_, self.bias_)

    def state(self) -> dict[str, NDArray[Any]]:
        """Return the learned arrays.

        They are ``landmarks`` (M, E), ``landmark_centre`` (E,), ``landmark_weight`` (M, C), ``landmark_bias`` (C,),
        ``gamma`` (1,), and those of the representation.
        """
        return {
            "landmarks": self.landmarks_,
            "landmark_centre": self.centre_,
            "landmark_weight": self.weight_,
            "landmark_bias": self.bias_,
            "gamma": np.array([self.gamma_], np.float64),
            **self.roots_.state(),
        }

    @classmethod
    def from_state(cls, state: dict[str, NDArray[Any]]) -> Self:
        """Return the head with these arrays of `state`. Raises KeyError or ValueError if the arrays do not fit."""
        head = cls()
        head.roots_ = Roots.from_state(state)
        head.centre_ = array_of(state, "landmark_centre", (len(head.roots_.columns),))
        head._compare_with(array_of(state, "landmarks", (None, len(head.centre_))))
        head.weight_ = array_of(state, "landmark_weight", (len(head.landmarks_), None))
        head.bias_ = array_of(state, "landmark_bias", (head.weight_.shape[1],))
        head.gamma_ = float(array_of(state, "gamma", (1,), np.float64)[0])
        if not 0 < head.gamma_ < np.inf:
            raise ValueError(f"gamma is {head.gamma_}; wanted a number above 0")
        return head
