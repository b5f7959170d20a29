"""Keras on a backend that can train the weights of a backbone: TensorFlow or JAX.

In: the name of a backend, or ``auto``. Out: the module ``keras``.
Why: TensorFlow and JAX can train, OpenVINO cannot. A process has one backend, which the first import of Keras decides.
Surprise: before TensorFlow is loaded, a limit is set so that it does not use instructions that this processor announces
but does not run.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from typing import Any

from regraft.engines.probe import limit_tensorflow
from regraft.errors import BackboneError
from regraft.foundation import console
from regraft.foundation.files import set_environment


def trainable_keras(backend: str) -> Any:
    """Return the module ``keras`` on a backend that can train.

    On JAX with several devices, Keras is set to share each batch among all devices.

    Args:
        backend: ``tensorflow``, ``jax``, or ``auto`` for the one that is installed, TensorFlow first.

    Raises:
        BackboneError: no such backend is installed, or Keras already runs on another backend in this process.
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
        with console.silenced():
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
    """Return the number of devices that share a batch: with JAX all GPUs or TPU cores, otherwise 1."""
    import keras

    spread = keras.distribution.distribution()
    return 1 if spread is None else int(spread.device_mesh.devices.size)


def _keep_memory() -> None:
    """Ask glibc to keep freed memory for the process.

    Training frees and allocates hundreds of MB in each step, and new pages from the system are slow.
    """
    import ctypes

    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # the C library is not glibc
        return
    for parameter, value in (
        (-3, 2**30),
        (-1, 2**31 - 1),
        (-2, 2**28),
    ):  # M_MMAP_THRESHOLD, M_TRIM_THRESHOLD, M_TOP_PAD
        mallopt(parameter, value)
