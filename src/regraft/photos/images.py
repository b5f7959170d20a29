"""Decode the bytes of a photo to RGB pixels of the size that a backbone wants.

In: the bytes of one file. Out: a uint8 array ``(size, size, 3)``, or an `ImageError` that gives the reason.
Why: training, evaluation and exports must see the same pixels, or the reported accuracy would be wrong.
Surprise: the file's name plays no part; a PNG called ``rose.jpg`` is read as a PNG.
"""

from __future__ import annotations

import errno
import io
import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from regraft.errors import ImageError, TooLargeError
from regraft.foundation.documents import Fields
from regraft.foundation.files import digest_bytes
from regraft.photos.boxes import Box, crop
from regraft.photos.colours import to_rgb, transform_to_srgb

Pixels = NDArray[np.uint8]
Triple = tuple[float, float, float]

DECODING_VERSION = 2
"""A part of the key of every cached feature. Raise it when the pixels of the same file change."""

MAX_BYTES = 256 * 2**20
"""The greatest size of a photo's file, in bytes. A larger file is not read."""

MAX_PIXELS = 100_000_000
"""The most pixels that are decoded at once: Pillow takes 4 bytes for each, in all 400 MB. A larger JPEG is decoded at
a reduced size, unless it is progressive."""

MAX_CONVERTED = 40_000_000
"""The most pixels of a photo that must be converted or rotated, which needs copies."""

MAX_SIZE = 4096
"""The greatest side of the square that a backbone sees, in pixels."""

THUMBNAIL = 16
"""The side of a thumbnail, in pixels."""

# Pillow can open more formats, but some of them start external programs. JPEG includes MPO.
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
# Pillow warns on stderr from 89 megapixels on. `_check_cost` has its own limits instead.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
_ORIENTATION = 0x0112  # the EXIF tag
_RESAMPLE = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


@dataclass(frozen=True, slots=True)
class Problem:
    """A file that was left out, and the reason in words for the user."""

    path: Path
    reason: str


@dataclass(frozen=True, slots=True)
class Part:
    """The position of a photo in a file that holds more, such as a TFRecord shard, or an area of a photo.

    Attributes:
        file: the path of the file.
        offset: the position of the photo's first byte.
        length: the number of the photo's bytes.
        box: the area that is taken for a photo of its own; None for the whole photo.
    """

    file: Path
    offset: int
    length: int
    box: Box | None = None


