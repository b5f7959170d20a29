"""Encoded bytes → RGB pixels of the size a backbone wants.

In: the bytes of one file. Out: a uint8 array ``(size, size, 3)``, or an `ImageError` that says why not.
Why: every number regraft reports depends on training, measuring and shipping seeing the same pixels.
Surprise: the file's name plays no part; a PNG called ``rose.jpg`` is a PNG.
"""

from __future__ import annotations

import io
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from regraft.errors import ImageError

Pixels = NDArray[np.uint8]

DECODING_VERSION = 1
"""Part of every cached feature's key: to be raised when the pixels of the same file change."""

MAX_BYTES = 256 * 2**20
"""A larger file is refused unread."""

MAX_PIXELS = 100_000_000
"""The most pixels that are ever decoded at once (300 MB as RGB). A larger JPEG is decoded scaled down."""

ALPHA_BACKGROUND = (255, 255, 255)
"""What shows through transparent pixels: white, as in most viewers."""

# Of all that Pillow can open only these: some of the others start external programs. JPEG opens MPO too.
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
# Pillow warns from 89 megapixels on, to stderr; a limit of our own refuses, and a large JPEG is decoded scaled down.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
_ORIENTATION = 0x0112
_RESAMPLE = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


@dataclass(frozen=True, slots=True)
class Problem:
    """A file that was left out, and why, in words for its owner."""

    path: Path
    reason: str


@dataclass(frozen=True, slots=True)
class Transform:
    """What happens to a photo between decoding and the backbone. The only place that knows these numbers.

    Attributes:
        size: side of the square the backbone sees, in pixels.
        crop: share of the shorter side that the centre crop keeps, in (0, 1]; None squashes the whole photo.
        resample: the filter that scales, antialiased.
        mean: subtracted from each channel, in 0..255, in ``channel_order``.
        std: each channel is then divided by this, in 0..255.
        channel_order: the order in which the backbone wants red, green and blue.
    """

    size: int
    crop: float | None
    resample: Literal["bilinear", "bicubic"]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    channel_order: Literal["RGB", "BGR"] = "RGB"

    def pixels(self, image: Image.Image) -> Pixels:
        """Crop and scale an RGB image to ``(size, size, 3)`` uint8, still RGB.

        Mean, std and channel order are applied by the engine's graph, so that eight bits travel instead of 32.
        """
        width, height = image.size
        box = (0.0, 0.0, float(width), float(height))
        if self.crop is not None:
            side = min(width, height) * self.crop
            left, top = (width - side) / 2, (height - side) / 2
            box = (left, top, left + side, top + side)
        return np.asarray(image.resize((self.size, self.size), _RESAMPLE[self.resample], box=box))

    def load(self, data: bytes) -> Pixels:
        """Decode ``data`` and apply the transform. Raises ImageError."""
        needed = self.size if self.crop is None else round(self.size / self.crop)
        return self.pixels(decode(data, at_least=needed))

    def to_dict(self) -> dict[str, Any]:
        """The record as JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Transform:
        """Inverse of `to_dict`."""
        return cls(**{**values, "mean": tuple(values["mean"]), "std": tuple(values["std"])})


def read(path: Path) -> bytes:
    """The bytes of a photo file. Raises ImageError where it is no regular file, too large or unreadable."""
    try:
        if not path.exists():
            raise ImageError("a broken link" if path.is_symlink() else "there is no such file")
        if not path.is_file():
            raise ImageError("a folder, not a file" if path.is_dir() else "not a regular file")
        if (size := path.stat().st_size) > MAX_BYTES:
            raise ImageError(f"{size / 2**20:.0f} MiB, more than the {MAX_BYTES // 2**20} MiB a photo may have")
        return path.read_bytes()
    except OSError as error:
        raise ImageError(f"cannot be read: {(error.strerror or str(error)).lower()}") from error


def decode(data: bytes, at_least: int | None = None) -> Image.Image:
    """Decode a photo to RGB: upright by its EXIF orientation, transparency on white, 16 bits scaled to 8.

    Args:
        data: the bytes of a JPEG, PNG, WebP, GIF, BMP, TIFF or AVIF file; of an animation the first frame.
        at_least: the shorter side that will be needed; a JPEG is then decoded at 1/2, 1/4 or 1/8 of its size
            as long as that much is left, which makes a phone photo ten times cheaper.

    Raises:
        ImageError: the bytes are no image, are cut off, or would cost too much memory.
    """
    if not data:
        raise ImageError("empty file (0 bytes)")
    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            if at_least is not None:
                image.draft("RGB", (at_least, at_least))
            width, height = image.size  # after draft: what will be decoded
            if width * height > MAX_PIXELS:
                raise ImageError(f"{width}×{height} pixels, more than the {MAX_PIXELS:,} that are decoded at once")
            image.load()
            return _to_rgb(_upright(image))
    except UnidentifiedImageError as error:
        raise ImageError("not an image that can be read (JPEG, PNG, WebP, GIF, BMP, TIFF, AVIF)") from error
    except Image.DecompressionBombError as error:
        raise ImageError("far too many pixels: a decompression bomb?") from error
    except ImageError:
        raise
    except MemoryError as error:
        raise ImageError("too large for this machine's memory") from error
    except Exception as error:  # Decoders raise nearly anything (struct.error, KeyError, …) on damaged bytes.
        raise ImageError(f"damaged: {str(error) or type(error).__name__}") from error


def _upright(image: Image.Image) -> Image.Image:
    if image.getexif().get(_ORIENTATION, 1) == 1:
        return image
    return ImageOps.exif_transpose(image)


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith("I") or image.mode == "F":
        return _deep_grey_to_rgb(image)
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        background = Image.new("RGBA", layer.size, (*ALPHA_BACKGROUND, 255))
        return Image.alpha_composite(background, layer).convert("RGB")
    return image.convert("RGB")


def _deep_grey_to_rgb(image: Image.Image) -> Image.Image:
    """16-bit integers and floats to 8 bits. Pillow's own conversion clips them at 255, which turns them white."""
    values = np.nan_to_num(np.asarray(image, dtype=np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    top = values.max(initial=0.0)
    if image.mode == "F" and top <= 1.0:
        values = values * 255.0  # floats in 0..1
    elif top > 255.0:
        values = values * (255.0 / max(65535.0, float(top)))
    grey = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    return Image.fromarray(grey).convert("RGB")
