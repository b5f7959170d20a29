"""The protocol and the registry of heads. A head learns to turn features into class logits.

In: the `Features` of the train and val splits. Out: a `Head` that turns features (N, D) into logits (N, C).
Why: on features of a frozen backbone a convex head is fitted to its optimum in about a second, without manual tuning.
Surprise: val chooses the one hyperparameter of a head (inverse L2 penalty C, scale or number of neighbours); with few
or no val photos a head takes its default. No head ever sees the test split.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple, Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from regraft.config.training import HeadConfig
from regraft.errors import ConfigError, DataError, option
from regraft.features.features import Features
from regraft.foundation.large_arrays import BLOCK_ROWS, blocks_of
from regraft.foundation.registry import Registry

Matrix = NDArray[np.float32]
"""A float32 array of two axes, such as features (N, D) or logits (N, C); a bias or a mean has one axis."""


ClassWeight = Literal["none", "balanced", "logit-adjusted"]
"""How a head counts the classes; see `HeadConfig.class_weight`."""

FEWEST_VAL = 50
"""With fewer val photos, a hyperparameter that they choose is worse than the default: measured for the penalty of
logistic regression (benchmarks/README.md)."""


class Step(NamedTuple):
    """The losses and accuracies that a head reports while it learns. The values of an empty split are NaN.

    Attributes:
        number: the number of the step, from 1 on.
        train_loss: cross-entropy on train, in nats.
        train_accuracy: accuracy on train, from 0 to 1.
        val_loss: cross-entropy on val, in nats.
        val_accuracy: accuracy on val, from 0 to 1.
    """

    number: int
    train_loss: float
    train_accuracy: float
    val_loss: float
    val_accuracy: float


OnStep = Callable[[Step], None]
"""A function that is called with each `Step` that a head reports."""


class Head(Protocol):
    """The protocol of a head: an object that learns to classify features.

    Attributes:
        options: the names of the `TrainConfig` fields that the head's constructor takes.
    """

    options: ClassVar[tuple[str, ...]]

    def fit(self, train: Features, val: Features, on_step: OnStep | None = None) -> Self:
        """Fit the head to the features of the train split.

        Args:
            train: the features that the head learns from.
            val: the features that choose the head's hyperparameter. They may be empty.
            on_step: a function that is called with each `Step` of the fit.

        Returns:
            The head itself.

        Raises:
            DataError: ``train`` has photos of fewer than two classes.
        """
        ...

    def logits(self, x: Matrix) -> Matrix:
        """Return the logits (N, C) of features (N, D), both float32. Their softmax is the probabilities."""
        ...

    def as_keras(self, x: Any) -> Any:
        """Return the logits (N, C) of a symbolic tensor ``x`` (N, D) as Keras operations, for an export."""
        ...

    def state(self) -> dict[str, NDArray[Any]]:
        """Return all that the head has learned, as arrays by name."""
        ...

    @classmethod
    def from_state(cls, state: dict[str, NDArray[Any]]) -> Self:
        """Return a head that gives the same logits as the head whose `state` is passed.

        Raises:
            KeyError: an array of the state is missing.
            ValueError: an array has another type or shape than the arrays that `state` returns.
        """
        ...


@runtime_checkable
class Explained(Protocol):
    """The protocol of a head whose logits are, at one photo, a sum over the features: of linear heads among others."""

    def weight_at(self, x: Matrix) -> Matrix:
        """Return the weight (D, C) by which the features ``x`` (D,) of one photo count: logits = x @ weight + bias."""
        ...


@runtime_checkable
class WarmStarted(Protocol):
    """The protocol of a head that learns faster when it starts from an older one. It ends at the same weights."""

    def start_from(self, old: Head, places: Sequence[int]) -> None:
        """Start the next fit from an older head; a head of another kind changes nothing.

        Args:
            old: the fitted head.
            places: for each class index of this head, the class index in the older one; -1 for a new class.
        """
        ...


registry: Registry[type[Head]] = Registry("head")
registry.register("discriminant", "regraft.heads.discriminant:Discriminant")
registry.register("kernel", "regraft.heads.kernel:KernelLogisticRegression")
registry.register("knn", "regraft.heads.neighbours:Neighbours")
registry.register("logistic", "regraft.heads.logistic:LogisticRegression")
registry.register("prototype", "regraft.heads.prototype:Prototype")
registry.register("sgd", "regraft.heads.sgd:GradientDescent")


def head_of(config: HeadConfig) -> Head:
    """Return a new head with the options of ``config``.

    Raises:
        ConfigError: no head has its name, or the head of a plug-in has no class weights, which are wanted.
    """
    make = registry.load(config.head)
    if config.class_weight != "none" and "class_weight" not in make.options:
        raise ConfigError(f"the head {config.head!r} has no class weights; leave {option('class_weight')} out")
    return make(**{name: getattr(config, name) for name in make.options})


def restore(name: str, state: dict[str, NDArray[Any]], classes: int, width: int) -> Head:
    """Return the head called ``name`` with the given state, after a check on one row of zeros.

    Args:
        name: the name of the head in the registry.
        state: the arrays that `Head.state` returned. They may come from a damaged or a hostile file.
        classes: C, the number of logits that the head must return.
        width: D, the number of features that the head must take.

    Raises:
        ConfigError: no head has this name.
        ValueError: the arrays are not a state of such a head.
    """
    kind = registry.load(name)
    try:
        head = kind.from_state(state)
        with np.errstate(all="ignore"):  # an overflow is reported later, when the head classifies photos
            logits = head.logits(np.zeros((1, width), np.float32))
    except Exception as error:  # the head of a plug-in may raise any error where the state does not fit
        reason = f"{error.args[0]} is missing" if isinstance(error, KeyError) and error.args else str(error)
        raise ValueError(f"the arrays make no {name} head for {width} features: {reason}") from error
    if logits.shape != (1, classes):
        raise ValueError(f"the arrays make a head of {logits.shape[-1]} classes; wanted {classes}")
    return head


def array_of(
    state: dict[str, NDArray[Any]], name: str, shape: tuple[int | None, ...], dtype: type[np.generic] = np.float32
) -> NDArray[Any]:
    """Return the array ``name`` of a head's state, after a check of its type and shape.

    Args:
        state: the arrays of a head by name.
        name: the name of the wanted array.
        shape: the wanted shape. None stands for any length above 0.
        dtype: the wanted type of the values.

    Raises:
        KeyError: the state has no array of this name.
        ValueError: the array has another type or shape.
    """
    array = state[name]
    fits = len(array.shape) == len(shape) and all(
        n == wanted if wanted is not None else n > 0 for n, wanted in zip(array.shape, shape, strict=True)
    )
    if array.dtype != dtype or not fits:
        lengths = ", ".join("any" if n is None else str(n) for n in shape)
        raise ValueError(f"{name} is {array.dtype} {array.shape}; wanted {np.dtype(dtype)} ({lengths})")
    return array


def photo_weights(train: Features, class_weight: ClassWeight) -> Matrix:
    """Return the weight of each photo (N,) in the loss: 1, or inverse to the size of its class, with the mean 1."""
    if class_weight != "balanced":
        return np.ones(len(train), np.float32)
    sizes = np.bincount(train.y, minlength=len(train.classes))
    weights: Matrix = (len(train) / np.count_nonzero(sizes) / np.maximum(sizes, 1))[train.y].astype(np.float32)
    return weights


def adjustment(train: Features, class_weight: ClassWeight) -> Matrix:
    """Return what is subtracted from the logits (C,): the logarithm of each class's share of the photos, or 0.

    A class without photos is not helped.

    Source: A. K. Menon et al., Long-tail learning via logit adjustment, 2021 (the post-hoc form, with tau = 1).
    """
    if class_weight != "logit-adjusted":
        return np.zeros(len(train.classes), np.float32)
    sizes = np.bincount(train.y, minlength=len(train.classes))
    result: Matrix = np.log(np.where(sizes, sizes / sizes.sum(), 1.0)).astype(np.float32)
    return result


def softmax(logits: Matrix) -> Matrix:
    """Return the probabilities (N, C) of logits (N, C). Each row sums to 1."""
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))  # without the shift a large logit overflows
    result: Matrix = shifted / shifted.sum(axis=1, keepdims=True)
    return result


def cross_entropy(logits: Matrix, y: NDArray[np.int64], certainty: Matrix | None = None) -> float:
    """Return the mean cross-entropy of logits (N, C) in nats; NaN if there are no rows.

    Args:
        logits: the logits.
        y: the class indices, (N,).
        certainty: the probabilities of these classes, (N,), as `Features` has them; None where the labels are certain.
    """
    if not len(y):
        return float("nan")
    shifted = logits - logits.max(axis=1, keepdims=True)
    return float(np.mean(np.log(np.exp(shifted).sum(axis=1)) - mean_logits(shifted, y, certainty)))


def mean_logits(logits: Matrix, y: NDArray[np.int64], certainty: Matrix | None) -> Matrix:
    """Return the logit (N,) of each photo's class; where the class has a probability, the mean over both classes."""
    rows = np.arange(len(y))
    truth: Matrix = logits[rows, y]
    return truth if certainty is None else certainty * truth + (1 - certainty) * logits[rows, 1 - y]


