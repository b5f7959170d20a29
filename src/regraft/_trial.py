"""Ask an export about photos, in a process in which nothing else runs."""

from __future__ import annotations

from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
from PIL import Image

from regraft._files import peak_memory
from regraft.errors import ImageError
from regraft.exporters import Artifact, load_artifact
from regraft.images import Part, Pixels, Transform, decode, read
from regraft.sources import Entry

PLAIN = 400
"""Photos that are scaled as most apps do it: they must be decoded whole."""

_TIMED = 30


def try_out(artifact: str, photos: list[Any], strangers: list[Any], out: str) -> None:
    """Write to ``out`` (.npz) what an export answers.

    These are the answers to all photos and then to all strangers, those to photos that were scaled as most apps do it,
    the milliseconds that a photo takes, and this process's peak of memory.

    Args:
        artifact: the exported file or folder.
        photos: each as ``[path, [file, offset, length]]``, with None in place of the list for a file of its own.
        strangers: pictures of none of the classes, likewise.
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
        ms=median(_milliseconds(predictor, photo) for _ in range(_TIMED)),
        MiB=peak_memory(),
    )


def _entry(path: str, part: list[Any] | None) -> Entry:
    return Entry(Path(path), "", part=Part(Path(part[0]), *part[1:]) if part else None)


def _milliseconds(artifact: Artifact, photo: Pixels) -> float:
    start = perf_counter()
    artifact.run(photo)
    return (perf_counter() - start) * 1000


def _plainly(artifact: Artifact, photos: list[Entry]) -> Any:
    """Probabilities of some photos, scaled without antialiasing; NaN for all others."""
    result = np.full((len(photos), len(artifact.classes)), np.nan, np.float32)
    for i in range(0, len(photos), -(-len(photos) // PLAIN)):
        try:
            pixels = plain_pixels(decode(read(photos[i].path, photos[i].part)), artifact.facts.transform)
        except ImageError:
            continue
        result[i] = artifact.ask(pixels[np.newaxis])[0][0]
    return result


def plain_pixels(image: Image.Image, transform: Transform) -> Pixels:
    """The same crop, scaled as most apps do it: each pixel from the four nearest, without antialiasing."""
    size = (transform.size, transform.size)
    box = transform.box(*image.size)
    return np.asarray(image.transform(size, Image.Transform.EXTENT, box, Image.Resampling.BILINEAR))
