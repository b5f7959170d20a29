"""Make every process that has this folder in its PYTHONPATH one in whose environment SciPy is not installed."""

from __future__ import annotations

import importlib.machinery
from collections.abc import Sequence
from types import ModuleType

_whole = importlib.machinery.PathFinder.find_spec


def find_spec(
    name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
) -> importlib.machinery.ModuleSpec | None:
    """What the path finder finds, without SciPy."""
    return None if name.partition(".")[0] == "scipy" else _whole(name, path, target)


importlib.machinery.PathFinder.find_spec = staticmethod(find_spec)  # type: ignore[method-assign, assignment]
