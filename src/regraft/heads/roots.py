"""Signed square roots of features, scaled to unit length stage by stage: a representation that needs no statistics.

Standardising divides each feature by its standard deviation over the training photos. With few photos these are
estimates from a few numbers, and the noise in them costs more accuracy than standardising gains. Square roots let
weak features count more, as F. Perronnin et al., Improving the Fisher Kernel (2010), do.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from regraft.features.features import Features
from regraft.features.unit_roots import unit_roots, unit_roots_as_keras
from regraft.foundation.files import threads
from regraft.foundation.large_arrays import empty, give_back, row_blocks
from regraft.heads.base import Linear, Matrix, array_of, logits_of

_BLOCK_ROWS = 512
"""The number of rows that a thread works on at a time: few, so that its intermediate results use the same memory."""

_FEW = 100
"""Up to so many training photos in an average class, only the last stage of the backbone is used."""

_EARLY = 0.3
"""The length to which the earlier stages are scaled; that of the last stage is 1."""


@dataclass(frozen=True, slots=True)
class Roots:
    """The stages of the features that are used, and the length to which each of them is scaled.

    Attributes:
        widths: the number of features of each of S stages, in the order of the columns; their sum is D.
        lengths: the length of each stage after scaling, at least 0. A stage of length 0 is left out.
    """

    widths: tuple[int, ...]
    lengths: tuple[float, ...]

    @classmethod
    def suited(cls, train: Features) -> Self:
        """Return the representation that suits the number of training photos.

        Few photos teach no weights for the many features of the earlier stages, which say little alone.
        """
        early = 0.0 if len(train) <= _FEW * len(np.unique(train.y)) else _EARLY
        lengths = [(early,) * (len(stages) - 1) + (1.0,) for stages in train.stages]
        return cls(tuple(chain.from_iterable(train.stages)), tuple(chain.from_iterable(lengths)))

    def of(self, x: Matrix, scratch: bool = False) -> Matrix:
        """Return the representation (N, E) of features (N, D); E is the number of features of the stages in use.

        Args:
            x: the features.
            scratch: whether ``x`` may be overwritten; it is, and is returned, if all stages are in use.

        Raises:
            ValueError: D is not the sum of `widths`.
        """
        if x.shape[1] != sum(self.widths):
            raise ValueError(f"there are {x.shape[1]} features; wanted {sum(self.widths)}")
        used = self._used()
        width = sum(columns.stop - columns.start for columns, _ in used)
        result = x if scratch and width == x.shape[1] else empty((len(x), width))

        def fill(block: slice) -> None:
            parts = [unit_roots(x[block, columns]) * np.float32(length) for columns, length in used]
            np.concatenate(parts, axis=1, out=result[block])
            give_back(x[block])
            give_back(result[block])

        blocks = row_blocks(len(x), _BLOCK_ROWS)
        if len(blocks) < 2:
            fill(slice(None))
        else:
            with ThreadPoolExecutor(threads()) as pool:
                list(pool.map(fill, blocks))
        return result

    def of_features(self, features: Features) -> Features:
        """Return features with this representation in place of ``x``."""
        return replace(features, x=self.of(features.x, features.scratch), scratch=False)

    def weight_at(self, x: Matrix, weight: Matrix) -> Matrix:
        """Return the weight (D, C) on features for which ``x @ result`` is ``of(x) @ weight``, at the one photo ``x``.

        A root is its feature divided by the root of the feature's size: that quotient is the factor of the weight.

        Args:
            x: the features (D,) of a photo.
            weight: the weight (E, C) on the representation.
        """
        roots = self.of(x[np.newaxis])[0]
        used = self.columns
        factors = np.divide(roots, x[used], out=np.zeros_like(roots), where=x[used] != 0)
        result = np.zeros((len(x), weight.shape[1]), np.float32)
        result[used] = weight * factors[:, np.newaxis]
        return result

    def as_keras(self, x: Any) -> Any:
        """Return what `of` computes, as Keras operations on a symbolic tensor ``x`` (N, D)."""
        from keras import ops

        parts = [ops.multiply(unit_roots_as_keras(x[:, columns]), length) for columns, length in self._used()]
        return parts[0] if len(parts) == 1 else ops.concatenate(parts, axis=1)

    def state(self) -> dict[str, NDArray[Any]]:
        """Return the widths and the lengths as arrays (S,) by name."""
        return {"root_widths": np.array(self.widths, np.int64), "root_lengths": np.array(self.lengths, np.float32)}

    @classmethod
    def from_state(cls, state: dict[str, NDArray[Any]]) -> Self:
        """Return the representation whose `state` is passed. Raises KeyError or ValueError if the arrays do not fit."""
        widths = array_of(state, "root_widths", (None,), np.int64)
        lengths = array_of(state, "root_lengths", (len(widths),))
        if widths.min() < 1 or not lengths.max() > 0 or lengths.min() < 0:
            raise ValueError(f"root_widths {widths.tolist()} and root_lengths {lengths.tolist()} name no features")
        return cls(tuple(widths.tolist()), tuple(lengths.tolist()))

    @property
    def columns(self) -> NDArray[np.int64]:
        """The numbers of the features that are used, (E,)."""
        return np.concatenate([np.arange(columns.start, columns.stop) for columns, _ in self._used()])

    def _used(self) -> list[tuple[slice, float]]:
        """Return the columns and the length of each stage in use."""
        ends = np.cumsum(self.widths).tolist()
        stages = zip(ends, self.widths, self.lengths, strict=True)
        return [(slice(end - width, end), length) for end, width, length in stages if length]


class LinearOnRoots(Linear):
    """The base class of heads that are linear in square roots of the features, or in raw features.

    Attributes:
        weight_: the learned weight, (E, C): for the square roots where there is a `roots_`, or for raw features.
        bias_: the learned bias, (C,).
        roots_: the representation of the features; None if the head takes raw features.
    """

    roots_: Roots | None = None

    def logits(self, x: Matrix) -> Matrix:
        """Return the logits (N, C) of features (N, D)."""
        return logits_of(x, self.weight_, self.bias_, self.roots_.of if self.roots_ else None)

    def weight_at(self, x: Matrix) -> Matrix:
        """Return the weight (D, C) by which the features ``x`` (D,) of one photo count: logits = x @ weight + bias."""
        return self.roots_.weight_at(x, self.weight_) if self.roots_ else self.weight_

    def as_keras(self, x: Any) -> Any:
        """Return the logits (N, C) of a symbolic tensor ``x`` (N, D) as Keras operations."""
        return super().as_keras(self.roots_.as_keras(x) if self.roots_ else x)

    def state(self) -> dict[str, NDArray[Any]]:
        """Return the learned arrays: ``weight`` and ``bias``; with other names, and the representation, on roots."""
        if not self.roots_:
            return super().state()
        return {"root_weight": self.weight_, "root_bias": self.bias_, **self.roots_.state()}

    @classmethod
    def from_state(cls, state: dict[str, NDArray[Any]]) -> Self:
        """Return the head with these arrays of `state`. Raises KeyError or ValueError if the arrays do not fit."""
        if "root_weight" not in state:
            return super().from_state(state)
        head = super().from_state({"weight": state["root_weight"], "bias": state["root_bias"]})
        head.roots_ = Roots.from_state(state)
        return head
