"""Many small photos with features that are drawn, for benchmarks of what grows with their number."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = 20
WRONG = 0.05  # the share of photos whose label is another one's


def synthetic_photos(folder: Path, cache: Path, numbers: range) -> None:
    """Write small JPEG files, and put features of Lite0 at 288 pixels for them into the cache.

    Args:
        folder: the photos, in 20 classes with folders of a hundred photos.
        cache: the cache folder of the benchmark.
        numbers: the numbers of the photos; other numbers give other photos.
    """
    os.environ["REGRAFT_CACHE"] = str(cache)
    from regraft import Dataset, load_backbone
    from regraft.config.features import FeatureConfig
    from regraft.engines.base import load_engine
    from regraft.features.feature_cache import PART_ROWS, FeatureCache
    from regraft.features.parts import LOOK

    dice = np.random.default_rng(numbers.start)
    for i in numbers:
        place = folder / f"class {i % CLASSES:02}" / f"{i // (100 * CLASSES):03}"
        place.mkdir(parents=True, exist_ok=True)
        pixels = dice.integers(0, 255, (4, 4, 3), np.uint8)
        Image.fromarray(pixels).resize((48, 48), Image.Resampling.BICUBIC).save(place / f"{i:07}.jpg", quality=80)
    engine = load_engine(load_backbone("efficientnet_lite0", 288), FeatureConfig())
    store = FeatureCache(engine.fingerprint, engine.backbone.num_features, engine.backbone.name)
    records = [r for r in Dataset.open(folder).records if int(r.path.stem) in numbers]
    width = engine.backbone.num_features
    centres = np.abs(np.random.default_rng(0).normal(size=(CLASSES, width))).astype(np.float32)
    for start in range(0, len(records), PART_ROWS):
        part = records[start : start + PART_ROWS]
        right = [int(r.label[-2:]) if dice.random() > WRONG else int(dice.integers(CLASSES)) for r in part]
        x = np.abs(centres[right] * 0.3 + dice.normal(size=(len(part), width)).astype(np.float32))
        looks = np.zeros(len(part), LOOK)
        looks["thumbnail"] = dice.integers(0, 255, (len(part), 16, 16))
        looks["width"] = looks["height"] = 48
        store.write_part([r.digest for r in part], list(zip(x, looks, strict=True)))
