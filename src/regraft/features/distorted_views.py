"""Augmentation on frozen features: a few randomly distorted views of each photo, cached like any other photo.

In: records of photos, and a `Distortion`. Out: records of views, which `extract` takes.
Why: with distortions, `retrain.py` ran the network again for every photo of every step. Here a view is computed once.
Surprise: the random seed of a view comes from the digest of the photo and the number of the view, so that the next run
finds the same view in the cache.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from PIL import Image

from regraft.foundation.files import digest_json
from regraft.photos.dataset import ImageRecord
from regraft.photos.images import THUMBNAIL, Look, Transform, decode

VIEWS = 4
"""The number of views of each photo. A view takes as long to compute as the photo itself."""

_VERSION = 1  # part of the digest of a view: raise it when the pixels of the same view change


@dataclass(frozen=True, slots=True)
class Distortion:
    """The random distortions of a view.

    Attributes:
        flip: whether to mirror half of the views from left to right.
        crop: the margin by which the photo is enlarged before a square of the original size is cut out at a random
            place, in %.
        scale: the largest random enlargement of the photo, in %.
        brightness: the largest random change of the brightness, in %.
    """

    flip: bool = False
    crop: float = 0.0
    scale: float = 0.0
    brightness: float = 0.0

    @property
    def any(self) -> bool:
        """Whether any distortion is set."""
        return self != Distortion()

    def apply(self, image: Image.Image, transform: Transform, seed: int) -> Image.Image:
        """Return a view of an RGB photo, a square of ``transform.size`` pixels. The same seed gives the same view."""
        rng = np.random.default_rng(seed)
        left, top, right, bottom = transform.box(*image.size)
        zoom = (1 + self.crop / 100) * rng.uniform(1, 1 + self.scale / 100)
        width, height = (right - left) / zoom, (bottom - top) / zoom
        left += rng.uniform(0, right - left - width)
        top += rng.uniform(0, bottom - top - height)
        size = (transform.size, transform.size)
        view = image.resize(size, Image.Resampling.BILINEAR, box=(left, top, left + width, top + height))
        if self.flip and rng.random() < 0.5:
            view = view.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        if self.brightness:
            factor = rng.uniform(1 - self.brightness / 100, 1 + self.brightness / 100)
            view = view.point(lambda value: min(255, round(value * factor)))
        return view


@dataclass(frozen=True, slots=True)
class View(ImageRecord):
    """The record of one view of a photo. Its ``digest`` is that of the view, not of the photo.

    Attributes:
        photo: the record of the photo.
        distortion: the random distortions of the view.
        number: the number of the view, from 0 to `VIEWS` - 1.
    """

    photo: ImageRecord | None = None
    distortion: Distortion = Distortion()
    number: int = 0

    def look(self, transform: Transform) -> Look:
        """Return the pixels of the view, with the width and height of the original photo. Raises ImageError."""
        assert self.photo is not None  # noqa: S101
        image = decode(self.photo.read_unchanged())
        view = self.distortion.apply(image, transform, int(self.digest[:15], 16))
        thumbnail = view.convert("L").resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX)
        return Look(np.asarray(view), np.asarray(thumbnail), *image.size)


def views_of(records: Sequence[ImageRecord], distortion: Distortion) -> list[View]:
    """Return `VIEWS` views of each record. The views of one photo follow one another."""
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
