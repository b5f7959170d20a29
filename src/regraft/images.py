"""Encoded bytes → RGB pixels of the size a backbone wants.

In: the bytes of one file. Out: a uint8 array ``(size, size, 3)``, or an `ImageError` that says why not.
Why: every number regraft reports depends on training, measuring and shipping seeing the same pixels.
Surprise: the file's name plays no part; a PNG called ``rose.jpg`` is a PNG.
"""

from __future__ import annotations

import errno
import io
import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from regraft._documents import Fields
from regraft.errors import ImageError

if TYPE_CHECKING:
    from PIL import ImageCms

Pixels = NDArray[np.uint8]
Triple = tuple[float, float, float]

DECODING_VERSION = 2
"""Part of every cached feature's key: to be raised when the pixels of the same file change."""

MAX_BYTES = 256 * 2**20
"""A larger file is refused unread."""

MAX_PIXELS = 100_000_000
"""The most pixels that are held at once: Pillow takes 4 bytes for each, 400 MB. A larger JPEG is decoded scaled down,
unless it is progressive."""

MAX_CONVERTED = 40_000_000
"""The most where they must be converted or turned, which takes copies."""

MAX_SIZE = 4096
"""The most pixels that a side of what a backbone sees may have."""

THUMBNAIL = 16
"""Side of a thumbnail, in pixels."""

ALPHA_BACKGROUND = (255, 255, 255)
"""What shows through transparent pixels: white, as in most viewers."""