@dataclass(frozen=True, slots=True)
class Look:
    """A photo as a backbone sees it, and the original size of the photo.

    Attributes:
        pixels: ``(size, size, 3)`` uint8 RGB.
        thumbnail: ``(16, 16)`` uint8, the brightness of ``pixels``, used as a perceptual hash.
        width, height: the original size in pixels.
    """

    pixels: Pixels
    thumbnail: Pixels
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Transform:
    """The deterministic transform of a photo between decoding and the backbone: crop, resize, normalise.

    Attributes:
        size: the side of the square that the backbone sees, in pixels.
        crop: the fraction of the shorter side that the centre crop keeps, in (0, 1]; None resizes the whole photo.
        resample: the interpolation of the resize, with antialiasing.
        mean: the mean that is subtracted from each channel, in 0..255, in ``channel_order``.
        std: the standard deviation by which each channel is then divided, in 0..255, in ``channel_order``.
        channel_order: the order of the colour channels that the backbone wants.
    """

    size: int
    crop: float | None
    resample: Literal["bilinear", "bicubic"]
    mean: Triple
    std: Triple
    channel_order: Literal["RGB", "BGR"] = "RGB"

    def pixels(self, image: Image.Image) -> Pixels:
        """Crop and resize an RGB image, and return ``(size, size, 3)`` uint8 RGB.

        The engine's graph applies mean, std and channel order, so that pixels take 8 bits until then instead of 32.
        """
        return np.asarray(self._scaled(image))

    def box(self, width: int, height: int) -> tuple[float, float, float, float]:
        """Return the area of a photo that the backbone sees: left, top, right and bottom, in (fractional) pixels."""
        if self.crop is None:
            return 0.0, 0.0, float(width), float(height)
        side = min(width, height) * self.crop
        left, top = (width - side) / 2, (height - side) / 2
        return left, top, left + side, top + side

    def _scaled(self, image: Image.Image) -> Image.Image:
        return image.resize((self.size, self.size), _RESAMPLE[self.resample], box=self.box(*image.size))

    def load(self, data: bytes) -> Pixels:
        """Decode a photo's bytes, and return `pixels` of the image. Raises ImageError if it cannot be decoded."""
        return self.look(data).pixels

    def look(self, data: bytes) -> Look:
        """Decode a photo's bytes; return its pixels, thumbnail and size. Raises ImageError if it cannot be decoded."""
        needed = self.size if self.crop is None else round(self.size / self.crop)
        image, (width, height) = _decode(data, needed)
        scaled = self._scaled(image)
        thumbnail = scaled.convert("L").resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX)
        return Look(np.asarray(scaled), np.asarray(thumbnail), width, height)

    def to_dict(self) -> dict[str, Any]:
        """Return the transform as JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Transform:
        """Return the transform that `to_dict` wrote. Raises ValueError if a value is missing or not possible."""
        return cls.from_fields(Fields(values, "transform"))

    @classmethod
    def from_fields(cls, fields: Fields) -> Transform:
        """Read a transform from a JSON document. Raises DamagedError if a value is missing or not possible."""
        crop = fields.number_or_none("crop", 1e-3, 1.0)
        resample = fields.text("resample", " or ".join(_RESAMPLE), _RESAMPLE.__contains__)
        order = "RGB"  # the oldest runs do not name the order; all their backbones want RGB
        if fields.has("channel_order"):
            order = fields.text("channel_order", "RGB or BGR", ("RGB", "BGR").__contains__)
        return cls(
            size=fields.whole("size", 1, MAX_SIZE),
            crop=crop,
            resample=cast("Literal['bilinear', 'bicubic']", resample),
            mean=cast("Triple", fields.numbers("mean", 3, -1e6, 1e6)),
            std=cast("Triple", fields.numbers("std", 3, 1e-6, 1e6)),
            channel_order=cast("Literal['RGB', 'BGR']", order),
        )


class Portable(NamedTuple):
    """A photo as JPEG or PNG bytes that every image reader shows alike: upright, opaque, 8 bits, sRGB.

    Attributes:
        data: the bytes of the file.
        format: ``JPEG`` or ``PNG``.
        width, height: the size in pixels.
    """

    data: bytes
    format: str
    width: int
    height: int


def portable(data: bytes) -> Portable:
    """Return a photo unchanged if every image reader shows it alike, else encoded again as JPEG of quality 95.

    Raises:
        ImageError: the photo cannot be decoded to its end.
    """
    with _opened(data) as image:
        width, height = image.size
        if _is_plain(image):
            _load(image, 1)  # a JPEG is decoded at 1/8 of its size, which still shows whether the file is cut off
            if image.getexif().get(_ORIENTATION, 1) == 1:
                return Portable(data, str(image.format), width, height)
    whole = decode(data)
    file = io.BytesIO()
    whole.save(file, "JPEG", quality=95, subsampling=0)
    return Portable(file.getvalue(), "JPEG", whole.width, whole.height)


def _is_plain(image: Image.Image) -> bool:
    """Return whether an image looks right in readers that ignore colour profiles and transparency."""
    if image.format not in ("JPEG", "PNG") or image.mode not in ("RGB", "L") or "transparency" in image.info:
        return False
    profile = image.info.get("icc_profile")
    return not (profile and transform_to_srgb(profile, image.mode))


def read(path: Path, part: Part | None = None) -> bytes:
    """Return the bytes of a photo as `read_whole` does; for a part with a box, a BMP file of the area of the box.

    Raises:
        ImageError: the file cannot be read, or the photo of a box cannot be decoded.
    """
    return cropped(read_whole(path, part), part)


def cropped(data: bytes, part: Part | None) -> bytes:
    """Return the bytes of a photo, or of the area of its box. Raises ImageError if the photo cannot be decoded."""
    return data if part is None or part.box is None else crop(decode(data), part.box)


def cropped_digest(digest: str, part: Part | None) -> str:
    """Return the digest of what `cropped` returns, by that of the whole photo's bytes and the box, without decoding."""
    return digest if part is None or part.box is None else digest_bytes(f"{digest} {part.box}".encode())


def read_whole(path: Path, part: Part | None = None) -> bytes:
    """Return the bytes of a photo, from the file ``path`` or, if it is given, from a part of another file.

    Raises:
        ImageError: the file is missing, not a regular file, too large or unreadable.
    """
    file = part.file if part else path
    try:
        facts = file.stat()  # only one call: for small photos, four calls took as long as reading the photo
        if not stat.S_ISREG(facts.st_mode):
            raise ImageError("a folder, not a file" if stat.S_ISDIR(facts.st_mode) else "not a regular file")
        size = part.length if part else facts.st_size
        if size > MAX_BYTES:
            raise ImageError(f"{size / 2**20:.0f} MiB, more than the {MAX_BYTES // 2**20} MiB a photo may have")
        if part is None:
            return file.read_bytes()
        with file.open("rb") as opened:
            opened.seek(part.offset)
            return opened.read(part.length)
    except (OSError, ValueError) as error:  # also for links in a circle, and for a name with a zero byte or too long
        if isinstance(error, ValueError) or error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            raise ImageError("a broken link" if file.is_symlink() else "there is no such file") from error
        raise ImageError(f"cannot be read: {(error.strerror or str(error)).lower()}") from error


