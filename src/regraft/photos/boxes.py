"""An area of a photo, such as an animal in a photo of a camera trap, as a photo of its own."""

from __future__ import annotations

import io
import math
import re
from dataclasses import dataclass

from PIL import Image

from regraft.errors import ImageError

_TEXT = re.compile(r"box=((?:[0-9.]{1,8},){3}[0-9.]{1,8})(?:@([0-9.]{1,8}))?")
_DIGITS = 5  # digits after the point: a fifth of a pixel in a photo of 20,000 pixels
_TOLERANCE = 0.03  # by which the shape of a photo may differ: sizes of resized photos are rounded


@dataclass(frozen=True, slots=True)
class Box:
    """An area of an upright photo, in fractions of its width and height.

    Attributes:
        left, top: the corner of the area, each in [0, 1).
        width, height: the size of the area, each in (0, 1].
        shape: the width of the whole photo divided by its height, as the labels give it; 0 if they do not.
    """

    left: float
    top: float
    width: float
    height: float
    shape: float = 0.0

    @classmethod
    def of(cls, left: float, top: float, width: float, height: float, shape: float = 0.0) -> Box | None:
        """Return the box without what lies outside of the photo, rounded to 5 digits; None if nothing is left."""
        right, bottom = min(left + width, 1.0), min(top + height, 1.0)
        left, top = round(max(left, 0.0), _DIGITS), round(max(top, 0.0), _DIGITS)
        width, height = round(right - left, _DIGITS), round(bottom - top, _DIGITS)
        return cls(left, top, width, height, round(shape, 3)) if width > 0 and height > 0 and shape >= 0 else None

    @classmethod
    def parse(cls, text: str) -> Box | None:
        """Return the box that ``str`` wrote; None for any other text."""
        match = _TEXT.fullmatch(text)
        try:
            left, top, width, height = map(float, match[1].split(",") if match else ())
            return cls.of(left, top, width, height, float((match and match[2]) or 0))
        except ValueError:  # another text, or two points in a number
            return None

    def __str__(self) -> str:
        sides = (
            f"{side:.{_DIGITS}f}".rstrip("0").rstrip(".") for side in (self.left, self.top, self.width, self.height)
        )
        return f"box={','.join(sides)}" + (f"@{self.shape:g}" if self.shape else "")


def crop(image: Image.Image, box: Box) -> bytes:
    """Return the area of a box as a BMP file, which is written at once and loses nothing.

    Raises:
        ImageError: the photo has another shape than that for which the box was drawn.
    """
    width, height = image.size
    if box.shape and abs(width / height / box.shape - 1) > _TOLERANCE:
        raise ImageError(
            f"its width is {width / height:.2f} times its height, and in the file of its box {box.shape:.2f} times: "
            "turned or cropped since?"
        )
    left, top = math.floor(box.left * width), math.floor(box.top * height)
    right, bottom = math.ceil((box.left + box.width) * width), math.ceil((box.top + box.height) * height)
    file = io.BytesIO()
    image.crop((left, top, min(right, width), min(bottom, height))).save(file, "BMP")
    return file.getvalue()