# Of all that Pillow can open only these: some of the others start external programs. JPEG opens MPO too.
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
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
class Part:
    """Bytes within a file that holds many photos, such as a TFRecord shard.

    Attributes:
        file: the file.
        offset: where the photo begins, in bytes.
        length: how many bytes it has.
    """

    file: Path
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class Look:
    """A photo as a backbone sees it, and its size before that.

    Attributes:
        pixels: ``(size, size, 3)`` uint8 RGB.
        thumbnail: ``(16, 16)`` uint8, the brightness of ``pixels``: what a perceptual hash is made of.
        width, height: the photo's own, in pixels.
    """

    pixels: Pixels
    thumbnail: Pixels
    width: int
    height: int


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
    mean: Triple
    std: Triple
    channel_order: Literal["RGB", "BGR"] = "RGB"

    def pixels(self, image: Image.Image) -> Pixels:
        """Crop and scale an RGB image to ``(size, size, 3)`` uint8, still RGB.

        Mean, std and channel order are applied by the engine's graph, so that eight bits travel instead of 32.
        """
        return np.asarray(self._scaled(image))

    def box(self, width: int, height: int) -> tuple[float, float, float, float]:
        """What of a photo the backbone sees: left, top, right and bottom, in pixels and parts of them."""
        if self.crop is None:
            return 0.0, 0.0, float(width), float(height)
        side = min(width, height) * self.crop
        left, top = (width - side) / 2, (height - side) / 2
        return left, top, left + side, top + side

    def _scaled(self, image: Image.Image) -> Image.Image:
        return image.resize((self.size, self.size), _RESAMPLE[self.resample], box=self.box(*image.size))

    def load(self, data: bytes) -> Pixels:
        """Decode ``data`` and apply the transform. Raises ImageError."""
        return self.look(data).pixels

    def look(self, data: bytes) -> Look:
        """`load`, and the size of the photo. Raises ImageError."""
        needed = self.size if self.crop is None else round(self.size / self.crop)
        image, (width, height) = _decode(data, needed)
        scaled = self._scaled(image)
        thumbnail = scaled.convert("L").resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX)
        return Look(np.asarray(scaled), np.asarray(thumbnail), width, height)

    def to_dict(self) -> dict[str, Any]:
        """The record as JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Transform:
        """Inverse of `to_dict`. Raises ValueError for a record that no backbone can have."""
        return cls.from_fields(Fields(values, "transform"))

    @classmethod
    def from_fields(cls, fields: Fields) -> Transform:
        """Read a record out of a JSON document. Raises DamagedError for one that no backbone can have."""
        crop = fields.number_or_none("crop", 1e-3, 1.0)
        resample = fields.text("resample", " or ".join(_RESAMPLE), _RESAMPLE.__contains__)
        order = "RGB"  # runs of the first days do not say it: they had no network that wants blue first
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
    """A photo in bytes that any reader shows alike: JPEG or PNG, upright, opaque, 8 bits, sRGB.

    Attributes:
        data: the file's bytes.
        format: ``JPEG`` or ``PNG``.
        width, height: in pixels.
    """

    data: bytes
    format: str
    width: int
    height: int


def portable(data: bytes) -> Portable:
    """``data`` as it is where any reader shows it alike, else decoded and encoded again as JPEG of quality 95.

    Raises:
        ImageError: it cannot be decoded to its end.
    """
    with _opened(data) as image:
        width, height = image.size
        if _is_plain(image):
            _load(image, 1)  # a JPEG at an eighth of its size: a cut shows all the same
            if image.getexif().get(_ORIENTATION, 1) == 1:
                return Portable(data, str(image.format), width, height)
    whole = decode(data)
    file = io.BytesIO()
    whole.save(file, "JPEG", quality=95, subsampling=0)
    return Portable(file.getvalue(), "JPEG", whole.width, whole.height)


def _is_plain(image: Image.Image) -> bool:
    """Whether a file that is open, but not decoded, shows right without regard to EXIF, profile or transparency."""
    if image.format not in ("JPEG", "PNG") or image.mode not in ("RGB", "L") or "transparency" in image.info:
        return False
    profile = image.info.get("icc_profile")
    return not (profile and _transform_to_srgb(profile, image.mode))


def read(path: Path, part: Part | None = None) -> bytes:
    """The bytes of a photo: a file, or a part of one.

    Raises:
        ImageError: there is no regular file, or it is too large, too short or unreadable.
    """
    file = part.file if part else path
    try:
        facts = file.stat()  # once: of small photos asking the system four times took as long as reading them
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
    except (OSError, ValueError) as error:  # a loop of links, a name that is too long or has a NUL among them
        if isinstance(error, ValueError) or error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            raise ImageError("a broken link" if file.is_symlink() else "there is no such file") from error
        raise ImageError(f"cannot be read: {(error.strerror or str(error)).lower()}") from error


def decode(data: bytes, at_least: int | None = None) -> Image.Image:
    """Decode a photo to RGB: upright by its EXIF orientation, transparency on white, 16 bits scaled to 8, in sRGB.

    Args:
        data: the bytes of a JPEG, PNG, WebP, GIF, BMP, TIFF or AVIF file, or with the extra ``heif`` of a HEIC file;
            of an animation the first frame, of many pages the first.
        at_least: the shorter side that will be needed; a JPEG is then decoded at 1/2, 1/4 or 1/8 of its size
            as long as that much is left, which makes a phone photo ten times cheaper.

    Raises:
        ImageError: the bytes are no image, are cut off, or would cost too much memory.
    """
    return _decode(data, at_least)[0]


def _decode(data: bytes, at_least: int | None) -> tuple[Image.Image, tuple[int, int]]:
    """The photo, and its own size in pixels."""
    with _opened(data) as image:
        size = image.size
        _load(image, at_least)
        return _to_rgb(_upright(image)), size


def _load(image: Image.Image, at_least: int | None) -> None:
    """Decode what is open."""
    if "progressive" in image.info:  # its coefficients are held for all of it, however small it is decoded
        _check_cost(image)
    if at_least is not None:
        image.draft("RGB", (at_least, at_least))
    _check_cost(image)
    image.load()


@contextmanager
def _opened(data: bytes) -> Iterator[Image.Image]:
    """The file's header, read. Whatever goes wrong while it is open becomes an ImageError."""
    if not data:
        raise ImageError("empty file (0 bytes)")
    try:
        with Image.open(io.BytesIO(data), formats=_formats(data)) as image:
            yield image
    except UnidentifiedImageError as error:
        raise ImageError("not an image that can be read (JPEG, PNG, WebP, GIF, BMP, TIFF, AVIF, HEIC)") from error
    except Image.DecompressionBombError as error:
        raise ImageError("far too many pixels: a decompression bomb?") from error
    except ImageError:
        raise
    except MemoryError as error:
        raise ImageError("too large for this machine's memory") from error
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
    """Refuse what would take too much memory, before it is decoded."""
    width, height = image.size
    # A PNG that has not told of EXIF yet would be decoded whole to look for it.
    turned = ("exif" in image.info or image.format == "TIFF") and image.getexif().get(_ORIENTATION, 1) != 1
    as_it_is = image.mode == "RGB" and not turned
    limit = MAX_PIXELS if as_it_is else MAX_CONVERTED
    if width * height > limit:
        raise ImageError(f"{width}×{height} pixels, more than the {limit:,} of this kind that are decoded at once")


