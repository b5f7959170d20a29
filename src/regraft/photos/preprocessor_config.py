"""The transform of photos that a repository of the Hugging Face Hub describes, for transformers or for timm.

In: the values of ``preprocessor_config.json`` and ``config.json``. Out: a `Transform`, and what differs from the files.
Why: a network sees the pixels it was trained on only if size, crop, interpolation, mean and standard deviation agree.
Surprise: the same keys mean different things for different classes of transformers, so an unknown class is an error.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, cast

from regraft.foundation.documents import DamagedError, Fields
from regraft.photos.images import MAX_SIZE, Transform, Triple

_BILINEAR, _BICUBIC, _NEAREST = 2, 3, 0
_INTERPOLATIONS = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "box", 5: "hamming"}
"""The names of the numbers that Pillow has for interpolations."""

_MOST = 1e3  # an upper bound of means and standard deviations, for pixels in 0..1 or 0..255


class _Class(NamedTuple):
    """What a class of image processors does where its file does not say so.

    Attributes:
        square: whether one number as size means a square, and not the shorter side.
        crops: whether the centre is cropped.
        resample: Pillow's number of the interpolation.
    """

    square: bool
    crops: bool
    resample: int


_CLASSES = {
    "beit": _Class(True, False, _BICUBIC),
    "bit": _Class(False, True, _BICUBIC),
    "clip": _Class(False, True, _BICUBIC),
    "convnext": _Class(False, False, _BICUBIC),
    "deit": _Class(True, True, _BICUBIC),
    "dinov3vit": _Class(True, False, _BILINEAR),
    "efficientnet": _Class(True, False, _NEAREST),
    "mobilenetv1": _Class(False, True, _BILINEAR),
    "mobilenetv2": _Class(False, True, _BILINEAR),
    "mobilevit": _Class(False, True, _BILINEAR),
    "siglip": _Class(True, False, _BICUBIC),
    "vit": _Class(True, False, _BILINEAR),
}
"""The classes of transformers by their names in lower case, without ImageProcessor, FeatureExtractor or Fast."""


@dataclass(frozen=True, slots=True)
class Processor:
    """The transform of photos for a network.

    Attributes:
        transform: the transform, at the size that the files say.
        differences: where the transform is not exactly what the files say, in words.
    """

    transform: Transform
    differences: tuple[str, ...] = ()


def read_processor(own: Fields | None, config: Fields | None) -> Processor:
    """Return the transform that a repository describes.

    Args:
        own: the fields of ``preprocessor_config.json``, or None if there is no such file.
        config: the fields of ``config.json``, or None if there is no such file.

    Raises:
        DamagedError: the files do not describe a transform that regraft can do.
    """
    timm = next((one for one in (own, config) if one is not None and one.has("pretrained_cfg")), None)
    named = None if own is None else _class_of(own)
    if timm is not None and named in (None, "timmwrapper"):
        return _of_timm(timm.fields("pretrained_cfg"))
    if own is None or named is None:
        raise DamagedError(
            "preprocessor_config.json does not say how the network wants photos; wanted its image_processor_type, or "
            "pretrained_cfg in config.json"
        )
    if named not in _CLASSES:
        raise own.wrong("image_processor_type", f"a class among {', '.join(_CLASSES)} and timmwrapper")
    return _of_transformers(own, named)


def _class_of(own: Fields) -> str | None:
    """Return the class of an image processor as a key of `_CLASSES`, or another name; None if the file names none."""
    key = next((key for key in ("image_processor_type", "feature_extractor_type") if own.has(key)), None)
    return key and re.sub(r"(imageprocessor|featureextractor)?(fast|pil)?$", "", own.text(key).lower())


def _of_timm(config: Fields) -> Processor:
    """Return the transform that timm makes of its ``pretrained_cfg``, at the size of training."""
    channels, height, width = config.numbers("input_size", 3, 1, MAX_SIZE)
    if channels != 3 or height != width or height != int(height):
        raise config.wrong("input_size", "3 and a square")
    mode = config.text("crop_mode") if config.has("crop_mode") else "center"
    if mode not in ("center", "squash"):
        raise config.wrong("crop_mode", "center or squash")
    crop = config.number("crop_pct", 1e-3, 1.0) if config.has("crop_pct") else 0.875
    interpolation = config.text("interpolation") if config.has("interpolation") else "bicubic"
    resample, differences = _resample(interpolation)
    kept, squashed = _crop(crop, mode == "squash")
    mean, std = _triple(config, "mean"), _triple(config, "std", 1e-6)
    transform = Transform(int(height), kept, resample, _scaled(mean, 255.0), _scaled(std, 255.0))
    return Processor(transform, (*differences, *squashed))


def _of_transformers(own: Fields, named: str) -> Processor:
    """Return the transform of an image processor of transformers, whose class is a key of `_CLASSES`."""
    kind = _CLASSES[named]
    if not _flag(own, "do_resize", True):
        raise own.wrong("do_resize", "true")
    if _flag(own, "do_pad", False):
        raise own.wrong("do_pad", "false")
    size, crop, squashes = _geometry(own, named, kind)
    number = own.whole("resample", 0, max(_INTERPOLATIONS)) if own.has("resample") else kind.resample
    resample, differences = _resample(_INTERPOLATIONS[number])
    kept, squashed = _crop(crop, squashes)
    mean, std = _mean_and_std(own, named)
    order: Literal["RGB", "BGR"] = "BGR" if _flag(own, "do_flip_channel_order", named == "mobilevit") else "RGB"
    return Processor(Transform(size, kept, resample, mean, std, order), (*differences, *squashed))


def _geometry(own: Fields, named: str, kind: _Class) -> tuple[int, float, bool]:
    """Return the side of the square in pixels, the fraction that the crop keeps, and whether photos are squashed."""
    edge, square = _size(own, kind.square)
    if named == "convnext":  # from 384 pixels on it squashes photos, else it crops them by a fraction
        crop = own.number("crop_pct", 1e-3, 1.0) if own.has("crop_pct") else 224 / 256
        return (edge, 1.0, True) if edge >= 384 else (edge, crop, False)
    if not _flag(own, "do_center_crop", kind.crops):
        if not square:
            raise own.wrong("do_center_crop", "true, since the size names the shorter side alone")
        return edge, 1.0, True
    value = own.values.get("crop_size")
    side = _side(own.fields("crop_size")) if isinstance(value, dict) else own.whole("crop_size", 1, MAX_SIZE)
    if side > edge:
        raise own.wrong("crop_size", f"at most {edge}, the size before the crop")
    return side, side / edge, square


def _size(own: Fields, square: bool) -> tuple[int, bool]:
    """Return the size of a resized photo in pixels, and whether both sides get it, or the shorter one."""
    if not isinstance(own.values.get("size"), dict):
        return own.whole("size", 1, MAX_SIZE), square
    size = own.fields("size")
    if size.has("shortest_edge"):
        return size.whole("shortest_edge", 1, MAX_SIZE), False
    return _side(size), True


def _side(size: Fields) -> int:
    """Return the side of a square in pixels that is given as height and width."""
    height = size.whole("height", 1, MAX_SIZE)
    if size.whole("width", 1, MAX_SIZE) != height:
        raise size.wrong("width", f"{height}, as the height")
    return height


def _mean_and_std(own: Fields, named: str) -> tuple[Triple, Triple]:
    """Return mean and standard deviation for pixels in 0..255, from the steps ``rescale`` and ``normalize``."""
    factor, offset = 1.0, 0.0
    if _flag(own, "do_rescale", True):
        factor = own.number("rescale_factor", 1e-6, 1.0) if own.has("rescale_factor") else 1 / 255
        offset = 1.0 if named == "efficientnet" and _flag(own, "rescale_offset", False) else 0.0
    mean: Triple = (0.0,) * 3
    std: Triple = (1.0,) * 3
    if _flag(own, "do_normalize", named != "mobilevit"):
        mean, std = _triple(own, "image_mean"), _triple(own, "image_std", 1e-6)
    divided = std
    if named == "efficientnet" and _flag(own, "include_top", True):  # it divides by the standard deviation once more
        again = _triple(own, "image_std", 1e-6)
        divided = cast("Triple", tuple(a * b for a, b in zip(std, again, strict=True)))
    return _scaled(cast("Triple", tuple(m + offset for m in mean)), 1 / factor), _scaled(divided, 1 / factor)


def _triple(fields: Fields, key: str, low: float = -_MOST) -> Triple:
    """Return a value for each of the three channels, from three numbers or from one."""
    if isinstance(fields.values.get(key), int | float):
        return (fields.number(key, low, _MOST),) * 3
    return cast("Triple", fields.numbers(key, 3, low, _MOST))


def _scaled(values: Triple, factor: float) -> Triple:
    """Return three values times a factor, without the rounding errors of the last digits."""
    return cast("Triple", tuple(round(value * factor, 6) for value in values))


def _crop(crop: float, squashes: bool) -> tuple[float | None, tuple[str, ...]]:
    """Return the crop of a `Transform`, and in words what differs.

    Args:
        crop: the fraction that the crop keeps.
        squashes: whether photos are made square by a resize before the crop, and not by the crop.
    """
    if not squashes:
        return crop, ()
    if crop == 1.0:
        return None, ()
    return crop, ("it wants photos squashed to a square and then cropped; the centre square is taken instead",)


def _resample(name: str) -> tuple[Literal["bilinear", "bicubic"], tuple[str, ...]]:
    """Return the interpolation of a `Transform`, and in words what differs."""
    if name in ("bilinear", "bicubic"):
        return cast("Literal['bilinear', 'bicubic']", name), ()
    other: Literal["bilinear", "bicubic"] = "bicubic" if name in ("lanczos", "hamming") else "bilinear"
    return other, (f"it wants photos resized with the interpolation {name}; {other} is taken instead",)


def _flag(fields: Fields, key: str, default: bool) -> bool:
    """Return a value that is true or false. Raises DamagedError."""
    value: Any = fields.values.get(key)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise fields.wrong(key, "true or false")
    return value
