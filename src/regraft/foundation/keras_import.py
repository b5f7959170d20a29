"""Import Keras on its OpenVINO backend, also where SciPy is not installed.

The OpenVINO backend imports ``scipy.signal`` when it is loaded. It uses only ``get_window``, for the Fourier transforms
of sound, and does not name SciPy as a dependency. SciPy takes 144 MB, a sixth of what the base install would be.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from types import ModuleType
from typing import Any, NoReturn

_STANDS_IN = ("scipy", "scipy.signal")
"""The modules that Keras' OpenVINO backend imports when it is loaded."""


def import_keras() -> ModuleType:
    """Return the module ``keras``, imported with a stand-in for SciPy if SciPy is not installed.

    Only Keras sees the stand-in. It is removed from ``sys.modules`` once Keras is imported, so that any library that
    imports SciPy later gets the usual ImportError.
    """
    with _scipy_stand_in():
        import keras

        return keras  # type: ignore[no-any-return]


@contextmanager
def _scipy_stand_in() -> Iterator[None]:
    """Make ``import scipy.signal`` work in the ``with`` block, even if SciPy is not installed."""
    if "keras" in sys.modules or find_spec("scipy") is not None:
        yield
        return
    whole, signal = (_StandIn(name) for name in _STANDS_IN)
    whole.__dict__.update(signal=signal, __path__=[])
    sys.modules |= {"scipy": whole, "scipy.signal": signal}
    try:
        yield
    finally:
        for name in _STANDS_IN:
            sys.modules.pop(name, None)


class _StandIn(ModuleType):
    """A replacement for a module of SciPy. It has every name, but none of its functions works."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        return _Missing(f"{self.__name__}.{name}")


class _Missing:
    """A replacement for a function of SciPy. A call raises an ImportError that says how to install SciPy."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, *_: Any, **__: Any) -> NoReturn:
        raise ImportError(f"Keras uses {self.name} here, and SciPy is not installed; type pip install scipy")
