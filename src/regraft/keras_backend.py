"""Keras on a backend that can train, which a process has for its whole life.

In: the name of a backend, or ``auto``. Out: the module ``keras``.
Why: TensorFlow and JAX train, OpenVINO does not, and whoever imports Keras first decides for all.
Surprise: before TensorFlow is loaded it is kept from instructions that this processor announces and does not run.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from typing import Any

from regraft import _console
from regraft._files import set_environment
from regraft.errors import BackboneError
from regraft.probe import limit_tensorflow


def trainable_keras(backend: str) -> Any:
    """Keras on a backend that can train: ``tensorflow``, ``jax``, or for ``auto`` the one that is there.

    Raises:
        BackboneError: none is installed, or Keras already runs on another in this process.
    """
    wanted = [backend] if backend != "auto" else ["tensorflow", "jax"]
    if "keras" not in sys.modules:
        ready = [name for name in wanted if find_spec(name) is not None]
        if not ready:
            raise BackboneError(
                f"training weights needs {' or '.join(wanted)}; type pip install 'regraft[{wanted[0]}]'"
            )
        set_environment("KERAS_BACKEND", ready[0])
        set_environment("TF_CPP_MIN_LOG_LEVEL", "3")
        _keep_memory()
        limit_tensorflow()
        with _console.silenced():
            import keras
    import keras

    if keras.backend.backend() not in wanted:
        raise BackboneError(
            f"Keras runs on {keras.backend.backend()} in this process and cannot train on {' or '.join(wanted)}; "
            f"start it with KERAS_BACKEND={wanted[0]}"
        )
    if keras.backend.backend() == "jax" and len(keras.distribution.list_devices()) > 1:
        keras.distribution.set_distribution(keras.distribution.DataParallel())
    return keras


def devices() -> int:
    """How many devices share a batch: with JAX on several GPUs or TPU cores, all of them."""
    import keras

    spread = keras.distribution.distribution()
    return 1 if spread is None else int(spread.device_mesh.devices.size)


def _keep_memory() -> None:
    """Ask glibc to keep freed memory: training frees and takes hundreds of MB a step, and new pages are slow."""
    import ctypes

    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library
        return
    for parameter, value in ((-3, 2**30), (-1, 2**31 - 1), (-2, 2**28)):  # mmap and trim thresholds, top pad
        mallopt(parameter, value)
