"""Photos whose bytes lie in the driver's cache, sent along to the node that computes them.

In: photos. Out: the same photos, such that a node can read them without the cache of the driver.
Why: photos of archives, Parquet files and object stores are copies in the cache, which no other machine sees.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from regraft.errors import ImageError
from regraft.foundation.files import cache_folder
from regraft.photos.dataset import ImageRecord
from regraft.photos.images import Part, read_whole
from regraft.photos.sources.base import Entry
from regraft.photos.unlabelled import Found


@dataclass(frozen=True, slots=True)
class Carried:
    """A photo with its bytes."""

    photo: ImageRecord | Entry
    data: bytes


def carried(photos: Sequence[Found]) -> list[Found | Carried]:
    """Return photos for a node, those in the cache of this machine with their bytes."""
    cache = cache_folder().absolute()
    return [_carried(photo, cache) for photo in photos]


def _carried(photo: Found, cache: Path) -> Found | Carried:
    if not isinstance(photo, ImageRecord | Entry):
        return photo
    file = photo.part.file if photo.part else photo.path
    if not file.absolute().is_relative_to(cache):
        return photo
    try:
        return Carried(photo, read_whole(photo.path, photo.part))
    except ImageError:  # the node cannot read it either, and says so
        return photo


@contextmanager
def landed(photos: Sequence[Any]) -> Iterator[list[Any]]:
    """Yield photos that can be read on this machine: bytes that were sent along lie in a temporary file meanwhile."""
    with TemporaryDirectory(prefix="regraft-") as folder:
        place, offset = Path(folder, "photos"), 0
        result: list[Any] = []
        with place.open("wb") as file:
            for photo in photos:
                if isinstance(photo, Carried):
                    file.write(photo.data)
                    box = photo.photo.part.box if photo.photo.part else None
                    result.append(replace(photo.photo, part=Part(place, offset, len(photo.data), box)))
                    offset += len(photo.data)
                else:
                    result.append(photo)
        yield result
