"""The options that decide which features and labels a photo has.

In: keyword arguments, a TOML file, or flags. Out: `FeatureConfig`, checked.
Why: checking photos, training and sweeping share these options, and features are kept in the cache by them.
Surprise: the help text of an option is the string under its field; there is no other.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

from regraft.config.levels import Levels
from regraft.config.values import require_types
from regraft.errors import ConfigError, option

Effort = Literal["quick", "balanced", "thorough"]

EXPERT = {"expert": True}
"""Metadata of a field whose other values no measurement supports yet: `--help` lists it last."""


class _Effort(NamedTuple):
    scales: tuple[float, ...]
    why: str


_EFFORTS: dict[Effort, _Effort] = {
    "quick": _Effort((1.0,), "the size it was trained at"),
    "balanced": _Effort((9 / 7,), "a little above the size it was trained at"),
    "thorough": _Effort((9 / 7, 13 / 7), "two sizes side by side, for three times the work of balanced"),
}


def seconds_of(text: str) -> float:
    """Return the seconds of a duration such as 45s, 10m or 2h. Raises ConfigError where the text is no duration."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text.strip())
    if found is None or not float(found[1]):
        raise ConfigError(f"budget {text!r} is no time; type, for example, 60s, 10m or 2h")
    return float(found[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[found[2]]


def _sizes(text: str) -> tuple[int, ...]:
    """Return the image sizes in a text such as 288 or 288+416. Raises ConfigError for another text."""
    if not re.fullmatch(r"\d{1,6}(\+\d{1,6})*", text, re.ASCII):
        raise ConfigError(f"resolution {text!r}: wanted pixels, such as 288, or several sizes, such as 288+416")
    return tuple(map(int, text.split("+")))


@dataclass(frozen=True, slots=True)
class FeatureConfig(Levels):
    """The options that decide which features and labels a photo has."""

    heading: ClassVar[str] = "features"

    backbone: str = "efficientnet_lite0"
    """Pretrained network, as SOURCE:NAME or NAME; `regraft info backbones` lists them. hf:OWNER/NAME is an ONNX network
    of the Hugging Face Hub. NAME+NAME puts the features of two networks side by side, for the work of both. auto tries
    those that are here on a few hundred of the photos: see --budget."""

    effort: Effort = "balanced"
    """Image size, as a trade of accuracy for time: quick is the size that the backbone was trained at; balanced is 9/7
    of that, for 1.7 times the work; thorough is 9/7 and 13/7 of that side by side, for 5 times the work. On three photo
    sets the mean accuracy was 91.3, 91.9 and 92.3 %. A thorough run is neither exported nor fine-tuned."""

    resolution: int | str | None = None
    """Image size in pixels. It overrides --effort, and a size in the name of the backbone. 288+416 puts features of
    two sizes side by side."""

    stages: str = ""
    """Layers whose averages over the image are the features: their names with commas between them, or last; by
    default one layer of each resolution."""

    weights: str = ""
    """Weights of the backbone: imagenet, none (random initialisation), or a file; by default its pretrained weights."""

    pixels: str = ""
    """For a network from a file or of keras_hub: the range of pixel values that it expects: 0..255, 0..1, -1..1,
    imagenet or caffe."""

    symmetry: Literal["none", "mirror", "all"] = "none"
    """Take the mean of the features over images of a photo that have the same class: mirror takes the photo and its
    mirror image, for twice the work; all takes the eight rotations and mirror images, for eight times the work, where
    nothing is up, as in photos from above or through a microscope. Such a run cannot be fine-tuned."""

    precision: Literal["auto", "fp32", "bf16", "int8"] = "auto"
    """Numeric precision in which features are computed. auto is the fastest of bf16 and fp32 that works on this
    processor. int8 is calibrated on the photos by `train`, which then reports the loss of accuracy."""

    engine: str = "auto"
    """Library that computes features: openvino (on the CPU), jax, or the engine of a plug-in; auto is jax if there is
    a GPU or TPU, else openvino."""

    budget: str = "60s"
    """With --backbone auto: the longest time that computing the features may take, such as 45s, 10m or 2h; as long
    at most are backbones tried."""

    def __post_init__(self) -> None:
        """Check the types of the values, and what no type can say."""
        require_types(self)
        Levels.__post_init__(self)  # with slots, super() would not find its class
        choices = {
            "symmetry": ("none", "mirror", "all"),
            "precision": ("auto", "fp32", "bf16", "int8"),
            "effort": tuple(_EFFORTS),
        }
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise ConfigError(f"unknown {name} {getattr(self, name)!r}; there is {', '.join(known)}")
        seconds_of(self.budget)
        if self.precision == "int8" and self.engine not in ("auto", "openvino"):
            raise ConfigError(f"int8 runs on OpenVINO; leave {option('engine', self.engine)} out")
        if isinstance(self.resolution, str):
            sizes = _sizes(self.resolution)
            object.__setattr__(self, "resolution", sizes[0] if len(sizes) == 1 else self.resolution)
        for size in self.resolutions:
            if not 32 <= size <= 1024:
                raise ConfigError(f"resolution {self.resolution} is not between 32 and 1024 pixels")

    @property
    def resolutions(self) -> tuple[int, ...]:
        """The image sizes in `resolution`, in pixels; none where the choice is left to the backbone."""
        if self.resolution is None:
            return ()
        return _sizes(self.resolution) if isinstance(self.resolution, str) else (self.resolution,)

    def photo_sizes(self, native: int, fixed: bool) -> tuple[tuple[int, ...], str]:
        """Return the image sizes in pixels where none was asked for, and the reason for them in words.

        Args:
            native: the image size at which the backbone was trained.
            fixed: whether the backbone has a size of its own, which no effort changes.
        """
        if fixed:
            return (native,), "its own fixed size"
        scales, why = _EFFORTS[self.effort]
        sizes = tuple(native if scale == 1.0 else round(native * scale / 32) * 32 for scale in scales)
        return sizes, f"effort {self.effort}, {why}"
