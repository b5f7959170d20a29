"""The text of ``example.py`` beside an export: a program that classifies photos without regraft."""

from __future__ import annotations

from regraft.exporting.formats.base import Exporter

_BEGIN = '''"""Classify photos: python example.py photo.jpg …

Needs Python, NumPy, Pillow and {packages}; not regraft, which wrote this.
"""

import json
import os
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

'''

_END = '''

def pixels(name, transform):
    """Return the photo as PREPROCESSING.md says: upright, on white, cropped, antialiased; uint8 (S, S, 3)."""
    with Image.open(name) as opened:
        image = ImageOps.exif_transpose(opened)
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        image = Image.new("RGB", layer.size, "white")
        image.paste(layer, mask=layer)
    image = image.convert("RGB")
    width, height = image.size
    box = (0, 0, width, height)
    if transform["crop"] is not None:
        side = min(width, height) * transform["crop"]
        left, top = (width - side) / 2, (height - side) / 2
        box = (left, top, left + side, top + side)
    resample = Image.Resampling[transform["resample"].upper()]
    return np.asarray(image.resize((transform["size"],) * 2, resample, box=box))


@contextmanager
def quiet():
    """Hold back what a runtime logs to stderr while it loads; show it only where an error is raised."""
    before = os.dup(2)
    with tempfile.TemporaryFile() as log:
        os.dup2(log.fileno(), 2)
        try:
            yield
        except BaseException:
            log.seek(0)
            os.write(before, log.read())
            raise
        finally:
            os.dup2(before, 2)
            os.close(before)


def printable(text):
    """Return the text with control characters escaped, as one line that any terminal can show."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def main():
    with quiet():
        facts, run = load(Path(__file__).resolve().parent)
    for name in sys.argv[1:]:
        probabilities, novelty = run(pixels(name, facts["transform"]))
        best = int(np.argmax(probabilities))
        label = facts["classes"][best]
        if novelty is not None and facts["threshold"] is not None and novelty > facts["threshold"]:
            label = f"none of these (nearest: {label})"
        print(printable(name), printable(label), f"{probabilities[best]:.4f}", sep="\\t")


if __name__ == "__main__":
    main()
'''


def example(exporter: Exporter, name: str) -> str:
    """Return the text of the example program.

    Args:
        exporter: the exporter; its ``example`` is code that loads the artifact.
        name: the name of the format.
    """
    packages = {"litert": "ai-edge-litert", "onnx": "onnxruntime", "openvino": "openvino"}.get(name, "tensorflow")
    return _BEGIN.format(packages=packages) + exporter.example + _END
