"""Ask an export about photos, and measure its time and memory; runs in a process of its own."""

from __future__ import annotations

from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
from PIL import Image

from regraft.errors import ImageError
from regraft.exporting.formats.base import Artifact, load_artifact
from regraft.foundation.files import peak_memory
from regraft.photos.boxes import Box
from regraft.photos.images import Part, Pixels, Transform, decode, read
from regraft.photos.sources.base import Entry

PLAIN = 400
"""The most photos that are scaled without antialiasing: they are slow, as each must be decoded at its full size."""

_TIMED_ANSWERS = 30


def try_out(artifact: str, photos: list[Any], strangers: list[Any], out: str) -> None:
    """Write the answers of an export to ``out`` (.npz).

    ``probabilities`` and ``novelty`` are for all photos and then all strangers; ``plain`` has the probabilities of
    photos that were scaled without antialiasing; ``ms`` is the median time of a photo in milliseconds, and ``MiB`` the
    peak memory of this process.

    Args:
        artifact: the exported file or folder.
        photos: photos as ``[path, [file, offset, length]]``; None in place of the list where ``path`` is the photo.
        strangers: photos of none of the classes, in the same form.
        out: the file to write.
    """
    predictor = load_artifact(Path(artifact))
    entries, unknown = ([_entry(*place) for place in kind] for kind in (photos, strangers))
    answers = predictor.answers([*entries, *unknown], on_problem=lambda _: None)
    size = predictor.facts.transform.size
    photo = np.random.default_rng(0).integers(0, 256, (1, size, size, 3), dtype=np.uint8)
    np.savez(
        out,
        classes=np.array(predictor.classes),
        probabilities=answers.probabilities,
        novelty=answers.novelty,
        plain=_plainly(predictor, entries),
        ms=median(_milliseconds(predictor, photo) for _ in range(_TIMED_ANSWERS)),
        MiB=peak_memory(),
    )


def _entry(path: str, part: list[Any] | None) -> Entry:
    return Entry(Path(path), "", part=Part(Path(part[0]), part[1], part[2], Box.parse(part[3])) if part else None)


def _milliseconds(artifact: Artifact, photo: Pixels) -> float:
    """Return the time of one answer in milliseconds."""
    start = perf_counter()
    artifact.run(photo)
    return (perf_counter() - start) * 1000


def _plainly(artifact: Artifact, photos: list[Entry]) -> Any:
    """Return the probabilities (N, C) of at most `PLAIN` photos scaled without antialiasing; NaN for the others."""
    result = np.full((len(photos), len(artifact.classes)), np.nan, np.float32)
    for i in range(0, len(photos), -(-len(photos) // PLAIN)):
        try:
            pixels = plain_pixels(decode(read(photos[i].path, photos[i].part)), artifact.facts.transform)
        except ImageError:
            continue
        result[i] = artifact.ask(pixels[np.newaxis])[0][0]
    return result


def plain_pixels(image: Image.Image, transform: Transform) -> Pixels:
    """Crop and scale an image without antialiasing, as most apps do: each pixel from its four nearest.

    Args:
        image: the decoded photo.
        transform: the crop and the size S.

    Returns:
        The pixels in uint8 (S, S, 3).
    """
    size = (transform.size, transform.size)
    box = transform.box(*image.size)
    return np.asarray(image.transform(size, Image.Transform.EXTENT, box, Image.Resampling.BILINEAR))
