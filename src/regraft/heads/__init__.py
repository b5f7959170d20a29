"""Features → class logits: what regraft learns.

In: `Features` of train and val. Out: a `Head` that turns (N, D) features into (N, C) logits.
Why: on frozen features a convex head is fitted in a second, to the optimum, with nothing to tune by hand.
Surprise: val chooses a head's one free number here (L2 strength, scale, neighbours); test never comes near.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from regraft._registry import Registry
from regraft.errors import DataError
from regraft.features import Features

Matrix = NDArray[np.float32]


class Step(NamedTuple):
    """What a head reports while it learns; NaN where a side is empty."""

    number: int
    train_loss: float
    train_accuracy: float
    val_loss: float
    val_accuracy: float


OnStep = Callable[[Step], None]


class Head(Protocol):
    """Learns classes from features.

    Attributes:
        options: names of the `TrainConfig` fields that its constructor takes.
    """

    options: ClassVar[tuple[str, ...]]

    def fit(self, train: Features, val: Features, on_step: OnStep | None = None) -> Self:
        """Learn from ``train``, choosing on ``val``, which may be empty. Raises DataError below two classes."""
        ...

    def logits(self, x: Matrix) -> Matrix:
        """(N, D) float32 features to (N, C) float32 logits; their softmax are the probabilities."""
        ...

    def as_keras(self, x: Any) -> Any:
        """`logits`, as operations of Keras on a symbolic tensor (N, D): what an export holds."""
        ...

    def state(self) -> dict[str, NDArray[Any]]:
        """All that was learned, as arrays."""
        ...

    @classmethod
    def from_state(cls, state: dict[str, NDArray[Any]]) -> Self:
        """Return a head that answers as the one whose `state` this is.

        Raises:
            KeyError: an array of the state is missing.
            ValueError: an array is of another type or shape than `state` gives it.
        """
        ...


registry: Registry[type[Head]] = Registry("head")
registry.register("knn", "regraft.heads.neighbours:Neighbours")
registry.register("logistic", "regraft.heads.logistic:LogisticRegression")
registry.register("prototype", "regraft.heads.prototype:Prototype")
registry.register("sgd", "regraft.heads.sgd:GradientDescent")


def restore(name: str, state: dict[str, NDArray[Any]], classes: int, width: int) -> Head:
    """Return the head called ``name`` that has this state, after trying it on one row of zeros.

    Args:
        name: its name in the registry.
        state: what its `state` gave, or what a stranger made of that.
        classes: C, how many logits it must give.
        width: D, how many features it must take.

    Raises:
        ConfigError: there is no head of this name.
        ValueError: the state is not that of such a head.
    """
    kind = registry.load(name)
    try:
        head = kind.from_state(state)
        with np.errstate(all="ignore"):  # what overflows is told of where photos are answered
            found = head.logits(np.zeros((1, width), np.float32))
    except Exception as error:  # a plug-in's own, whatever it is: it says that the state is not one of its states
        reason = f"{error.args[0]} is missing" if isinstance(error, KeyError) and error.args else str(error)
        raise ValueError(f"the arrays make no {name} head for {width} features: {reason}") from error
    if found.shape != (1, classes):
        raise ValueError(f"the arrays make a head of {found.shape[-1]} classes; wanted {classes}")
    return head


def array_of(
    state: dict[str, NDArray[Any]], name: str, shape: tuple[int | None, ...], dtype: type[np.generic] = np.float32
) -> NDArray[Any]:
    """Return the array ``name`` of a head's state, of this type and shape; None stands for any length.

    Raises:
        KeyError: there is none.
        ValueError: it is of another type or shape.
    """
    found = state[name]
    fits = len(found.shape) == len(shape) and all(
        n == wanted if wanted is not None else n > 0 for n, wanted in zip(found.shape, shape, strict=True)
    )
    if found.dtype != dtype or not fits:
        lengths = ", ".join("any" if n is None else str(n) for n in shape)
        raise ValueError(f"{name} is {found.dtype} {found.shape}; wanted {np.dtype(dtype)} ({lengths})")
    return found


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


class Linear:
    """What linear heads share: ``logits = x @ weight_ + bias_`` on raw features."""

    options: ClassVar[tuple[str, ...]] = ()
    weight_: Matrix  # (D, C)
    bias_: Matrix  # (C,)

    def logits(self, x: Matrix) -> Matrix:
        """(N, D) features to (N, C) logits."""
        result: Matrix = x @ self.weight_ + self.bias_
        return result

    def as_keras(self, x: Any) -> Any:
        """One dense layer."""
        return constant_dense(x, self.weight_, self.bias_)

    def state(self) -> dict[str, NDArray[Any]]:
        """``weight`` (D, C) and ``bias`` (C,)."""
        return {"weight": self.weight_, "bias": self.bias_}

    @classmethod
    def from_state(cls, state: dict[str, NDArray[Any]]) -> Self:
        """Inverse of `state`. Raises KeyError or ValueError for arrays that are no such state."""
        head = cls()
        head.weight_ = array_of(state, "weight", (None, None))
        head.bias_ = array_of(state, "bias", (head.weight_.shape[1],))
        return head


def constant_dense(x: Any, weight: Matrix, bias: Matrix | None = None) -> Any:
    """``x @ weight + bias`` as a layer of Keras, for a symbolic tensor ``x`` (N, D)."""
    import keras

    dense = keras.layers.Dense(weight.shape[1], use_bias=bias is not None, trainable=False)
    result = dense(x)
    dense.set_weights([weight] if bias is None else [weight, bias])
    return result


def require_two_classes(train: Features) -> None:
    """Raise DataError for fewer."""
    present = np.unique(train.y)
    if len(present) < 2:
        only = f"only {train.classes[present[0]]!r}" if len(present) else "nothing"
        raise DataError(f"there is {only} to train on; wanted photos of at least two classes")


def best(candidates: list[float], logits: Callable[[float], Matrix], val: Features, default: float) -> float:
    """The candidate of lowest cross-entropy on val; ``default`` where there is no val."""
    return min(candidates, key=lambda c: cross_entropy(logits(c), val.y)) if len(val) else default


def step_of(number: int, train: Matrix, y: NDArray[np.int64], val: Matrix, val_y: NDArray[np.int64]) -> Step:
    """The step of a head that takes but one, from logits and class indices of both sides."""
    return Step(number, cross_entropy(train, y), accuracy(train, y), cross_entropy(val, val_y), accuracy(val, val_y))
