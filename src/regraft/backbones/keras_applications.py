"""``keras:NAME``: the networks of ``keras.applications``, with their ImageNet weights or the user's file of weights.

Keras downloads the weights when a network is built for the first time. The stages of each network are found in its
graph by their resolution, never by the names of its layers.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from regraft.backbones.base import RANGES, Backbone, BackboneOptions
from regraft.backbones.graphs import Described
from regraft.backbones.stages import DRAWN, draw_weights, pooled, stage_outputs
from regraft.errors import BackboneError, UnknownBackboneError, option
from regraft.foundation import console
from regraft.foundation.files import digest_file, digest_json, keras_folder
from regraft.foundation.names import nearest
from regraft.photos.images import Transform

if TYPE_CHECKING:
    import keras

_CODE_VERSION = 1  # raise it when the features of the same weights and photo change


class _Network(NamedTuple):
    """One network of ``keras.applications``, with the facts that are published with it."""

    cls: str  # name of the function in keras.applications
    pixels: str  # key of RANGES: the range of pixels that it expects; 0..255 if it scales the pixels itself
    size: int  # side of the photos in pixels
    licence: str  # SPDX identifier
    parameters: float  # millions, the head included
    top1: float  # ImageNet validation, %


_APACHE, _MIT, _CC_BY, _BSD = "Apache-2.0", "MIT", "CC-BY-4.0", "BSD-3-Clause"
_NETWORKS = {
    "convnext_tiny": _Network("ConvNeXtTiny", "0..255", 224, _APACHE, 28.6, 81.3),
    "convnext_small": _Network("ConvNeXtSmall", "0..255", 224, _APACHE, 50.2, 82.3),
    "convnext_base": _Network("ConvNeXtBase", "0..255", 224, _APACHE, 88.5, 85.3),
    "convnext_large": _Network("ConvNeXtLarge", "0..255", 224, _APACHE, 197.7, 86.3),
    "convnext_xlarge": _Network("ConvNeXtXLarge", "0..255", 224, _APACHE, 350.1, 86.7),
    "densenet121": _Network("DenseNet121", "imagenet", 224, _BSD, 8.1, 75.0),
    "densenet169": _Network("DenseNet169", "imagenet", 224, _BSD, 14.3, 76.2),
    "densenet201": _Network("DenseNet201", "imagenet", 224, _BSD, 20.2, 77.3),
    "efficientnet_b0": _Network("EfficientNetB0", "0..255", 224, _APACHE, 5.3, 77.1),
    "efficientnet_b1": _Network("EfficientNetB1", "0..255", 240, _APACHE, 7.9, 79.1),
    "efficientnet_b2": _Network("EfficientNetB2", "0..255", 260, _APACHE, 9.2, 80.1),
    "efficientnet_b3": _Network("EfficientNetB3", "0..255", 300, _APACHE, 12.3, 81.6),
    "efficientnet_b4": _Network("EfficientNetB4", "0..255", 380, _APACHE, 19.5, 82.9),
    "efficientnet_b5": _Network("EfficientNetB5", "0..255", 456, _APACHE, 30.6, 83.6),
    "efficientnet_b6": _Network("EfficientNetB6", "0..255", 528, _APACHE, 43.3, 84.0),
    "efficientnet_b7": _Network("EfficientNetB7", "0..255", 600, _APACHE, 66.7, 84.3),
    "efficientnet_v2_b0": _Network("EfficientNetV2B0", "0..255", 224, _APACHE, 7.2, 78.7),
    "efficientnet_v2_b1": _Network("EfficientNetV2B1", "0..255", 240, _APACHE, 8.2, 79.8),
    "efficientnet_v2_b2": _Network("EfficientNetV2B2", "0..255", 260, _APACHE, 10.2, 80.5),
    "efficientnet_v2_b3": _Network("EfficientNetV2B3", "0..255", 300, _APACHE, 14.5, 82.0),
    "efficientnet_v2_s": _Network("EfficientNetV2S", "0..255", 384, _APACHE, 21.6, 83.9),
    "efficientnet_v2_m": _Network("EfficientNetV2M", "0..255", 480, _APACHE, 54.4, 85.3),
    "efficientnet_v2_l": _Network("EfficientNetV2L", "0..255", 480, _APACHE, 119.0, 85.7),
    "inception_resnet_v2": _Network("InceptionResNetV2", "-1..1", 299, _APACHE, 55.9, 80.3),
    "inception_v3": _Network("InceptionV3", "-1..1", 299, _APACHE, 23.9, 77.9),
    "mobilenet": _Network("MobileNet", "-1..1", 224, _APACHE, 4.3, 70.4),
    "mobilenet_v2": _Network("MobileNetV2", "-1..1", 224, _APACHE, 3.5, 71.3),
    "mobilenet_v3_large": _Network("MobileNetV3Large", "0..255", 224, _APACHE, 5.4, 75.6),
    "mobilenet_v3_small": _Network("MobileNetV3Small", "0..255", 224, _APACHE, 2.9, 68.1),
    "nasnet_large": _Network("NASNetLarge", "-1..1", 331, _APACHE, 88.9, 82.5),
    "nasnet_mobile": _Network("NASNetMobile", "-1..1", 224, _APACHE, 5.3, 74.4),
    "resnet101": _Network("ResNet101", "caffe", 224, _MIT, 44.7, 76.4),
    "resnet101_v2": _Network("ResNet101V2", "-1..1", 224, _MIT, 44.7, 77.2),
    "resnet152": _Network("ResNet152", "caffe", 224, _MIT, 60.4, 76.6),
    "resnet152_v2": _Network("ResNet152V2", "-1..1", 224, _MIT, 60.4, 78.0),
    "resnet50": _Network("ResNet50", "caffe", 224, _MIT, 25.6, 74.9),
    "resnet50_v2": _Network("ResNet50V2", "-1..1", 224, _MIT, 25.6, 76.0),
    "vgg16": _Network("VGG16", "caffe", 224, _CC_BY, 138.4, 71.3),
    "vgg19": _Network("VGG19", "caffe", 224, _CC_BY, 143.7, 71.3),
    "xception": _Network("Xception", "-1..1", 299, _APACHE, 22.9, 79.0),
}

# Names are compared without case and punctuation, so that ResNet50V2 and resnet50_v2 are the same.
_PLAIN = {re.sub(r"[^a-z0-9]", "", name): name for name in _NETWORKS}
_MOBILE = re.compile(r"(mobilenet(?:_v2)?)_(\d?\.\d+)(?:_(\d+))?")
_WIDTHS = {"mobilenet": (0.25, 0.5, 0.75, 1.0), "mobilenet_v2": (0.35, 0.5, 0.75, 1.0, 1.3, 1.4)}


class KerasSource:
    """The source ``keras:``. It also understands the spelling of ``keras.applications``, such as ``ResNet50V2``."""

    def names(self) -> list[str]:
        """Return all names of ``keras.applications``. `load` also takes narrow MobileNets: ``mobilenet_0.50_160``."""
        return list(_NETWORKS)

    def load(self, name: str, options: BackboneOptions) -> Backbone:
        """Return the description of a network.

        Raises:
            UnknownBackboneError: there is no network of this name.
            BackboneError: there is no MobileNet of this width.
        """
        network, width, size = _understand(name)
        return KerasBackbone(network, width, options.size or size, size is not None, options)


def _understand(name: str) -> tuple[str, float, int | None]:
    """Return the name of the network, its width, and the size in pixels if the name has one.

    Raises:
        UnknownBackboneError: there is no network of this name.
        BackboneError: there is no MobileNet of this width.
    """
    if match := _MOBILE.fullmatch(name):
        network, width = match[1], float(match[2])
        if width not in _WIDTHS[network]:
            raise BackboneError(f"there is no {network} of width {width:g}; there is {_WIDTHS[network]}")
        return network, width, int(match[3]) if match[3] else None
    plain = re.sub(r"[^a-z0-9]", "", name.lower())
    if plain in _PLAIN:
        return _PLAIN[plain], 1.0, None
    near = nearest(name.lower(), _NETWORKS)
    hint = f"did you mean 'keras:{near}'? " if near else ""
    raise UnknownBackboneError(f"unknown backbone 'keras:{name}': {hint}there is {', '.join(_NETWORKS)}")


def _downloaded() -> set[str]:
    """Return the networks whose weights Keras has downloaded.

    The longest known name in the name of a file counts: ``resnet50`` is also part of the file of ``resnet50v2``.
    """
    files = [re.sub(r"[^a-z0-9]", "", p.name.lower()) for p in keras_folder().glob("models/*.h5")]
    matches = [[plain for plain in _PLAIN if plain in file] for file in files if "notop" in file]
    return {_PLAIN[max(names, key=len)] for names in matches if names}


@dataclass(frozen=True)
class KerasBackbone(Described):
    """The backbone of one network of ``keras.applications``, at one size of the photos.

    Attributes:
        network: the name of the network in this module.
        width: for a MobileNet the factor of its channels; 1 for all other networks.
        wanted: the side of the photos in pixels; None for the size at which the network was trained.
        fixed_size: whether the size is part of the name.
        options: the stages and the weights that the user set.
    """

    network: str
    width: float
    wanted: int | None
    fixed_size: bool
    options: BackboneOptions
    has_keras_model = True

    @property
    def name(self) -> str:
        """The full name of the backbone, ``source:name``."""
        return f"keras:{self.network}" + (f"_{self.width:.2f}" if self.width != 1.0 else "")

    @property
    def _facts(self) -> _Network:
        """The published facts about the network."""
        return _NETWORKS[self.network]

    @property
    def licence(self) -> str:
        """The SPDX identifier of the licence of Keras' ImageNet weights; ``unknown`` for other weights."""
        return self._facts.licence if self._weights == "imagenet" else "unknown"

    @property
    def top1(self) -> float | None:
        """The ImageNet top-1 accuracy in %, as Keras publishes it; None for other weights and narrow networks."""
        return self._facts.top1 if self._weights == "imagenet" and self.width == 1.0 else None

    @property
    def parameters(self) -> float:
        """The number of weights in millions at the full width, the ImageNet head included."""
        return self._facts.parameters

    @property
    def transform(self) -> Transform:
        """The transform: the centre square, with the pixels scaled as ``preprocess_input`` of the family does."""
        mean, std, order = RANGES[self._facts.pixels]
        return Transform(self.wanted or self._facts.size, 1.0, "bilinear", mean, std, order)

    @property
    def _weights(self) -> str:
        """The option for weights: ``imagenet``, ``none`` or a path."""
        return self.options.weights or "imagenet"

    @cached_property
    def fingerprint(self) -> str:
        """Digest of the weights, the transform, the option for stages and the version of this code."""
        self.require_weights()
        known = {"imagenet": "imagenet", "none": DRAWN}
        weights = known.get(self._weights) or digest_file(Path(self._weights).expanduser())
        wanted = [self.name, weights, self.transform.to_dict(), self.options.stages, _CODE_VERSION]
        return digest_json(wanted)

    @property
    def at_hand(self) -> bool:
        """Whether Keras has already downloaded the weights, or no download is needed."""
        return self._weights != "imagenet" or self.network in _downloaded()

    def require_weights(self) -> None:
        """Raise BackboneError if the option for weights names a file that does not exist."""
        if self._weights not in ("imagenet", "none") and not Path(self._weights).expanduser().is_file():
            raise BackboneError(f"there is no file of weights {self._weights}; wanted a path, imagenet or none")

    def keras_model(self) -> keras.Model:
        """Build the network with channels last.

        Returns:
            A Keras model with the input (N, H, W, 3) after mean and standard deviation, and the features (N, D).

        Raises:
            BackboneError: the network cannot be built, the weights cannot be loaded, or there is no such stage.
        """
        trunk = self._trunk()
        return pooled(trunk.inputs[0], stage_outputs(trunk, self.transform.size, self.options.stages), self.network)

    def _trunk(self) -> keras.Model:
        """Return the network without its head, with weights. Raises BackboneError."""
        import keras

        make = getattr(keras.applications, self._facts.cls)
        size, more = self.transform.size, {"alpha": self.width} if self.width != 1.0 else {}
        if self._weights == "imagenet":
            console.note(f"{self.name}: Keras downloads the ImageNet weights if they are not on this machine yet")
        weights = "imagenet" if self._weights == "imagenet" else None
        try:
            model = make(include_top=False, weights=weights, input_shape=(size, size, 3), **more)
            if self._weights == "none":
                draw_weights(model)
            elif self._weights != "imagenet":
                model.load_weights(str(Path(self._weights).expanduser()))
        except Exception as error:
            raise BackboneError(self._why(error)) from error
        return model

    def _why(self, error: Exception) -> str:
        """Return the message for an error of Keras. For a failed download it says where to put the file."""
        text = " ".join(str(error).split())
        match = re.search(r"URL fetch failure on (\S+?):? (?:None )?--", text)
        if match:
            file = match[1].rpartition("/")[2]
            return (
                f"{match[1]} cannot be downloaded; download it on a machine with internet access and put it at "
                f"{keras_folder() / 'models' / file}, or type {option('weights', 'FILE')}"
            )
        return f"{self.name} at {self.transform.size} px cannot be built with weights {self._weights}: {text[:300]}"
