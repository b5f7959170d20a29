"""Strangers: photos of none of a run's classes, which an export must reject as its run does.

Val photos alone cannot test that: hardly any of them is answered with "none of these", so that an export whose novelty
never reaches the threshold would look correct on val.
"""

from __future__ import annotations

from collections.abc import Container
from itertools import product
from pathlib import Path

import numpy as np
from PIL import Image

from regraft.errors import DataError, ImageError
from regraft.foundation.files import digest_bytes
from regraft.photos.images import read
from regraft.photos.sources.base import Entry
from regraft.photos.sources.demo import Demo

_SIDE = 256  # pixels
_NOISES = 24
_GRAINS = 6
"""The number of sizes of the noise's grains: 1, 2, 4, … pixels. A backbone sees fine noise as flat, coarse as edges."""
_LEVELS = (0, 128, 255)
"""The values of each channel of a flat colour: 27 colours in all."""
_CELLS = 64  # the most photos of solar cells


def draw_strangers(folder: Path, known: Container[str]) -> list[Entry]:
    """Write noise (with a fixed seed) and flat colours as PNG files, and add solar cells where the demo is installed.

    Args:
        folder: an empty folder for the PNG files.
        known: the SHA-256 digests of the run's own photos; solar cells with these digests are left out.

    Returns:
        The photos, in the same order each time, without labels.
    """
    dice = np.random.default_rng(0)
    drawn = []
    for number in range(_NOISES):
        side = _SIDE >> number % _GRAINS
        noise = Image.fromarray(dice.integers(0, 256, (side, side, 3), dtype=np.uint8))
        drawn.append(noise.resize((_SIDE, _SIDE), Image.Resampling.BICUBIC))
    drawn += [Image.new("RGB", (_SIDE, _SIDE), colour) for colour in product(_LEVELS, repeat=3)]
    found = []
    for number, image in enumerate(drawn):
        path = folder / f"{number:03}.png"
        image.save(path)
        found.append(Entry(path, ""))
    return [*found, *_cells(known)]


def _cells(known: Container[str]) -> list[Entry]:
    """Return some photos of solar cells from the demo; none where the package that ships them is not installed."""
    try:
        entries = Demo().list("demo:elpv").entries
        chosen = [Entry(entry.path, "") for entry in entries[:: -(-len(entries) // _CELLS)]]
        return [entry for entry in chosen if digest_bytes(read(entry.path)) not in known]
    except (DataError, ImageError, OSError):
        return []
