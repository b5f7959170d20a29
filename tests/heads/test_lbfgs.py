from __future__ import annotations

import numpy as np

from regraft.heads.lbfgs import Vector, minimise


def test_a_badly_scaled_quadratic_is_solved() -> None:
    scale = np.logspace(0, 3, 20).astype(np.float32)
    target = np.linspace(-1, 1, 20).astype(np.float32)

    def objective(x: Vector) -> tuple[float, Vector]:
        gap = x - target
        return float(0.5 * (scale * gap) @ gap), scale * gap

    found = minimise(objective, np.zeros(20, np.float32), tolerance=1e-4)
    np.testing.assert_allclose(found, target, atol=1e-3)
    assert found.dtype == np.float32


def test_every_accepted_point_is_lower() -> None:
    def rosenbrock(x: Vector) -> tuple[float, Vector]:
        a, b = float(x[0]), float(x[1])
        value = (1 - a) ** 2 + 100 * (b - a * a) ** 2
        return value, np.array([-2 * (1 - a) - 400 * a * (b - a * a), 200 * (b - a * a)], np.float32)

    seen: list[float] = []
    start = np.array([-1.2, 1.0], np.float32)
    found = minimise(rosenbrock, start, on_iteration=lambda x: seen.append(rosenbrock(x)[0]))
    assert seen == sorted(seen, reverse=True)
    np.testing.assert_allclose(found, [1, 1], atol=1e-2)


def test_an_optimum_is_left_alone() -> None:
    calls: list[int] = []
    minimise(lambda x: (0.0, np.zeros_like(x)), np.ones(3, np.float32), on_iteration=lambda x: calls.append(1))
    assert calls == []