def upright_rgb(image: Image.Image) -> Image.Image:
    """Return a Pillow image as `decode` returns a file's: upright by its EXIF orientation, on white, in sRGB.

    Raises:
        ImageError: its pixels cannot be decoded: Pillow reads a file's no sooner than they are used.
    """
    try:
        image.load()
        return _to_rgb(_upright(image))
    except Exception as error:  # Decoders raise nearly anything (struct.error, KeyError, …) on damaged bytes.
        raise ImageError(f"damaged: {str(error) or type(error).__name__}") from error


def _upright(image: Image.Image) -> Image.Image:
    if image.getexif().get(_ORIENTATION, 1) == 1:
        return image
    return ImageOps.exif_transpose(image)


def _to_rgb(image: Image.Image) -> Image.Image:
    profile = image.info.get("icc_profile")
    if profile and image.mode in ("L", "CMYK") and (to_srgb := _transform_to_srgb(profile, image.mode)):
        return to_srgb.apply(image)
    plain = _without_profile(image)
    if profile and image.mode not in ("L", "CMYK") and (to_srgb := _transform_to_srgb(profile, "RGB")):
        return to_srgb.apply(plain)
    return plain


@lru_cache(maxsize=32)
def _transform_to_srgb(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """What turns pixels of ``mode`` under an ICC profile into sRGB; None for sRGB itself and for a broken profile.

    Photos whose profile is broken, or is for other pixels than theirs, are taken as they are: viewers do the same.
    """
    from PIL import ImageCms  # 40 ms: most photos have no profile, or that of sRGB

    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if "srgb" in ImageCms.getProfileDescription(source).lower():
            return None
        if source.profile.xcolor_space.strip() != {"L": "GRAY"}.get(mode, mode):
            return None
        return ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")
    except (ImageCms.PyCMSError, OSError, ValueError):
        return None


def _without_profile(image: Image.Image) -> Image.Image:
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith("I") or image.mode == "F":
        return _deep_grey_to_rgb(image)
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        background = Image.new("RGB", layer.size, ALPHA_BACKGROUND)
        background.paste(layer, mask=layer)
        return background
    return image.convert("RGB")


def _deep_grey_to_rgb(image: Image.Image) -> Image.Image:
    """16-bit integers and floats to 8 bits. Pillow's own conversion clips them at 255, which turns them white."""
    values = np.asarray(image)
    top = float(values.max(initial=0.0, where=np.isfinite(values)))
    scale = 255.0 if image.mode == "F" and top <= 1.0 else 255.0 / max(65535.0, top) if top > 255.0 else 1.0
    grey = np.empty(values.shape, np.uint8)
    for start in range(0, len(values), 256):  # in strips, as float32 takes four times the memory
        strip = np.nan_to_num(values[start : start + 256].astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)
        grey[start : start + 256] = np.clip(np.rint(strip * scale), 0, 255)
    return Image.fromarray(grey).convert("RGB")
