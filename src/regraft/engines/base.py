"""The protocol and the registry of engines, and the choice of the engine for this machine.

In: a backbone and the options. Out: an `Engine`, which turns photos into features.
Why: a CPU is fastest with one photo on each core, a GPU with large batches. Only the engine knows its device.
Surprise: an engine also decodes the photos. If photos are not decoded ahead of the network, the device has to wait.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from regraft.backbones.base import Backbone
from regraft.backbones.side_by_side import PLUS, parts_of
from regraft.config.features import FeatureConfig
from regraft.errors import BackboneError, option
from regraft.foundation import console
from regraft.foundation.files import digest_json
from regraft.foundation.registry import Registry
from regraft.photos.images import Pixels

Loader = Callable[[], Pixels]
"""A function that returns the transformed pixels of one photo, ``(size, size, 3)`` uint8, or raises ImageError."""

Row = NDArray[np.float32]
"""The features of one photo, ``(D,)`` float32; for a `Trunk` its activations, ``(H, W, C)`` float16."""

AHEAD_BYTES = 192 * 2**20
"""The largest size of all photos, in bytes, that are decoded while an engine is not ready yet."""


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """The options with which an engine is made.

    Attributes:
        precision: ``auto``, ``fp32``, ``bf16`` or ``int8``.
        many: whether to optimise for many photos at a time (throughput), or for a single photo (latency).
        int8: the quantised graph of the backbone (.xml), for precision ``int8``.
        trained: for an existing run, the precision in which it was trained, ``bf16`` or ``f32``; empty for a new run.
    """

    precision: str = "auto"
    many: bool = True
    int8: Path | None = None
    trained: str = ""


class Engine(Protocol):
    """The protocol of an engine: an object that computes the features of one backbone on this machine."""

    @classmethod
    def of(cls, backbone: Backbone, options: EngineOptions) -> Self:
        """Return an engine for a backbone. No slow import and no compilation happens before the first photo."""
        ...

    @classmethod
    def refusal(cls, backbone: Backbone) -> str:
        """Return why this engine cannot compute a backbone here, and what to type instead; empty if it can."""
        ...

    @classmethod
    def accelerator(cls) -> str:
        """Return the name of the GPU or TPU that this engine would use; empty if there is none."""
        ...

    @property
    def backbone(self) -> Backbone:
        """The backbone that the engine computes."""
        ...

    @property
    def fingerprint(self) -> str:
        """Digest of the backbone, the engine, its precision and the decoding: the key of its features in the cache."""
        ...

    @property
    def precision(self) -> str:
        """The precision in which the engine computes on this machine: ``bf16``, ``f32`` or ``int8``."""
        ...

    @property
    def record(self) -> Mapping[str, str]:
        """The facts about the engine for the manifest of a run: ``precision``, and all that changes the features."""
        ...

    @property
    def is_new(self) -> bool:
        """Whether `fingerprint` takes seconds to compute, because the backbone must first be timed on this machine."""
        ...

    def features(self, photos: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the features ``(N, D)`` of transformed photos ``(N, size, size, 3)`` uint8. Raises BackboneError."""
        ...

    def compute(self, loaders: Sequence[Loader]) -> Iterator[tuple[int, Row | str]]:
        """Decode photos and compute their features.

        Args:
            loaders: for each photo a function that returns its pixels.

        Yields:
            For each photo its index in ``loaders``, and its features or the reason why it cannot be decoded. The order
            of the photos is not defined.

        Raises:
            BackboneError: the backbone cannot be computed. A photo that cannot be decoded raises no error.
        """
        ...


registry: Registry[type[Engine]] = Registry("engine", BackboneError)
registry.register("openvino", "regraft.engines.openvino:OpenVinoEngine")
registry.register("jax", "regraft.engines.jax:JaxEngine")

AUTO = "auto"
_WITH_ACCELERATOR = ("jax",)
"""The engines that ``auto`` prefers if they find a GPU or TPU. Engines of plug-ins are used only when named."""


def require_engine(config: FeatureConfig) -> None:
    """Raise BackboneError if the engine of ``config`` is unknown. The check comes before any photo is read."""
    if config.engine != AUTO:
        registry.load(config.engine)


def load_engine(
    backbone: Backbone, config: FeatureConfig, many: bool = True, int8: Path | None = None, trained: str = ""
) -> Engine:
    """Return the engine that ``config`` names. For ``auto`` that is JAX if it finds a GPU or TPU, else OpenVINO.

    Args:
        backbone: the backbone that the engine computes.
        config: the options, with the name of the engine and the precision.
        many: see `EngineOptions`.
        int8: see `EngineOptions`.
        trained: see `EngineOptions`.

    Raises:
        BackboneError: the engine is unknown or not installed, or it cannot compute the backbone.
    """
    if config.precision == "int8" and int8 is None:
        raise BackboneError(
            f"int8 needs the calibration photos of `regraft train`; leave {option('precision', 'int8')} out"
        )
    name = config.engine if config.engine != AUTO else _automatic(backbone, config)
    engine = registry.load(name)
    if refusal := engine.refusal(backbone):
        raise BackboneError(refusal)
    return engine.of(backbone, EngineOptions(config.precision, many, int8, trained))


def load_engines(
    backbone: Backbone, config: FeatureConfig, many: bool = True, int8: Path | None = None, trained: str = ""
) -> tuple[Engine, ...]:
    """Return the engine of each part of a backbone: usually one.

    The arguments are those of `load_engine`; ``trained`` has the precisions of all parts with a plus between them, or
    one for all.

    Raises:
        BackboneError: the engine is unknown or not installed, or it cannot compute a backbone.
    """
    parts, precisions = parts_of(backbone), trained.split(PLUS)
    precisions = precisions if len(precisions) > 1 else precisions * len(parts)
    return tuple(
        load_engine(part, config, many, int8, precision) for part, precision in zip(parts, precisions, strict=True)
    )


def key_of(engines: Sequence[Engine]) -> str:
    """Return the fingerprint of an engine, or one digest of the fingerprints of several."""
    prints = [engine.fingerprint for engine in engines]
    return prints[0] if len(prints) == 1 else digest_json(prints)


def record_of(engines: Sequence[Engine]) -> dict[str, str]:
    """Return the facts about the engines for the manifest of a run; where engines differ, with a plus between them."""
    names = dict.fromkeys(name for engine in engines for name in engine.record)
    values = {name: [engine.record.get(name, "") for engine in engines] for name in names}
    return {name: found[0] if len(set(found)) == 1 else PLUS.join(found) for name, found in values.items()}


def _automatic(backbone: Backbone, config: FeatureConfig) -> str:
    """Return the name of the engine for ``auto``. Only OpenVINO computes in int8."""
    for name in _WITH_ACCELERATOR if config.precision != "int8" else ():
        engine = registry.load(name)
        if not engine.refusal(backbone) and (device := engine.accelerator()):
            console.note(f"engine {name}: there is {device}; {option('engine', 'openvino')} uses the CPU")
            return name
    return "openvino"
