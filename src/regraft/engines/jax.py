"""The JAX engine: a backbone compiled by JAX for a GPU or TPU.

In: a backbone and the options. Out: an `Engine` that computes photos in batches.
Why: a GPU or TPU is fastest with large batches, and JAX has a compiler for it.
Surprise: Keras has one backend for the whole life of a process, so this engine cannot be used in a process in which
Keras already runs on another backend.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property
from importlib.util import find_spec
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from regraft.backbones.base import Backbone
from regraft.engines.base import EngineOptions, Loader, Row
from regraft.engines.probe import PRECISIONS, Precision
from regraft.errors import BackboneError, ImageError, option
from regraft.foundation.files import digest_json, set_environment, thread_limit
from regraft.photos.images import DECODING_VERSION, Pixels

BATCH = 64
"""The number of photos in a batch."""

_PLUGINS = ("jax_cuda12_plugin", "jax_cuda13_plugin", "jax_rocm60_plugin", "jax_rocm7_plugin", "libtpu")
"""The packages that let JAX use a GPU or TPU."""


class JaxEngine:
    """Computes features in batches with JAX. Only one thread at a time may use an engine.

    Args:
        backbone: the backbone to compute.
        precision: ``bf16`` or ``f32``; None selects bf16 on a GPU or TPU and f32 on a CPU.
    """

    def __init__(self, backbone: Backbone, precision: Precision | None = None) -> None:
        self.backbone = backbone
        self._wanted = precision

    @classmethod
    def of(cls, backbone: Backbone, options: EngineOptions) -> Self:
        """Return an engine for a backbone. The options ``many``, ``int8`` and ``trained`` have no effect."""
        return cls(backbone, PRECISIONS[options.precision])

    @classmethod
    def refusal(cls, backbone: Backbone) -> str:
        """Return why JAX cannot compute a backbone, and what to type instead; empty if it can."""
        if find_spec("jax") is None:
            return f"{option('engine', 'jax')} needs JAX; type pip install 'regraft[jax]'"
        return (
            "" if backbone.has_keras_model else f"{backbone.name} runs on OpenVINO only; leave {option('engine')} out"
        )

    @classmethod
    def accelerator(cls) -> str:
        """Return the name of JAX's GPU or TPU; empty if there is none.

        JAX is slow to import, so it is imported only if a package for a GPU or TPU is installed.
        """
        if find_spec("jax") is None or not any(find_spec(name) for name in _PLUGINS):
            return ""
        import jax

        device = jax.devices()[0]
        return "" if device.platform == "cpu" else f"{device.device_kind} ({device.platform})"

    @property
    def record(self) -> Mapping[str, str]:
        """The facts about the engine for the manifest of a run: its precision."""
        return {"precision": self.precision}

    @property
    def is_new(self) -> bool:
        """False: the precision does not depend on a timing."""
        return False

    @cached_property
    def precision(self) -> Precision:
        """The precision in which the engine computes: ``bf16`` or ``f32``."""
        if self._wanted:
            return self._wanted
        import jax

        return "f32" if jax.default_backend() == "cpu" else "bf16"

    @cached_property
    def fingerprint(self) -> str:
        """Digest of the backbone, the engine, the precision and the decoding."""
        return digest_json([self.backbone.fingerprint, "jax", self.precision, DECODING_VERSION])

    def features(self, photos: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the features ``(N, D)`` of transformed photos ``(N, size, size, 3)`` uint8. Raises BackboneError."""
        rows = [np.asarray(self.launch(photos[i : i + BATCH])) for i in range(0, len(photos), BATCH)]
        return np.concatenate(rows) if rows else np.empty((0, self.backbone.num_features), np.float32)

    def compute(self, loaders: Sequence[Loader]) -> Iterator[tuple[int, Row | str]]:
        """Decode photos and compute their features in batches; see `Engine.compute`. Both happen at the same time."""
        running: tuple[list[int], Any] | None = None
        for batch in _decoding(loaders):
            decoded: list[tuple[int, Pixels]] = []
            for index, future in batch:
                try:
                    decoded.append((index, future.result()))
                except ImageError as error:
                    yield index, str(error)
            if decoded:
                launched = [i for i, _ in decoded], self.launch(np.stack([pixels for _, pixels in decoded]))
                yield from _rows(running)  # after the launch, so that the device always has the next batch
                running = launched
        yield from _rows(running)

    def launch(self, photos: NDArray[np.uint8]) -> Any:
        """Start to compute the features of a batch.

        Args:
            photos: N transformed photos, (N, size, size, 3) uint8; N is at most `BATCH`.

        Returns:
            The features (N, D) as a JAX array. JAX waits for the result only when the values are read.

        Raises:
            BackboneError: the backbone cannot be computed.
        """
        # JAX compiles once for each shape. Padding to a power of two limits the number of shapes.
        count = 1 << (len(photos) - 1).bit_length()
        padded = np.concatenate([photos, np.zeros((count - len(photos), *photos.shape[1:]), np.uint8)])
        return self._forward(padded)[: len(photos)]

    @cached_property
    def _forward(self) -> Any:
        """The compiled function that returns the features of a batch of photos."""
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
            raise BackboneError(f"{self.backbone.name} has no Keras model; leave {option('engine', 'jax')} out")
        transform = self.backbone.transform
        mean, std = np.array(transform.mean, np.float32), np.array(transform.std, np.float32)
        weights = [[v.value for v in kind] for kind in (model.trainable_variables, model.non_trainable_variables)]

        def forward(weights: Any, photos: Any) -> Any:
            ordered = photos[..., ::-1] if transform.channel_order == "BGR" else photos
            scaled = (ordered.astype(jnp.float32) - mean) / std
            return model.stateless_call(*weights, scaled, training=False)[0].astype(jnp.float32)

        compiled = jax.jit(forward)
        return lambda photos: compiled(weights, photos)


def _keras_on_jax() -> Any:
    """Return the module ``keras`` on the JAX backend. Raises BackboneError if Keras runs on another backend."""
    if "keras" not in sys.modules:
        set_environment("KERAS_BACKEND", "jax")
    import keras

    if keras.backend.backend() != "jax":
        raise BackboneError(
            f"Keras runs on {keras.backend.backend()} in this process; start it with KERAS_BACKEND=jax, "
            f"or use {option('engine', 'openvino')}"
        )
    return keras


def _decoding(loaders: Sequence[Loader]) -> Iterator[list[tuple[int, Future[Pixels]]]]:
    """Yield batches of photos as futures of their pixels. While a batch is used, the next two are decoded."""
    waiting: deque[list[tuple[int, Future[Pixels]]]] = deque()
    with ThreadPoolExecutor(thread_limit()) as pool:
        for start in range(0, len(loaders), BATCH):
            numbers = range(start, min(start + BATCH, len(loaders)))
            waiting.append([(i, pool.submit(loaders[i])) for i in numbers])
            if len(waiting) > 2:
                yield waiting.popleft()
        yield from waiting


def _rows(batch: tuple[list[int], Any] | None) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Wait for a batch, and yield the index and the features of each of its photos. None is an empty batch."""
    if batch is not None:
        yield from zip(batch[0], np.asarray(batch[1]), strict=True)
