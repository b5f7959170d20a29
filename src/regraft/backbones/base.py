"""The protocol and the registry of backbones: pretrained networks that turn photos into features.

In: a name ``source:name``, such as ``embedded:efficientnet_lite0``. Out: a `Backbone`.
Why: a backbone is more than its weights: it also has the transform of the photos and the stages that make the features.
Surprise: a `Backbone` only describes the network and computes nothing. The engine computes it, so loading a backbone is
fast.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal, Protocol

from regraft.config.values import from_dict, require_types
from regraft.errors import BackboneError, UnknownBackboneError
from regraft.foundation.files import kind_of
from regraft.foundation.names import nearest
from regraft.foundation.registry import Registry
from regraft.photos.images import Transform

if TYPE_CHECKING:
    import keras


RANGES: dict[str, tuple[tuple[float, float, float], tuple[float, float, float], Literal["RGB", "BGR"]]] = {
    "0..255": ((0.0,) * 3, (1.0,) * 3, "RGB"),
    "0..1": ((0.0,) * 3, (255.0,) * 3, "RGB"),
    "-1..1": ((127.5,) * 3, (127.5,) * 3, "RGB"),
    "imagenet": ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375), "RGB"),
    "caffe": ((103.939, 116.779, 123.68), (1.0,) * 3, "BGR"),
}
"""The ranges of pixels that networks expect. Each has the mean and the standard deviation of the three channels, for
pixels in 0..255, and the order of the channels."""


@dataclass(frozen=True, slots=True)
class BackboneOptions:
    """The options of any backbone. An empty option leaves the choice to the backbone.

    Attributes:
        size: the side of the photos in pixels; None for the size at which the backbone was trained.
        stages: the layers that make the features: their names, separated by commas, or ``last``.
        weights: ``imagenet``, ``none`` for random weights, or the path of a file of weights.
        pixels: the range of pixels that a network on disk expects: a key of `RANGES`.
        symmetry: ``mirror`` or ``all`` for features that are means over symmetric images of the photo (`Symmetric`).
        tuned: the path of a file of fine-tuned weights (`Tuned`).
        beside: with ``tuned``: the number of the last blocks, as text, whose frozen features stand beside the
            fine-tuned ones; empty for the fine-tuned features alone.
        thawed: the number of the last blocks that are thawed. If it is above 0, the backbone returns the activations
            at which these blocks begin, and not the features (`Trunk`).
    """

    size: int | None = None
    stages: str = ""
    weights: str = ""
    pixels: str = ""
    symmetry: str = ""
    tuned: str = ""
    beside: str = ""
    thawed: int = 0

    def __post_init__(self) -> None:
        """Raise ConfigError if a value has a wrong type."""
        require_types(self)


class Backbone(Protocol):
    """The protocol of a backbone: a pretrained network, described with all that is needed to use it correctly."""

    @property
    def name(self) -> str:
        """The full name of the backbone, ``source:name``."""
        ...

    @property
    def options(self) -> BackboneOptions:
        """The options with which the backbone was loaded."""
        ...

    @property
    def fixed_size(self) -> bool:
        """Whether the size of the photos is part of the name, or is the only size that the network takes."""
        ...

    @property
    def parameters(self) -> float:
        """The number of weights in millions, a head included; 0 if it is not published."""
        ...

    @property
    def top1(self) -> float | None:
        """The ImageNet top-1 accuracy in %, as published with the weights; None if it is not published."""
        ...

    @property
    def transform(self) -> Transform:
        """The transform from a decoded photo to the input of the network."""
        ...

    @property
    def stages(self) -> tuple[str, ...]:
        """The names of the layers whose averages over space make the features, in order."""
        ...

    @property
    def widths(self) -> tuple[int, ...]:
        """The number of features of each stage, in the order of `stages`."""
        ...

    @property
    def num_features(self) -> int:
        """D, the number of features of a photo over all stages."""
        ...

    @property
    def fingerprint(self) -> str:
        """Digest of weights, transform, stages and code: two backbones have the same only if their features agree."""
        ...

    @property
    def licence(self) -> str:
        """The SPDX identifier of the licence of the weights."""
        ...

    @property
    def at_hand(self) -> bool:
        """Whether the weights are on this machine, so that the backbone can be used without a download."""
        ...

    @property
    def has_keras_model(self) -> bool:
        """Whether `keras_model` always builds a model. If not, the backbone is also a `GraphBackbone`."""
        ...

    def require_weights(self) -> None:
        """Raise BackboneError if the weights are not on this machine. The message says how to get them."""
        ...

    def keras_model(self) -> keras.Model | None:
        """Build the network with its weights.

        Returns:
            A Keras model with the input (N, H, W, 3) after mean and standard deviation, and the output (N, D); None if
            the backbone has no Keras model.

        Raises:
            BackboneError: the network or its weights cannot be loaded.
        """
        ...


class GraphBackbone(Backbone, Protocol):
    """The protocol of a backbone without a Keras model: it builds its OpenVINO graph itself."""

    def openvino_model(self) -> tuple[Any, dict[str, int]]:
        """Return an OpenVINO model of the network, and the number of features of each stage by its name.

        The ``openvino.Model`` takes one photo after mean and standard deviation, and returns the features (1, D).
        """
        ...


class BackboneSource(Protocol):
    """The protocol of a source: a family of backbones whose names have the same prefix."""

    def names(self) -> list[str]:
        """Return the names of the backbones of this source, without the prefix."""
        ...

    def load(self, name: str, options: BackboneOptions) -> Backbone:
        """Return the description of a backbone.

        Raises:
            UnknownBackboneError: this source has no backbone of this name.
            BackboneError: the backbone does not support the options.
        """
        ...


registry: Registry[type[BackboneSource]] = Registry("backbone source", BackboneError)
registry.register("embedded", "regraft.backbones.efficientnet_lite:EfficientNetLiteSource")
registry.register("keras", "regraft.backbones.keras_applications:KerasSource")
registry.register("keras_hub", "regraft.backbones.keras_hub:HubSource")
registry.register("hf", "regraft.backbones.hugging_face:HuggingFaceSource")
registry.register("file", "regraft.backbones.file:FileSource")  # last, so that a name selects a network before a file

_NEED_PREFIX = ("keras_hub", "hf")
"""The sources that do not know their names without a slow import or a network, so that their prefix must be typed."""


def load_backbone(spec: str, size: int | None = None, **options: Any) -> Backbone:
    """Return the description of a backbone.

    Args:
        spec: ``source:name``, or ``name`` alone for the first source that has this name. Built-in sources come before
            those of plug-ins.
        size: the side of the photos in pixels; None for the size at which the backbone was trained.
        options: the other fields of `BackboneOptions`.

    Raises:
        ConfigError: an option is unknown or has a wrong type.
        BackboneError: the backbone is unknown (the message suggests near spellings), or its weights are missing or
            damaged.
    """
    if not isinstance(spec, str):
        raise BackboneError(f"the backbone is {kind_of(spec)}; wanted its name; `regraft info backbones` lists them")
    wanted = from_dict(BackboneOptions, {"size": size, **options})
    backbone = _find(spec, wanted)
    if wanted.tuned:
        wrap = import_module("regraft.backbones.tuned_weights")
        backbone = wrap.Tuned(backbone, wanted)
    if wanted.thawed:
        wrap = import_module("regraft.backbones.tuned_weights")
        backbone = wrap.Trunk(backbone, wanted)
    if wanted.symmetry:
        wrap = import_module("regraft.backbones.symmetric")
        backbone = wrap.Symmetric(backbone, wanted)
    return backbone


def _find(spec: str, options: BackboneOptions) -> Backbone:
    """Return the backbone with its original weights and all its blocks. Raises BackboneError if it is unknown."""
    source, colon, name = spec.partition(":")
    if colon:
        return registry.load(source)().load(name, options)
    for source in registry.lookup_order():
        if source in _NEED_PREFIX:
            continue
        try:
            return registry.load(source)().load(spec, options)
        except UnknownBackboneError:
            continue
    raise BackboneError(_unknown(spec))


def list_backbones() -> list[str]:
    """Return the full names of the backbones of all installed sources."""
    return [f"{source}:{name}" for source in registry.names() for name in registry.load(source)().names()]


def _unknown(name: str) -> str:
    """Return the message for an unknown backbone, with the nearest spelling and all names."""
    known = list_backbones()
    near = nearest(name, (k.partition(":")[2] for k in known))
    hint = f"did you mean {near!r}? " if near else ""
    return f"unknown backbone {name!r}: {hint}there is {', '.join(known)}"
