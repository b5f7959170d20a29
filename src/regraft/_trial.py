"""Ask an export about photos, in a process in which nothing else runs: ``python -m regraft._trial JOB OUT``.

JOB is a JSON file: the artifact, and two lists of photos, ``photos`` and ``strangers``, each photo as
[path, [file, offset, length] or null]. OUT (.npz) gets the answers to all of them in that order, those to ``photos``
that were scaled as most apps do it, milliseconds a photo, and the process's peak of memory.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
from PIL import Image

from regraft._files import peak_memory
from regraft.errors import ImageError
from regraft.exporters import Artifact, load_predictor
from regraft.images import Part, Pixels, Transform, decode, read
from regraft.sources import Entry

PLAIN = 400
"""Photos that are scaled as most apps do it: they must be decoded whole."""

_TIMED = 30


def try_out(job: dict[str, Any], out: Path) -> None:
    """Write ``out``."""
    artifact = load_predictor(job["artifact"])
    if not isinstance(artifact, Artifact):
        raise TypeError(f"{job['artifact']} is no export")
    photos, strangers = ([_entry(*place) for place in job[kind]] for kind in ("photos", "strangers"))
    answers = artifact.answers([*photos, *strangers], on_problem=lambda _: None)
    size = artifact.facts.transform.size
    photo = np.random.default_rng(0).integers(0, 256, (1, size, size, 3), dtype=np.uint8)
    np.savez(
        out,
        classes=np.array(artifact.classes),
        probabilities=answers.probabilities,
        novelty=answers.novelty,
        plain=_plainly(artifact, photos),
        ms=median(_milliseconds(artifact, photo) for _ in range(_TIMED)),
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


if __name__ == "__main__":
    try_out(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")), Path(sys.argv[2]))
