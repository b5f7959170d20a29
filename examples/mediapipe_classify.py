"""Classify a photo with an export of `regraft export RUN --format litert`, by MediaPipe Tasks.

python examples/mediapipe_classify.py EXPORT photo.jpg …      Needs: mediapipe, pillow
"""

import json
import sys
import zipfile
from pathlib import Path
from typing import Any

import mediapipe
import numpy as np
from mediapipe.tasks.python import BaseOptions, vision
from numpy.typing import NDArray
from PIL import Image, ImageOps


def square(name: str, transform: dict[str, Any]) -> NDArray[np.uint8]:
    """What PREPROCESSING.md says: MediaPipe itself would squeeze the whole photo into a square."""
    with Image.open(name) as opened:
        image = ImageOps.exif_transpose(opened).convert("RGB")
    width, height = image.size
    box = (0, 0, width, height)
    if transform["crop"] is not None:
        side = min(width, height) * transform["crop"]
        left, top = (width - side) / 2, (height - side) / 2
        box = (left, top, left + side, top + side)
    return np.array(image.resize((transform["size"],) * 2, Image.Resampling.BILINEAR, box=box))


def main(export: str, *photos: str) -> None:
    model = Path(export) / "model.tflite"
    with zipfile.ZipFile(model) as archive:
        facts = json.loads(archive.read("regraft.json"))
    options = vision.ImageClassifierOptions(base_options=BaseOptions(model_asset_path=str(model)), max_results=1)
    with vision.ImageClassifier.create_from_options(options) as classifier:
        for name in photos:
            pixels = square(name, facts["transform"])
            found = classifier.classify(mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=pixels))
            heads = {head.head_name: head.categories[0] for head in found.classifications}
            best = heads["probabilities"]
            novel = "novelty" in heads and heads["novelty"].score > facts["threshold"]
            label = "none of these" if novel else best.category_name
            print(name, label, f"{best.score:.4f}", sep="\t")


if __name__ == "__main__":
    main(*sys.argv[1:])
