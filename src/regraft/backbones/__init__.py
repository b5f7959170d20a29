"""Pretrained networks that turn photos into features: one protocol, one registry, one spelling.

In: ``source:name``, such as ``embedded:efficientnet_lite0``. Out: a `Backbone`.
Why: a backbone is more than weights; its transform and its stages travel with it.
Surprise: a backbone only describes. It is the engine that computes, so that importing one costs nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal, Protocol

from regraft._files import kind_of
from regraft._registry import Registry
from regraft._values import from_dict, require_types
from regraft.errors import BackboneError, UnknownBackboneError
from regraft.images import Transform

if TYPE_CHECKING:
    import keras


RANGES: dict[str, tuple[tuple[float, float, float], tuple[float, float, float], Literal["RGB", "BGR"]]] = {
    "0..255": ((0.0,) * 3, (1.0,) * 3, "RGB"),
    "0..1": ((0.0,) * 3, (255.0,) * 3, "RGB"),
    "-1..1": ((127.5,) * 3, (127.5,) * 3, "RGB"),
    "imagenet": ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375), "RGB"),
    "caffe": ((103.939, 116.779, 123.68), (1.0,) * 3, "BGR"),
}
"""How a network may want pixels: mean and std in 0..255, and the order of its channels."""


@dataclass(frozen=True, slots=True)
class BackboneOptions:
    """What a user may ask of a backbone, whatever it is. Empty means its own choice.

    Attributes:
        size: side of the photos in pixels.
        stages: which layers make the features: names with commas, or ``last``.
        weights: ``imagenet``, ``none`` for random ones, or a file.
        pixels: the range in which a network on disk wants them.
        tuned: a file of fine-tuned weights (`Tuned`).
        thawed: not the features, but the maps at which the last so many blocks begin (`Trunk`); 0 for the features.
    """

    size: int | None = None
    stages: str = ""
    weights: str = ""
    pixels: str = ""
    tuned: str = ""
    thawed: int = 0

    def __post_init__(self) -> None:
        """Check the types of the values."""
        require_types(self)


class Backbone(Protocol):
    """A pretrained network and all that is needed to use it rightly."""

    @property
    def name(self) -> str:
        """The full ``source:name``."""
        ...

    @property
    def options(self) -> BackboneOptions:
        """What was asked of it beside its name."""
        ...

    @property
    def fixed_size(self) -> bool:
        """Whether its size was asked for with its name, or is the only one it has."""
        ...

    @property
    def parameters(self) -> float:
        """Millions of weights, a head included; 0 where nobody says."""
        ...

    @property
    def top1(self) -> float | None:
        """ImageNet top-1 in %, as published with the weights."""
        ...

    @property
    def transform(self) -> Transform:
        """What it wants done to a photo first."""
        ...

    @property
    def stages(self) -> tuple[str, ...]:
        """The layers whose averages over space make the features, in order."""
        ...

    @property
    def widths(self) -> tuple[int, ...]:
        """How many features each of them makes."""
        ...

    @property
    def num_features(self) -> int:
        """D, the length of a feature row."""
        ...

    @property
    def fingerprint(self) -> str:
        """Digest of weights, transform, stages and code: equal only where the features are."""
        ...

    @property
    def licence(self) -> str:
        """SPDX identifier of the weights' licence."""
        ...

    @property
    def at_hand(self) -> bool:
        """Whether its weights are on this machine, so that using it downloads nothing."""
        ...

    def require_weights(self) -> None:
        """Raise BackboneError, with the mend, where the weights are not on this machine."""
        ...

    def keras_model(self) -> keras.Model | None:
        """Build it with weights: input (N, H, W, 3) after mean and std, output (N, D). None where Keras cannot."""
        ...


class GraphBackbone(Backbone, Protocol):
    """One that no Keras model stands for: it brings its graph."""

    def openvino_model(self) -> tuple[Any, dict[str, int]]:
        """An ``openvino.Model``, one photo after mean and std in, features (1, D) out; its stages and their widths."""
        ...


class BackboneSource(Protocol):
    """A family of backbones behind one prefix."""

    def names(self) -> list[str]:
        """What it offers, without the prefix."""
        ...

    def load(self, name: str, options: BackboneOptions) -> Backbone:
        """Describe one. Raises BackboneError where there is no such name, or it cannot be as asked."""
        ...


registry: Registry[type[BackboneSource]] = Registry("backbone source", BackboneError)
registry.register("embedded", "regraft.backbones.efficientnet_lite:EfficientNetLiteSource")
registry.register("keras", "regraft.backbones.keras_applications:KerasSource")
registry.register("keras_hub", "regraft.backbones.keras_hub:HubSource")
registry.register("file", "regraft.backbones.file:FileSource")  # last: a name means a network before a folder here


def load_backbone(spec: str, size: int | None = None, **options: Any) -> Backbone:
    """Find a backbone.

    Args:
        spec: ``source:name``, or ``name`` alone for the first source that has it, built-in ones before plug-ins.
        size: side of the photos in pixels; None is the size it was trained at.
        options: the other fields of `BackboneOptions`.

    Raises:
        ConfigError: an option is unknown, or of another type.
        BackboneError: it is unknown (the message offers the spellings) or its weights are missing or damaged.
    """
    if not isinstance(spec, str):
        raise BackboneError(f"the backbone is {kind_of(spec)}; wanted its name; `regraft info backbones` lists them")
    wanted = from_dict(BackboneOptions, {"size": size, **options})
    backbone = _find(spec, wanted)
    if wanted.tuned:
        wrap = import_module("regraft.backbones._tuned")
        backbone = wrap.Tuned(backbone, wanted)
    if wanted.thawed:
        wrap = import_module("regraft.backbones._tuned")
        backbone = wrap.Trunk(backbone, wanted)
    return backbone


def _find(spec: str, options: BackboneOptions) -> Backbone:
    source, colon, name = spec.partition(":")
    if colon:
        return registry.load(source)().load(name, options)
    for source in registry.lookup_order():
        if source == "keras_hub":  # it cannot tell its names from others without loading much
            continue
        try:
            return registry.load(source)().load(spec, options)
        except UnknownBackboneError:
            continue
    raise BackboneError(_unknown(spec))


def list_backbones() -> list[str]:
    """The full names of all backbones that the installed sources offer."""
    return [f"{source}:{name}" for source in registry.names() for name in registry.load(source)().names()]


def _unknown(name: str) -> str:
    import difflib

    known = list_backbones()
    near = difflib.get_close_matches(name, [k.partition(":")[2] for k in known], n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"unknown backbone {name!r}: {hint}there is {', '.join(known)}"