def accuracy(logits: Matrix, y: NDArray[np.int64]) -> float:
    """Return the share of rows, from 0 to 1, whose largest logit is that of their class; NaN if there are no rows."""
    return float(np.mean(logits.argmax(axis=1) == y)) if len(y) else float("nan")


@dataclass(frozen=True, slots=True)
class Scaling:
    """The mean and the standard deviation of each feature over the train split.

    Features are standardised, so that one range of L2 penalties suits all backbones.

    Attributes:
        mean: the mean of each feature, (D,).
        spread: the standard deviation of each feature, (D,), all above 0.
    """

    mean: Matrix
    spread: Matrix

    @classmethod
    def of(cls, x: Matrix) -> Scaling:
        """Return the scaling of features (N, D). A feature that does not vary gets spread 1, to avoid division by 0."""
        mean = mean_of(x)
        if len(x) <= BLOCK_ROWS:
            spread = x.std(axis=0)
        else:
            squares = sum(((rows - mean) ** 2).sum(axis=0, dtype=np.float64) for _, rows in blocks_of(x))
            spread = np.sqrt(squares / len(x))
        return cls(mean, np.where(spread > 1e-6, spread, 1.0).astype(np.float32))

    @classmethod
    def centre(cls, x: Matrix) -> Scaling:
        """Return the scaling that only subtracts the mean of each feature."""
        return cls(mean_of(x), np.ones(x.shape[1], np.float32))

    def fold(self, weight: Matrix, bias: Matrix) -> tuple[Matrix, Matrix]:
        """Return the weight (D, C) and the bias (C,) for raw features, from those for standardised features."""
        raw = weight / self.spread[:, np.newaxis]
        return raw, bias - self.mean @ raw


