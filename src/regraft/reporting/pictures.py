"""The pictures of photos that a page holds: thumbnails, and one sprite of tiny tiles.

In: photos, the most important first, and a budget in bytes. Out: WebP images in memory.
Why: a page is one file, which must stay small enough for an e-mail.
Surprise: a thumbnail of a report shows the part of a photo that the network sees, so that an activation map fits on it.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import accumulate
from math import ceil, sqrt

from PIL import Image

from regraft.errors import ImageError
from regraft.foundation import console
from regraft.foundation.files import threads
from regraft.photos.dataset import ImageRecord
from regraft.photos.images import Transform, decode

THUMBNAIL = 144
"""The side of a thumbnail, in pixels."""

MOST_BYTES = 6000
"""The largest size of a thumbnail, in bytes."""

TILE = 24
"""The side of a tile of the sprite, in pixels."""

MOST_TILES = 5000
"""The largest number of tiles in the sprite."""

_QUALITIES = (64, 48, 32, 16, 4)  # of WebP; the first one with which a thumbnail is small enough is taken
_SPRITE_QUALITY = 40
_CHUNK = 64  # photos between two looks at the budget


@dataclass(frozen=True, slots=True)
class Pictures:
    """The pictures of photos, by the position of the photo.

    Attributes:
        thumbnails: WebP images of `THUMBNAIL` pixels a side and at most `MOST_BYTES` bytes.
        sprite: a WebP image of tiles, row by row; None without tiles.
        columns: the number of tiles in a row of the sprite.
        tiles: the number of a photo's tile.
    """

    thumbnails: dict[int, bytes]
    sprite: bytes | None
    columns: int
    tiles: dict[int, int]

    def within(self, budget: int) -> Pictures:
        """Return these pictures with only the first thumbnails, as many as take at most ``budget`` bytes together."""
        ends = accumulate(len(data) for data in self.thumbnails.values())
        kept = [index for index, end in zip(self.thumbnails, ends, strict=True) if end <= budget]
        return replace(self, thumbnails={index: self.thumbnails[index] for index in kept})


def pictures(records: Sequence[ImageRecord], transform: Transform, budget: int) -> Pictures:
    """Make thumbnails until the budget is used up, and a sprite with a tile of each of the first `MOST_TILES` photos.

    Args:
        records: the photos, the most important first. A photo that cannot be read any more has no picture.
        transform: the transform whose part of a photo is shown.
        budget: the largest size of all thumbnails together, in bytes.
    """
    thumbnails: dict[int, bytes] = {}
    tiles: list[tuple[int, Image.Image]] = []
    with ThreadPoolExecutor(threads()) as pool, console.progress("pictures", len(records)) as advance:
        for start in range(0, len(records), _CHUNK):
            room = budget - sum(map(len, thumbnails.values())) >= _CHUNK * MOST_BYTES
            if not room and start >= MOST_TILES:
                break
            chunk = range(start, min(start + _CHUNK, len(records)))
            make = partial(_pictures_of, transform=transform, with_thumbnail=room)
            for index, found in zip(chunk, pool.map(make, (records[i] for i in chunk)), strict=True):
                if found and found[0]:
                    thumbnails[index] = found[0]
                if found and index < MOST_TILES:
                    tiles.append((index, found[1]))
            advance(len(chunk))
    columns = ceil(sqrt(len(tiles)))
    sprite = _sprite((tile for _, tile in tiles), columns, ceil(len(tiles) / columns)) if tiles else None
    return Pictures(thumbnails, sprite, columns, {index: number for number, (index, _) in enumerate(tiles)})


def whole_thumbnails(records: Sequence[ImageRecord], budget: int) -> dict[int, bytes]:
    """Return thumbnails of whole photos by the position of the photo, until the budget is used up.

    Args:
        records: the photos, the most important first. A photo that cannot be read any more has no thumbnail.
        budget: the largest size of all thumbnails together, in bytes.

    Returns:
        WebP images with a longer side of at most `THUMBNAIL` pixels, of at most `MOST_BYTES` bytes each.
    """
    found: dict[int, bytes] = {}
    with ThreadPoolExecutor(threads()) as pool, console.progress("pictures", len(records)) as advance:
        for start in range(0, len(records), _CHUNK):
            if budget - sum(map(len, found.values())) < _CHUNK * MOST_BYTES:
                break
            chunk = records[start : start + _CHUNK]
            made = enumerate(pool.map(_whole_thumbnail, chunk), start)
            found.update({index: thumbnail for index, thumbnail in made if thumbnail})
            advance(len(chunk))
    return found


def _whole_thumbnail(record: ImageRecord) -> bytes | None:
    """Return the thumbnail of a whole photo; None if it cannot be read."""
    try:
        return whole_thumbnail(record.read())
    except ImageError:
        return None


def whole_thumbnail(data: bytes) -> bytes:
    """Return the thumbnail of the photo in ``data``: WebP, as `whole_thumbnails` makes it. Raises ImageError."""
    image = decode(data, THUMBNAIL)
    image.thumbnail((THUMBNAIL, THUMBNAIL), Image.Resampling.BILINEAR, reducing_gap=2.0)
    return _small_enough(image)


def _pictures_of(record: ImageRecord, transform: Transform, with_thumbnail: bool) -> tuple[bytes, Image.Image] | None:
    """Return the thumbnail (empty if it is not wanted) and the tile of a photo; None if it cannot be read."""
    side = THUMBNAIL if with_thumbnail else TILE
    try:
        image = decode(record.read(), round(side / (transform.crop or 1.0)))
    except ImageError:
        return None
    seen = image.resize((side, side), Image.Resampling.BILINEAR, box=transform.box(*image.size), reducing_gap=2.0)
    tile = seen.resize((TILE, TILE), Image.Resampling.BOX) if with_thumbnail else seen
    return (_small_enough(seen) if with_thumbnail else b""), tile


def _small_enough(image: Image.Image) -> bytes:
    """Return an image as WebP of at most `MOST_BYTES` bytes, in the best quality with which it is so small."""
    data = b""
    for quality in _QUALITIES:
        data = _webp(image, quality)
        if len(data) <= MOST_BYTES:
            break
    return data


def _sprite(tiles: Iterable[Image.Image], columns: int, rows: int) -> bytes:
    """Return one image with all tiles, row by row."""
    sheet = Image.new("RGB", (columns * TILE, rows * TILE), (127, 127, 127))
    for number, tile in enumerate(tiles):
        row, column = divmod(number, columns)
        sheet.paste(tile, (column * TILE, row * TILE))
    return _webp(sheet, _SPRITE_QUALITY)


def _webp(image: Image.Image, quality: int) -> bytes:
    file = io.BytesIO()
    image.save(file, "WEBP", quality=quality, method=2)
    return file.getvalue()
