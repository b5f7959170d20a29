"""An image of any mode, with or without a colour profile, to RGB pixels in sRGB."""

from __future__ import annotations

import io
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from PIL import ImageCms

ALPHA_BACKGROUND = (255, 255, 255)
"""The colour behind transparent pixels: white, as in most viewers."""


def to_rgb(image: Image.Image) -> Image.Image:
    """Return an image of any mode as RGB in sRGB: transparency on white, 16 bits scaled to 8."""
    profile = image.info.get("icc_profile")
    if profile and image.mode in ("L", "CMYK") and (to_srgb := transform_to_srgb(profile, image.mode)):
        return to_srgb.apply(image)
    plain = _without_profile(image)
    if profile and image.mode not in ("L", "CMYK") and (to_srgb := transform_to_srgb(profile, "RGB")):
        return to_srgb.apply(plain)
    return plain


@lru_cache(maxsize=32)
def transform_to_srgb(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """Return the conversion from an ICC profile, for pixels of ``mode``, to sRGB.

    None for sRGB, and for a profile that is broken or of another mode, which viewers ignore too.
    """
    from PIL import ImageCms  # the import takes 40 ms, and most photos have no profile

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
    """Scale grey pixels of 16-bit integers or floats to 8 bits. Pillow's own conversion would clip them at 255."""
    values = np.asarray(image)
    top = float(values.max(initial=0.0, where=np.isfinite(values)))
    scale = 255.0 if image.mode == "F" and top <= 1.0 else 255.0 / max(65535.0, top) if top > 255.0 else 1.0
    grey = np.empty(values.shape, np.uint8)
    for start in range(0, len(values), 256):  # in strips, as float32 takes four times the memory
        strip = np.nan_to_num(values[start : start + 256].astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)
        grey[start : start + 256] = np.clip(np.rint(strip * scale), 0, 255)
    return Image.fromarray(grey).convert("RGB")
