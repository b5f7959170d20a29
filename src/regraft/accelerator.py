"""A backbone compiled by JAX, where there is an accelerator; and which engine this machine takes.

In: a backbone and the options. Out: an `Engine`, or a `JaxEngine` that can stand in its place.
Why: a GPU or TPU is fed best with large batches by the compiler that knows it, not photo by photo.
Surprise: Keras has one backend for a process's life, so a process in which it runs on another cannot have this engine.
"""

from __future__ import annotations

import sys
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from regraft import _console
from regraft._files import digest_json, set_environment
from regraft.backbones import Backbone
from regraft.config import FeatureConfig
from regraft.engine import PRECISIONS, Engine
from regraft.errors import BackboneError
from regraft.images import DECODING_VERSION, Pixels
from regraft.probe import Precision

BATCH = 64
_PLUGINS = ("jax_cuda12_plugin", "jax_cuda13_plugin", "jax_rocm60_plugin", "jax_rocm7_plugin", "libtpu")


class JaxEngine:
    """Computes features in batches. One at a time may use it.

    Args:
        backbone: what to compute.
        precision: ``bf16`` or ``f32``; None takes bf16 on an accelerator.
    """

    def __init__(self, backbone: Backbone, precision: Precision | None = None) -> None:
        self.backbone = backbone
        self._wanted = precision

    @cached_property
    def precision(self) -> Precision:
        """What the numbers are computed in."""
        if self._wanted:
            return self._wanted
        import jax

        return "f32" if jax.default_backend() == "cpu" else "bf16"

    @cached_property
    def fingerprint(self) -> str:
        """Digest of backbone, precision and decoding."""
        return digest_json([self.backbone.fingerprint, "jax", self.precision, DECODING_VERSION])

    def run(self, pixels: Pixels) -> NDArray[np.float32]:
        """Features (D,) of one transformed photo."""
        row: NDArray[np.float32] = self.features(pixels[np.newaxis])[0]
        return row

    def features(self, photos: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Photos ``(N, size, size, 3)``, transformed, to features ``(N, D)``."""
        rows = [np.asarray(self.launch(photos[i : i + BATCH])) for i in range(0, len(photos), BATCH)]
        return np.concatenate(rows) if rows else np.empty((0, self.backbone.num_features), np.float32)

    def launch(self, photos: NDArray[np.uint8]) -> Any:
        """Begin with at most `BATCH` photos; the result is there when it is looked at. Raises BackboneError."""
        count = 1 << (len(photos) - 1).bit_length()  # one compilation for each power of two
        padded = np.concatenate([photos, np.zeros((count - len(photos), *photos.shape[1:]), np.uint8)])
        return self._forward(padded)[: len(photos)]

    @cached_property
    def _forward(self) -> Any:
        keras = _keras_on_jax()
        import jax
        import jax.numpy as jnp

        before = keras.config.dtype_policy()
        keras.config.set_dtype_policy("mixed_bfloat16" if self.precision == "bf16" else "float32")
        try:
            model = self.backbone.keras_model()
        finally:
            keras.config.set_dtype_policy(before)
        if model is None:
            raise BackboneError(f"{self.backbone.name} has no Keras model; leave --engine jax out")
        transform = self.backbone.transform
        mean, std = np.array(transform.mean, np.float32), np.array(transform.std, np.float32)
        weights = [[v.value for v in kind] for kind in (model.trainable_variables, model.non_trainable_variables)]

        def forward(weights: Any, photos: Any) -> Any:
            ordered = photos[..., ::-1] if transform.channel_order == "BGR" else photos
            scaled = (ordered.astype(jnp.float32) - mean) / std
            return model.stateless_call(*weights, scaled, training=False)[0].astype(jnp.float32)

        compiled = jax.jit(forward)
        return lambda photos: compiled(weights, photos)


AnyEngine: TypeAlias = Engine | JaxEngine
"""What computes features."""


def load_engine(
    backbone: Backbone, config: FeatureConfig, many: bool = True, int8: Path | None = None, trained: str = ""
) -> AnyEngine:
    """The engine that ``config`` asks for; ``auto`` is JAX where it sees an accelerator, said aloud.

    Args:
        backbone: what to compute.
        config: engine and precision.
        many: tune for many photos at once.
        int8: the quantised graph, for precision int8.
        trained: what a run that is asked again was computed in; empty for a new run.

    Raises:
        BackboneError: JAX is asked for and not installed, or the backbone has no Keras model.
    """
    has_keras = not hasattr(type(backbone), "openvino_model")
    if config.precision == "int8":
        if int8 is None:
            raise BackboneError("int8 is calibrated by `regraft train`; leave --precision int8 out")
        return Engine(backbone, None, many, int8, trained)
    if config.engine == "jax":
        if find_spec("jax") is None:
            raise BackboneError("--engine jax needs JAX; type pip install 'regraft[jax]'")
        if not has_keras:
            raise BackboneError(f"{backbone.name} runs on OpenVINO only; leave --engine out")
        return JaxEngine(backbone, PRECISIONS[config.precision])
    if config.engine == "auto" and has_keras and (device := _accelerator()):
        _console.note(f"engine jax: there is {device}; --engine openvino uses the CPU")
        return JaxEngine(backbone, PRECISIONS[config.precision])
    return Engine(backbone, PRECISIONS[config.precision], many, trained=trained)


def _accelerator() -> str | None:
    """What JAX calls it. JAX is not imported where none of its plug-ins for accelerators is installed."""
    if find_spec("jax") is None or not any(find_spec(name) for name in _PLUGINS):
        return None
    import jax

    device = jax.devices()[0]
    return None if device.platform == "cpu" else f"{device.device_kind} ({device.platform})"


def _keras_on_jax() -> Any:
    if "keras" not in sys.modules:
        set_environment("KERAS_BACKEND", "jax")
    import keras

    if keras.backend.backend() != "jax":
        raise BackboneError(
            f"Keras runs on {keras.backend.backend()} in this process; start it with KERAS_BACKEND=jax, "
            "or use engine='openvino'"
        )
    return keras
