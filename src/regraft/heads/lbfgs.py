"""Limited-memory BFGS (L-BFGS) in float32.

The method is that of J. Nocedal, S. Wright, Numerical Optimization (2006), algorithms 7.4 and 7.5, with a backtracking
line search. Near the optimum the values of the objective differ by less than float32 resolves. There the line search
compares slopes instead of values (W. Hager, H. Zhang, 2005).
SciPy has a better implementation, but it works in float64 and took 0.6 s to import (docs/decisions.md).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float32]
Objective = Callable[[Vector], tuple[float, Vector]]
Divide = Callable[[Vector], Vector]

_MEMORY = 10
"""The number of past steps from which L-BFGS estimates the curvature of the objective."""


def minimise(
    objective: Objective,
    start: Vector,
    tolerance: float = 1e-4,
    max_iterations: int = 200,
    on_iteration: Callable[[Vector], None] | None = None,
    divide: Divide | None = None,
) -> Vector:
    """Minimise a smooth convex function by L-BFGS.

    Args:
        objective: returns the value and the gradient (n,) of the function at a point (n,).
        start: the first point, (n,).
        tolerance: the search stops when no component of the gradient is larger than this.
        max_iterations: the largest number of iterations.
        on_iteration: a function that is called with each accepted point.
        divide: a linear function that divides a gradient (n,) by an estimate of the curvature, which must be positive
            definite; None to take a number for it.

    Returns:
        The last accepted point, (n,).
    """
    x = start
    value, gradient = objective(x)
    pairs: deque[tuple[Vector, Vector, float]] = deque(maxlen=_MEMORY)
    for _ in range(max_iterations):
        if float(np.abs(gradient).max(initial=0.0)) <= tolerance:
            break
        direction = -_inverse_hessian_times(gradient, pairs, divide)
        slope = float(gradient @ direction)
        # The first direction is the plain gradient, whose length says nothing about the distance to the optimum.
        step = 1.0 if pairs or divide else min(1.0, 1.0 / float(np.abs(gradient).sum()))
        while True:
            new_x = x + np.float32(step) * direction
            new_value, new_gradient = objective(new_x)
            if new_value <= value + 1e-4 * step * slope:  # the value has fallen enough (Armijo condition)
                break
            # The values are equal in float32: compare slopes (approximate Wolfe condition).
            if new_value <= value + 1e-6 * abs(value) and float(new_gradient @ direction) <= -0.8 * slope:
                break
            step /= 2
            if step < 1e-4:  # float32 resolves no further descent
                return x
        moved, turned = new_x - x, new_gradient - gradient
        curvature = float(moved @ turned)
        # A pair whose curvature is not clearly positive would make the estimated Hessian indefinite.
        if curvature > 1e-10 * float(turned @ turned):
            pairs.append((moved, turned, curvature))
        x, value, gradient = new_x, new_value, new_gradient
        if on_iteration:
            on_iteration(x)
    return x


def _inverse_hessian_times(
    gradient: Vector, pairs: deque[tuple[Vector, Vector, float]], divide: Divide | None
) -> Vector:
    """Return the estimated inverse Hessian times ``gradient``, (n,), by the two-loop recursion (algorithm 7.4)."""
    result = gradient.copy()
    weights: list[float] = []
    for moved, turned, curvature in reversed(pairs):
        weights.append(float(moved @ result) / curvature)
        result -= np.float32(weights[-1]) * turned
    if divide:
        result = divide(result)
    if pairs:
        _, turned, curvature = pairs[-1]
        result *= np.float32(curvature / float(turned @ (divide(turned) if divide else turned)))
    for (moved, turned, curvature), weight in zip(pairs, reversed(weights), strict=True):
        result += np.float32(weight - float(turned @ result) / curvature) * moved
    return result
