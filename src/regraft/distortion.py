"""Photos → the features of distorted ones: a few views of each, cached like any other photo's.

In: records and how to distort. Out: records that stand for views, which `extract` takes.
Why: `retrain.py` ran the network anew for every photo of every step once anything was distorted.
Surprise: a view is drawn from the photo's digest and its number, so that the next run finds it in the cache.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from PIL import Image

from regraft._files import digest_json
from regraft.dataset import ImageRecord
from regraft.images import THUMBNAIL, Look, Transform, decode

VIEWS = 4
"""Views of each photo; each takes as long to compute as the photo itself."""

_VERSION = 1  # raise it when the pixels of the same view change


@dataclass(frozen=True, slots=True)
class Distortion:
    """How photos vary, each by chance.

    Attributes:
        flip: whether half of the views are mirrored.
        crop: how much of a margin may be cut off, in % of the side.
        scale: how much larger the photo may get, in %.
        brightness: how much lighter or darker, in %.
    """

    flip: bool = False
    crop: float = 0.0
    scale: float = 0.0
    brightness: float = 0.0

    @property
    def any(self) -> bool:
        """Whether it does anything."""
        return self != Distortion()

    def apply(self, image: Image.Image, transform: Transform, seed: int) -> Image.Image:
        """A view of an RGB photo, ``transform.size`` pixels a side."""
        dice = np.random.default_rng(seed)
        left, top, right, bottom = transform.box(*image.size)
        zoom = (1 + self.crop / 100) * dice.uniform(1, 1 + self.scale / 100)
        width, height = (right - left) / zoom, (bottom - top) / zoom
        left += dice.uniform(0, right - left - width)
        top += dice.uniform(0, bottom - top - height)
        size = (transform.size, transform.size)
        view = image.resize(size, Image.Resampling.BILINEAR, box=(left, top, left + width, top + height))
        if self.flip and dice.random() < 0.5:
            view = view.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        if self.brightness:
            factor = dice.uniform(1 - self.brightness / 100, 1 + self.brightness / 100)
            view = view.point(lambda value: min(255, round(value * factor)))
        return view


@dataclass(frozen=True, slots=True)
class View(ImageRecord):
    """One view of a photo. Its digest is its own; ``photo`` has the photo's."""

    photo: ImageRecord | None = None
    distortion: Distortion = Distortion()
    number: int = 0

    def look(self, transform: Transform) -> Look:
        """The view's pixels; the size is the photo's. Raises ImageError."""
        assert self.photo is not None  # noqa: S101
        image = decode(self.photo.read_unchanged())
        view = self.distortion.apply(image, transform, int(self.digest[:15], 16))
        thumbnail = view.convert("L").resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX)
        return Look(np.asarray(view), np.asarray(thumbnail), *image.size)


def views_of(records: Sequence[ImageRecord], distortion: Distortion) -> list[View]:
    """`VIEWS` of each record, those of one photo side by side."""
    return [
        View(
            record.path,
            record.label,
            digest_json([record.digest, asdict(distortion), number, _VERSION]),
            photo=record,
            distortion=distortion,
            number=number,
        )
        for record in records
        for number in range(VIEWS)
    ]