def mean_of(x: Matrix) -> Matrix:
    """Return the mean (D,) of rows (N, D), N at least 1; of many rows block by block, in double precision."""
    if len(x) <= BLOCK_ROWS:
        result: Matrix = x.mean(axis=0)
        return result
    total = sum(rows.sum(axis=0, dtype=np.float64) for _, rows in blocks_of(x))
    return np.asarray(total / len(x), np.float32)


def logits_of(x: Matrix, weight: Matrix, bias: Matrix, through: Callable[[Matrix], Matrix] | None = None) -> Matrix:
    """Return the logits (N, C) of features (N, D), block by block, so that little of a large array is in memory.

    Args:
        x: the features.
        weight: the weight, (E, C).
        bias: the bias, (C,).
        through: returns the representation (n, E) of n rows of features; None where the weight is for raw features.
    """
    if len(x) <= BLOCK_ROWS:
        result: Matrix = (through(x) if through else x) @ weight + bias
        return result
    result = np.empty((len(x), len(bias)), np.float32)
    for block, rows in blocks_of(x):
        result[block] = (through(rows) if through else rows) @ weight + bias
    return result


class Linear:
    """The base class of linear heads, with ``logits = x @ weight_ + bias_`` on raw features.

    Attributes:
        weight_: the learned weight, (D, C).
        bias_: the learned bias, (C,).
    """

    options: ClassVar[tuple[str, ...]] = ()
    weight_: Matrix
    bias_: Matrix

    def logits(self, x: Matrix) -> Matrix:
        """Return the logits (N, C) of features (N, D)."""
        return logits_of(x, self.weight_, self.bias_)

    def weight_at(self, x: Matrix) -> Matrix:  # noqa: ARG002 (it is the same at every photo)
        """Return the weight (D, C) by which the features ``x`` (D,) of one photo count: `weight_`."""
        return self.weight_

    def as_keras(self, x: Any) -> Any:
        """Return the logits (N, C) of a symbolic tensor ``x`` (N, D) as one dense Keras layer."""
        return constant_dense(x, self.weight_, self.bias_)

    def state(self) -> dict[str, NDArray[Any]]:
        """Return the learned arrays: ``weight`` (D, C) and ``bias`` (C,)."""
        return {"weight": self.weight_, "bias": self.bias_}

    @classmethod
    def from_state(cls, state: dict[str, NDArray[Any]]) -> Self:
        """Return the head with these arrays of `state`. Raises KeyError or ValueError if the arrays do not fit."""
        head = cls()
        head.weight_ = array_of(state, "weight", (None, None))
        head.bias_ = array_of(state, "bias", (head.weight_.shape[1],))
        return head


def constant_dense(x: Any, weight: Matrix, bias: Matrix | None = None) -> Any:
    """Return ``x @ weight + bias`` as a frozen Keras layer, for a symbolic tensor ``x`` (N, D)."""
    import keras

    dense = keras.layers.Dense(weight.shape[1], use_bias=bias is not None, trainable=False)
    result = dense(x)
    dense.set_weights([weight] if bias is None else [weight, bias])
    return result


def require_two_classes(train: Features) -> None:
    """Raise DataError if the train split has photos of fewer than two classes."""
    present = np.unique(train.y)
    if len(present) < 2:
        only = f"only {train.classes[present[0]]!r}" if len(present) else "nothing"
        raise DataError(f"there is {only} to train on; wanted photos of at least two classes")


def best(candidates: list[float], logits: Callable[[float], Matrix], val: Features, default: float) -> float:
    """Return the value of a hyperparameter that has the lowest cross-entropy on val.

    Args:
        candidates: the values to compare.
        logits: returns the logits (N, C) of val for a value.
        val: the features of val.
        default: the value to return if val is empty.
    """
    return min(candidates, key=lambda c: cross_entropy(logits(c), val.y)) if len(val) else default


def step_of(number: int, train: Matrix, y: NDArray[np.int64], val: Matrix, val_y: NDArray[np.int64]) -> Step:
    """Return a `Step` computed from the logits (N, C) and the class indices (N,) of train and val."""
    return Step(number, cross_entropy(train, y), accuracy(train, y), cross_entropy(val, val_y), accuracy(val, val_y))
