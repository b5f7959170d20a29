"""Photos of none of a run's classes, the same each time: an export must refuse what its run refuses.

Val alone cannot show that: hardly any of its photos is answered with none of these, so that an export whose novelty
ends below the threshold looks flawless on it.
"""

from __future__ import annotations

from collections.abc import Container
from itertools import product
from pathlib import Path

import numpy as np
from PIL import Image

from regraft._files import digest_bytes
from regraft.errors import DataError, ImageError
from regraft.images import read
from regraft.sources import Entry
from regraft.sources.demo import Demo

_SIDE = 256  # pixels
_NOISES = 24
_GRAINS = 6
"""Noise comes in grains of 1, 2, 4, … pixels: fine noise is flat to a backbone, coarse noise has edges."""
_LEVELS = (0, 128, 255)
"""Of each channel of a flat colour: 27 colours in all."""
_CELLS = 64


def draw_strangers(folder: Path, known: Container[str]) -> list[Entry]:
    """Draw seeded noise and flat colours as PNG files into ``folder``; after them come the demo's cells, if installed.

    Args:
        folder: an empty folder.
        known: SHA-256 digests of the run's own photos, which are no strangers to it.

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
    """Some of the demo's photos of solar cells; none where the package that ships them is not installed."""
    try:
        entries = Demo().list("demo:elpv").entries
        chosen = [Entry(entry.path, "") for entry in entries[:: -(-len(entries) // _CELLS)]]
        return [entry for entry in chosen if digest_bytes(read(entry.path)) not in known]
    except (DataError, ImageError, OSError):
        return []
