"""What the defaults were chosen by: photo size, crop or squash, and which stages make the features.

Mean test accuracy of the default head over ``--salts`` splits of 80/10/10, all on the same salts.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from dataclasses import dataclass, replace
from statistics import mean

import numpy as np
from _common import report

from regraft.backbones.base import load_backbone
from regraft.backbones.efficientnet_lite import EfficientNetLite
from regraft.engines.openvino import OpenVinoEngine
from regraft.features.features import Features, extract, labelled_features
from regraft.heads.base import accuracy
from regraft.heads.logistic import LogisticRegression
from regraft.photos.dataset import Dataset
from regraft.photos.images import Transform
from regraft.photos.splitting import split

HEAD = 1280  # the last columns of the features; those before are the inner stages'


@dataclass(frozen=True)
class Variant(EfficientNetLite):
    """Lite0 with another crop; its graph is the same, its photos are not."""

    crop: float | None = 1.0

    @property
    def transform(self) -> Transform:
        return replace(super().transform, crop=self.crop)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photos")
    parser.add_argument("--salts", type=int, default=20)
    options = parser.parse_args()
    dataset = Dataset.open(options.photos)
    table = {}
    with tempfile.TemporaryDirectory() as folder:
        os.environ["REGRAFT_CACHE"] = folder
        for size in (224, 256, 288, 352):
            for name, crop in (("crop", 1.0), ("centre 7/8", 0.875), ("squash", None)):
                if name != "crop" and size != 288:
                    continue
                backbone = Variant(load_backbone("efficientnet_lite0").name.partition(":")[2], size, crop=crop)
                engine = OpenVinoEngine(backbone)
                engine.run(np.zeros((size, size, 3), np.uint8))
                start = time.perf_counter()
                extraction = extract(dataset.records, engine)
                seconds = time.perf_counter() - start
                kept, features, _ = labelled_features(dataset, extraction, backbone)
                row = {"all stages": features, "head only": only(features, HEAD)}
                table[f"{size} px, {name}"] = {
                    **{k: round(100 * score(kept, v, options.salts), 2) for k, v in row.items()},
                    "seconds": round(seconds, 1),
                }
    report(mean_test_accuracy=table, salts=options.salts)


def only(features: Features, columns: int) -> Features:
    """The features' last ``columns``."""
    return replace(features, x=np.ascontiguousarray(features.x[:, -columns:]))


def score(dataset: Dataset, features: Features, salts: int) -> float:
    """Mean test accuracy."""
    found = []
    for salt in range(salts):
        sides = split(dataset, salt=f"choice {salt}")
        head = LogisticRegression().fit(features.select(sides.train), features.select(sides.val))
        test = features.select(sides.test)
        found.append(accuracy(head.logits(test.x), test.y))
    return mean(found)


if __name__ == "__main__":
    main()
