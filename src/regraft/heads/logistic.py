"""Multinomial logistic regression with an L2 penalty: the default head."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from regraft.errors import option
from regraft.features.features import Features
from regraft.foundation import console
from regraft.foundation.large_arrays import take
from regraft.heads.base import (
    FEWEST_VAL,
    ClassWeight,
    Head,
    Matrix,
    OnStep,
    Scaling,
    adjustment,
    logits_of,
    require_two_classes,
)
from regraft.heads.label_noise import are_better, contradicted, estimate, is_noisy
from regraft.heads.logistic_objective import Path, Problem, Solver, blas_threads
from regraft.heads.roots import LinearOnRoots, Roots

_CHOOSE_ON = 10_000
"""So many training photos are enough to choose the penalty: the inverse penalty is the variance of a prior on the
weights, which does not depend on the number of photos."""

_COSTLY = 200_000
"""With more training photos times classes, the steps that the curvature saves take longer than the curvature."""

_USUAL_STEPS = 25
"""About how often a fit on many photos computes the objective of all of them."""

_LONG = 600.0
"""The seconds of a fit above which the user is told before it begins."""

_USUAL_CLASSES = 10
"""Up to so many classes, the tolerance is as given. The gradient of one class falls with the number of classes."""

STRENGTHS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3)
"""The inverse penalties that are tried on standardised features."""

_STRENGTH = 0.01
"""The inverse penalty on standardised features without val photos: the best on three photo sets was 0.01 to 0.03."""

_ROOT_STRENGTHS = (1.0, 10.0, 30.0, 100.0)
"""The inverse penalties that are tried on square roots."""

_ROOT_STRENGTH = 30.0
"""The inverse penalty on square roots where there are fewer than `FEWEST_VAL` val photos."""

_STRONG = 1.0
"""The inverse penalty on square roots at which heads hardly learn wrong labels, to find these."""

_NOISE_FOLDS = 5
"""The number of folds in which wrong labels are looked for."""

_MANY = 500
"""With more photos, a fold of them shows whether labels are wrong."""

_ENOUGH = 4000
"""So many photos are enough to see whether labels are wrong, however many there are."""


class LogisticRegression(LinearOnRoots):
    """Multinomial logistic regression with an L2 penalty, fitted by L-BFGS.

    The head is fitted with a series of penalties, from strong to weak. Each fit starts at the weights of the fit
    before it. The fit with the lowest cross-entropy on val is kept.

    Args:
        strengths: the inverse penalties to try, ascending, on the scale of ``C`` in scikit-learn, for features that
            are standardised; several of them need val photos to choose on, without which 0.01 is taken. None, the
            default, takes signed square roots of the features (`Roots`) in place of standardised ones: of the last
            stage of each backbone alone where there are few photos, else of all stages. Features of unknown stages are
            standardised.
        class_weight: ``balanced`` weighs each photo inversely to the size of its class; ``logit-adjusted`` subtracts
            the logarithm of each class's share from the logits of the fit; ``none`` does neither.
        tolerance: the largest component of the gradient at which a fit on standardised features ends; on square roots,
            whose values are smaller, a tenth of it. The objective is a mean over photos. A tolerance ten times smaller
            took three times as long and changed no test result (benchmarks/README.md).

    Attributes:
        weight_: the learned weight, (E, C): for raw features, or for the square roots where there is a `roots_`.
        bias_: the learned bias, (C,).
        roots_: the representation of the features; None if the head takes raw features.
        strength_: the inverse penalty of the fit.
        reason_: why that is the strength, in words.
        left_out_: the number of training photos that it did not learn from, as their labels seem wrong (`label_noise`).
    """

    options: ClassVar[tuple[str, ...]] = ("class_weight",)
    weight_: Matrix
    bias_: Matrix
    roots_: Roots | None = None
    strength_: float
    reason_: str
    left_out_: int = 0

    def __init__(
        self,
        strengths: Sequence[float] | None = None,
        class_weight: ClassWeight = "none",
        tolerance: float = 1e-3,
    ) -> None:
        self.strengths: tuple[float, ...] | None = None if strengths is None else tuple(strengths)
        self.class_weight = class_weight
        self.tolerance = tolerance
        self._old: tuple[LogisticRegression, tuple[int, ...]] | None = None

    def fit(self, train: Features, val: Features, on_step: OnStep | None = None) -> Self:
        """Fit the head with each strength and keep the best fit. See `Head.fit`."""
        with blas_threads(1):
            return self._fit(train, val, on_step)

    def _fit(self, train: Features, val: Features, on_step: OnStep | None) -> Self:
        require_two_classes(train)
        self.roots_ = Roots.suited(train) if self.strengths is None and train.stages else None
        strengths, self.left_out_ = self._strengths(len(val)), 0
        self.reason_ = "the lowest cross-entropy on val" if len(strengths) > 1 else "the default for few val photos"
        if self.roots_:
            train, val = self.roots_.of_features(train), self.roots_.of_features(val)
        solver = self._solver(train)
        if self.roots_:
            train, strengths = self._without_doubts(train, strengths, solver)
        path, problem, start = Path(solver, val, on_step), self._problem(train), None
        if len(strengths) > 1 and len(train) > _CHOOSE_ON:
            found = path.best(self._problem(_sample(train)), strengths)
            strengths, start = (found.strength,), self._started(problem)
            start = found.parameters if start is None else start
        found = path.best(problem, strengths, start)
        self.weight_, self.bias_ = problem.unpack(found.parameters)
        self.strength_ = found.strength
        self.bias_ = self.bias_ - adjustment(train, self.class_weight)
        return self

    def _solver(self, train: Features) -> Solver:
        """Return how the fits on these photos are made, whose features are what the head learns on."""
        classes = len(train.classes)
        tolerance = self.tolerance / (10 if self.roots_ else 1) * min(1.0, _USUAL_CLASSES / classes)
        if len(train) * classes <= _COSTLY:
            return Solver(tolerance)
        some = self._problem(_sample(train))
        _warn_of_cost(len(train), classes, some.seconds() / some.count * len(train))
        return Solver(tolerance, some.curvature())

    def start_from(self, old: Head, places: Sequence[int]) -> None:
        """Start the next fit from an older head of this kind, where there are many photos. See `WarmStarted`."""
        self._old = (old, tuple(places)) if isinstance(old, LogisticRegression) else None

    def _started(self, problem: Problem) -> Matrix | None:
        """Return the parameters of the older head; None without one, or where it learned on other features."""
        if not self._old:
            return None
        old, places = self._old
        if old.roots_ != self.roots_ or len(old.weight_) != problem.width:
            return None
        weight = np.concatenate([old.weight_, np.zeros_like(old.weight_[:, :1])], axis=1)  # -1 is the last column
        return problem.pack(weight[:, places], np.append(old.bias_, old.bias_.mean())[list(places)])

    def _problem(self, train: Features) -> Problem:
        """Return the objective of these photos, whose features are the representation that the head learns on."""
        scaling = Scaling.centre(train.x) if self.roots_ else Scaling.of(train.x)
        return Problem(train, self.class_weight, scaling)

    def _without_doubts(
        self, train: Features, strengths: tuple[float, ...], solver: Solver
    ) -> tuple[Features, tuple[float, ...]]:
        """Return the photos to learn from and the strengths to try, after a look at the labels."""
        doubts = self._doubts(train, solver)
        if doubts.wrong.any():
            self.left_out_ = int(doubts.wrong.sum())
            self.reason_ = "the default, as val may have wrong labels too"  # and would ask for too strong a penalty
            return train.select(np.flatnonzero(~doubts.wrong).tolist()), (_ROOT_STRENGTH,)
        if doubts.prefer_strong and len(strengths) == 1:
            self.reason_ = "it answers training photos that are held out better than the default"
            return train, (_STRONG,)
        return train, strengths

    def _doubts(self, train: Features, solver: Solver) -> _Doubts:
        """Return which labels of the training photos seem wrong, and whether a strong penalty suits them better.

        The answers are those of heads with a strong penalty, which learn no label by heart, each fitted without a fold
        of the photos. Of many photos one fold, and some thousand photos, are enough to see that the labels are right.
        """
        order, count = np.random.default_rng(0).permutation(len(train)), len(train)
        folds = [(np.delete(order, np.s_[i::_NOISE_FOLDS]), order[i::_NOISE_FOLDS]) for i in range(_NOISE_FOLDS)]
        if count > _MANY:
            rest, held = folds[0][0][:_ENOUGH], folds[0][1][:_ENOUGH]
            held = held[_is_common(train)[held]]
            logits = self._answers(train, rest, held, (_STRONG,), solver)[0]
            if not len(held) or not is_noisy(estimate(logits, train.y[held])):
                return _Doubts(np.zeros(count, np.bool_), False)
        strengths = (_STRONG,) if count > _MANY else (_STRONG, _ROOT_STRENGTH)
        found = np.zeros((len(strengths), count, len(train.classes)), np.float32)
        for rest, held in folds:
            found[:, held] = self._answers(train, rest, held, strengths, solver)
        known = _is_common(train)
        wrong = _contradicted(found[0][known], train.y[known], known)
        for label in np.unique(train.y):  # no class may lose all of its photos
            wrong[train.y == label] &= not wrong[train.y == label].all()
        prefer = len(found) > 1 and bool(known.any()) and are_better(found[0][known], found[1][known], train.y[known])
        return _Doubts(wrong, prefer)

    def _answers(
        self,
        train: Features,
        rest: NDArray[np.int64],
        held: NDArray[np.int64],
        strengths: Sequence[float],
        solver: Solver,
    ) -> Matrix:
        """Return the logits (S, N, C) of the photos ``held``, by heads of S strengths fitted on the photos ``rest``."""
        some, x = train.select(rest.tolist()), take(train.x, held)
        problem = Problem(some, "none", Scaling.centre(some.x))
        parameters, found = problem.zeros(), []
        for strength in strengths:
            parameters = solver.solve(problem, strength, parameters)
            weight, bias = problem.unpack(parameters)
            found.append(logits_of(x, weight, bias))
        return np.stack(found)

    def _strengths(self, val: int) -> tuple[float, ...]:
        """Return the strengths to try where there are ``val`` val photos: one, where they are too few to choose."""
        if self.roots_:
            return _ROOT_STRENGTHS if val >= FEWEST_VAL else (_ROOT_STRENGTH,)
        strengths = self.strengths or STRENGTHS
        return strengths if val or len(strengths) == 1 else (_STRENGTH,)


def _is_common(train: Features) -> NDArray[np.bool_]:
    """Return for each photo (N,) whether its class has at least half as many photos as the average class, and three.

    A head with a strong penalty takes the photos of rarer classes for those of others, however right their labels are.
    """
    sizes = np.bincount(train.y, minlength=len(train.classes))
    result: NDArray[np.bool_] = sizes[train.y] >= max(3.0, len(train) / np.count_nonzero(sizes) / 2)
    return result


def _contradicted(logits: Matrix, y: NDArray[np.int64], known: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return for each photo (N,) whether its label is contradicted, from the logits and labels of those ``known``."""
    result = np.zeros(len(known), np.bool_)
    if len(y) and is_noisy(noise := estimate(logits, y)):
        result[known] = contradicted(logits, y, noise.temperature)
    return result


class _Doubts(NamedTuple):
    """Which labels (N,) seem wrong, and whether a strong penalty answers the training photos measurably better."""

    wrong: NDArray[np.bool_]
    prefer_strong: bool


def _sample(train: Features) -> Features:
    """Return at most `_CHOOSE_ON` of the photos, drawn with a fixed seed, in their order."""
    if len(train) <= _CHOOSE_ON:
        return train
    return train.select(np.sort(np.random.default_rng(0).permutation(len(train))[:_CHOOSE_ON]).tolist())


def _warn_of_cost(photos: int, classes: int, objective: float) -> None:
    """Warn before a fit that takes longer than `_LONG`; ``objective`` is the seconds of one evaluation."""
    seconds = objective * _USUAL_STEPS
    if seconds > _LONG:
        duration = f"{seconds / 3600:.1f} hours" if seconds > 7200 else f"{seconds / 60:.0f} minutes"
        console.warn(
            f"logistic regression on {photos:,} photos of {classes:,} classes will take about {duration}; "
            f"{option('head', 'discriminant')} is much faster"
        )
