"""Features → class logits: what regraft learns.

In: `Features` of train and val. Out: a `Head` that turns (N, D) features into (N, C) logits.
Why: on frozen features a convex head is fitted in a second, to the optimum, with nothing to tune by hand.
Surprise: val chooses a head's one free number here (L2 strength, scale, neighbours); test never comes near.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from regraft._lbfgs import minimise
from regraft._registry import Registry
from regraft.errors import DataError
from regraft.features import Features

Matrix = NDArray[np.float32]
ClassWeight = Literal["none", "balanced"]


class Step(NamedTuple):
    """What a head reports while it learns; NaN where a side is empty."""

    number: int
    train_loss: float
    train_accuracy: float
    val_loss: float
    val_accuracy: float


OnStep = Callable[[Step], None]

_BLOCK = 64  # rows that a core's own cache holds: 0.4 MB of Lite0's features


class Head(Protocol):
    """Learns classes from features."""

    def fit(self, train: Features, val: Features, on_step: OnStep | None = None) -> Self:
        """Learn from ``train``, choosing on ``val``, which may be empty. Raises DataError below two classes."""
        ...

    def logits(self, x: Matrix) -> Matrix:
        """(N, D) float32 features to (N, C) float32 logits; their softmax are the probabilities."""
        ...

    def state(self) -> dict[str, NDArray[Any]]:
        """All that was learned, as arrays."""
        ...

    @classmethod
    def from_state(cls, state: dict[str, NDArray[Any]]) -> Self:
        """A head that answers as the one whose `state` this is. Raises KeyError for a state that is not."""
        ...


registry: Registry[type[Head]] = Registry("head")
registry.register("knn", "regraft.heads:Neighbours")
registry.register("logistic", "regraft.heads:LogisticRegression")
registry.register("prototype", "regraft.heads:Prototype")


def softmax(logits: Matrix) -> Matrix:
    """Probabilities (N, C) of logits (N, C)."""
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    result: Matrix = shifted / shifted.sum(axis=1, keepdims=True)
    return result


def cross_entropy(logits: Matrix, y: NDArray[np.int64]) -> float:
    """Mean negative log-likelihood in nats; NaN for no rows."""
    if not len(y):
        return float("nan")
    shifted = logits - logits.max(axis=1, keepdims=True)
    return float(np.mean(np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(len(y)), y]))


def accuracy(logits: Matrix, y: NDArray[np.int64]) -> float:
    """Share of rows whose largest logit is the label's; NaN for no rows."""
    return float(np.mean(logits.argmax(axis=1) == y)) if len(y) else float("nan")


@dataclass(frozen=True, slots=True)
class Scaling:
    """Mean and spread of each feature over train. Standardised, one range of L2 strengths serves all backbones."""

    mean: Matrix
    spread: Matrix

    @classmethod
    def of(cls, x: Matrix) -> Scaling:
        """Learn from (N, D). A feature that never varies gets spread 1, and so weighs nothing."""
        spread = x.std(axis=0)
        return cls(x.mean(axis=0), np.where(spread > 1e-6, spread, 1.0).astype(np.float32))

    def fold(self, weight: Matrix, bias: Matrix) -> tuple[Matrix, Matrix]:
        """A linear map of standardised features as the same map of raw ones."""
        raw = weight / self.spread[:, np.newaxis]
        return raw, bias - self.mean @ raw


class _Linear:
    """What linear heads share: ``logits = x @ weight_ + bias_`` on raw features."""

    weight_: Matrix  # (D, C)
    bias_: Matrix  # (C,)

    def logits(self, x: Matrix) -> Matrix:
        """(N, D) features to (N, C) logits."""
        result: Matrix = x @ self.weight_ + self.bias_
        return result

    def state(self) -> dict[str, NDArray[Any]]:
        """``weight`` (D, C) and ``bias`` (C,)."""
        return {"weight": self.weight_, "bias": self.bias_}

    @classmethod
    def from_state(cls, state: dict[str, NDArray[Any]]) -> Self:
        """Inverse of `state`."""
        head = cls()
        head.weight_, head.bias_ = state["weight"], state["bias"]
        return head


