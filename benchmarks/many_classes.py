"""How well does the default head learn many classes? Accuracy and log loss on drawn features, beside other heads.

The features are clusters in 300 directions of different lengths, mixed into 1,704 positive numbers as those of
EfficientNet-Lite0; the clusters of all classes overlap. Each head is tested on 4,000 other rows.
"""

from __future__ import annotations

import argparse
from time import perf_counter
from typing import Any

import numpy as np
from _common import report

from regraft.features.features import Features
from regraft.heads.base import accuracy, cross_entropy, registry

WIDTHS = (40, 80, 112, 192, 1280)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sets", nargs="+", default=["5x400", "20x100", "100x50", "100x100", "300x30"])
    parser.add_argument("--heads", nargs="+", default=["logistic", "discriminant"])
    options = parser.parse_args()
    dice = np.random.default_rng(0)
    lengths = np.geomspace(1, 0.05, 300)[:, np.newaxis]
    mixing = (dice.normal(size=(sum(WIDTHS),) * 2)[:300] * lengths).astype(np.float32)

    def drawn(count: int, centres: Any) -> Features:
        y = dice.integers(0, len(centres), count)
        x = (centres[y] + dice.normal(size=(count, 300)).astype(np.float32)) @ mixing
        x = np.maximum(x * 0.15 + 0.3, 0).astype(np.float32)
        return Features(x, y, tuple(map(str, range(len(centres)))), ("",) * count, "drawn", (WIDTHS,))

    found: dict[str, Any] = {}
    for name in options.sets:
        classes, photos = map(int, name.split("x"))
        centres = dice.normal(size=(classes, 300)).astype(np.float32) * 0.5
        train = drawn(classes * photos, centres)
        val, test = drawn(min(2000, len(train) // 4), centres), drawn(4000, centres)
        for head in options.heads:
            start = perf_counter()
            fitted = registry.load(head)().fit(train, val)
            seconds, logits = perf_counter() - start, fitted.logits(test.x)
            found[f"{name} {head}"] = {
                "accuracy": round(accuracy(logits, test.y), 4),
                "log_loss": round(cross_entropy(logits, test.y), 4),
                "seconds": round(seconds, 2),
            }
    report(**found)


if __name__ == "__main__":
    main()