def decode(data: bytes, at_least: int | None = None) -> Image.Image:
    """Decode a photo to RGB: upright by its EXIF orientation, transparency on white, 16 bits scaled to 8, in sRGB.

    Args:
        data: the bytes of a JPEG, PNG, WebP, GIF, BMP, TIFF or AVIF file, or with the extra ``heif`` of a HEIC file.
            Of several frames or pages, the first is decoded.
        at_least: the pixels needed on each side. A JPEG is then decoded at 1/2, 1/4 or 1/8 of its size if that is
            still large enough, which makes a phone photo ten times cheaper. None decodes the full size.

    Raises:
        ImageError: the bytes are not an image, are cut off, or would take too much memory.
    """
    return _decode(data, at_least)[0]


def _decode(data: bytes, at_least: int | None) -> tuple[Image.Image, tuple[int, int]]:
    """Return the decoded photo, and the original width and height in pixels."""
    with _opened(data) as image:
        size = image.size
        _load(image, at_least)
        return to_rgb(_upright(image)), size


def _load(image: Image.Image, at_least: int | None) -> None:
    """Decode an open image, at a reduced size if that is possible. Raises ImageError if it takes too much memory."""
    if "progressive" in image.info:  # a progressive JPEG takes memory for its full size, however small it is decoded
        _check_cost(image)
    if at_least is not None:
        image.draft("RGB", (at_least, at_least))
    _check_cost(image)
    image.load()


@contextmanager
def _opened(data: bytes) -> Iterator[Image.Image]:
    """Open an image and read its header. Errors in the ``with`` block become an ImageError."""
    if not data:
        raise ImageError("empty file (0 bytes)")
    try:
        with Image.open(io.BytesIO(data), formats=_formats(data)) as image:
            yield image
    except UnidentifiedImageError as error:
        raise ImageError("not an image that can be read (JPEG, PNG, WebP, GIF, BMP, TIFF, AVIF, HEIC)") from error
    except Image.DecompressionBombError as error:
        raise TooLargeError("far too many pixels: a decompression bomb?") from error
    except ImageError:
        raise
    except MemoryError as error:
        raise TooLargeError("too large for this machine's memory") from error
    except Exception as error:  # Decoders raise nearly anything (struct.error, KeyError, …) on damaged bytes.
        raise ImageError(f"damaged: {str(error) or type(error).__name__}") from error


def _formats(data: bytes) -> tuple[str, ...]:
    if data[4:8] != b"ftyp" or data[8:12] not in _HEIF_BRANDS or b"avif" in data[8:64]:
        return _FORMATS
    _register_heif()
    return ("HEIF",)


@cache
def _register_heif() -> None:
    try:
        from pi_heif import register_heif_opener
    except ImportError as error:
        raise ImageError("a HEIC photo; to read those, type: pip install 'regraft[heif]'") from error
    register_heif_opener(thumbnails=False)


def _check_cost(image: Image.Image) -> None:
    """Raise ImageError if an open image would take too much memory to decode."""
    width, height = image.size
    # Pillow would decode a whole PNG to look for EXIF, so that getexif is only called if the EXIF is known already.
    turned = ("exif" in image.info or image.format == "TIFF") and image.getexif().get(_ORIENTATION, 1) != 1
    as_it_is = image.mode == "RGB" and not turned
    limit = MAX_PIXELS if as_it_is else MAX_CONVERTED
    if width * height > limit:
        raise TooLargeError(f"{width}×{height} pixels, more than the {limit:,} of this kind that are decoded at once")


def upright_rgb(image: Image.Image) -> Image.Image:
    """Return a Pillow image as `decode` returns an image: upright by its EXIF orientation, on white, in sRGB.

    Raises:
        ImageError: the pixels cannot be decoded. Pillow decodes the pixels of a file only when they are used.
    """
    try:
        image.load()
        return to_rgb(_upright(image))
    except Exception as error:  # Decoders raise nearly anything (struct.error, KeyError, …) on damaged bytes.
        raise ImageError(f"damaged: {str(error) or type(error).__name__}") from error


def _upright(image: Image.Image) -> Image.Image:
    if image.getexif().get(_ORIENTATION, 1) == 1:
        return image
    return ImageOps.exif_transpose(image)