class LogisticRegression(_Linear):
    """Multinomial logistic regression with an L2 penalty, by L-BFGS.

    A path of strengths is fitted from strong to weak, each from where the last ended, and the one with the lowest
    cross-entropy on val is kept. Without val, 0.01 is fitted: the best on three photo sets was 0.01 to 0.03.

    Args:
        strengths: inverse penalties to try, ascending, on scikit-learn's scale of ``C``.
        class_weight: ``balanced`` weighs photos inversely to the size of their class.
        tolerance: largest gradient component at the optimum; the objective is a mean over photos. Ten times
            smaller took three times as long and moved no test figure (benchmarks/README.md).
    """

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
        _require_two_classes(train)
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


class Prototype(_Linear):
    """Nearest class mean in standardised features (J. Snell et al., Prototypical Networks, 2017): no iteration.

    The scale of the distances, and with it the confidence, is the one of lowest cross-entropy on val.
    """

    def fit(self, train: Features, val: Features, on_step: OnStep | None = None) -> Self:
        """Average each class, choose the scale."""
        _require_two_classes(train)
        scaling = Scaling.of(train.x)
        means = np.stack([_mean_or_far(train, c) for c in range(len(train.classes))])
        means = (means - scaling.mean) / scaling.spread
        # |x - m|² = |x|² - 2x·m + |m|², and |x|² is the same for all classes: the rule is linear.
        weight, bias = scaling.fold(means.T.copy(), -0.5 * (means**2).sum(axis=1))
        scale = _best(
            [10.0**e for e in np.arange(-4.0, 0.1, 0.25)], lambda s: (val.x @ weight + bias) * s, val, default=0.01
        )
        self.weight_, self.bias_ = (weight * scale).astype(np.float32), (bias * scale).astype(np.float32)
        if on_step:
            on_step(_step(1, self.logits(train.x), train.y, self.logits(val.x), val.y))
        return self


class Neighbours:
    """k nearest training photos by cosine similarity of standardised features; k is chosen on val.

    A class's probability is its share of the neighbours, weighted by ``exp(similarity / 0.1)`` as in
    Z. Wu et al., Unsupervised Feature Learning via Non-Parametric Instance Discrimination (2018).
    """

    _TEMPERATURE = 0.1
    _CHUNK = 1024

    def fit(self, train: Features, val: Features, on_step: OnStep | None = None) -> Self:
        """Keep the training photos, choose k."""
        _require_two_classes(train)
        self._scaling = Scaling.of(train.x)
        self._x = self._unit(train.x)
        self._y, self._classes = train.y, len(train.classes)
        ks = [k for k in (1, 3, 5, 10, 20, 50) if k <= len(train)]

        def with_k(k: float) -> Matrix:
            self.k_ = int(k)
            return self.logits(val.x)

        self.k_ = int(_best([float(k) for k in ks], with_k, val, default=float(min(5, len(train)))))
        if on_step:
            on_step(_step(1, self.logits(train.x), train.y, self.logits(val.x), val.y))
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
        """Inverse of `state`."""
        head = cls()
        head._x, head._y = state["x"], state["y"]
        head._scaling = Scaling(state["mean"], state["spread"])
        head.k_, head._classes = int(state["k"][0]), int(state["classes"][0])
        return head


def _require_two_classes(train: Features) -> None:
    present = np.unique(train.y)
    if len(present) < 2:
        only = f"only {train.classes[present[0]]!r}" if len(present) else "nothing"
        raise DataError(f"there is {only} to train on; wanted photos of at least two classes")


def _mean_or_far(train: Features, index: int) -> Matrix:
    rows = train.x[train.y == index]
    # A class with no training photo is never the nearest.
    return rows.mean(axis=0) if len(rows) else np.full(train.x.shape[1], 1e4, np.float32)


def _best(candidates: list[float], logits: Callable[[float], Matrix], val: Features, default: float) -> float:
    """The candidate of lowest cross-entropy on val; ``default`` where there is no val."""
    return min(candidates, key=lambda c: cross_entropy(logits(c), val.y)) if len(val) else default


def _step(number: int, train: Matrix, y: NDArray[np.int64], val: Matrix, val_y: NDArray[np.int64]) -> Step:
    return Step(number, cross_entropy(train, y), accuracy(train, y), cross_entropy(val, val_y), accuracy(val, val_y))
