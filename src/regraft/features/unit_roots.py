"""Signed square roots of features at unit length: a scaling that needs no statistics of the photos."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

SHORTEST = 1e-6
"""The smallest length by which a row is divided, so that a row of zeros stays a row of zeros."""


def unit_roots(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the signed square roots of each row (N, S), scaled to unit length: (N, S).

    Source: F. Perronnin et al., Improving the Fisher Kernel for Large-Scale Image Classification, 2010.
    """
    roots = np.sign(x) * np.sqrt(np.abs(x))
    result: NDArray[np.float32] = roots / np.maximum(np.linalg.norm(roots, axis=1, keepdims=True), SHORTEST)
    return result


def unit_roots_as_keras(x: Any) -> Any:
    """Return what `unit_roots` computes, as Keras operations on a symbolic tensor ``x`` (N, S)."""
    from keras import ops

    roots = ops.multiply(ops.sign(x), ops.sqrt(ops.abs(x)))
    length = ops.sqrt(ops.sum(ops.square(roots), axis=1, keepdims=True))
    return ops.divide(roots, ops.maximum(length, SHORTEST))
