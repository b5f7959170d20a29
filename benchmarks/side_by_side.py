"""Efforts, photo sizes and backbones side by side: pooled accuracy of five folds, each beside the effort balanced.

The seconds are those of all salts, with the features that are not in the cache yet. Differences are paired,
on the same photos and folds, over all salts; McNemar's p value is that of the first salt, since salts share the photos.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from _common import report
from numpy.typing import NDArray

from regraft.classifiers.paired_evaluation import pair
from regraft.config.training import TrainConfig
from regraft.photos.dataset import Dataset
from regraft.photos.sources.base import spec_of
from regraft.training.cross_validation import hold_out
from regraft.training.preparation import Clock, prepare

CONFIGS: dict[str, dict[str, Any]] = {
    "balanced": {},
    "quick": {"effort": "quick"},
    "thorough": {"effort": "thorough"},
    "416 px": {"resolution": 416},
    "224 and 416 px": {"resolution": "224+416"},
    "lite2 at 288 px": {"backbone": "efficientnet_lite2", "resolution": 288},
    "lite0 and lite2 at 288 px": {"backbone": "efficientnet_lite0+efficientnet_lite2", "resolution": 288},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photos", nargs="+")
    parser.add_argument("--salts", type=int, default=3)
    options = parser.parse_args()
    result: dict[str, Any] = {}
    for photos in options.photos:
        rows: dict[str, Any] = {}
        beside: list[NDArray[np.bool_]] = []
        for name, values in CONFIGS.items():
            start = perf_counter()
            right = [answers(photos, TrainConfig(folds=5, salt=str(salt), **values)) for salt in range(options.salts)]
            seconds = perf_counter() - start
            beside = beside or right
            change = pair(np.concatenate(beside), np.concatenate(right))
            rows[name] = {
                "accuracy": round(float(np.mean(right)), 4),
                "points": round(100 * change.difference, 2),
                "p of the first salt": round(pair(beside[0], right[0]).p, 4),
                "seconds": round(seconds, 1),
            }
        result[photos] = rows
    report(salts=options.salts, **result)


def answers(photos: str, config: TrainConfig) -> NDArray[np.bool_]:
    """Return for each photo, sorted by its digest, whether its out-of-fold answer is right (N,)."""
    dataset = Dataset.open(photos if ":" in photos else Path(spec_of(photos)).resolve())
    dataset = replace(dataset, records=tuple(replace(record, split=None) for record in dataset.records))
    found = hold_out(prepare(dataset, config, Clock(), photos), config)
    labels = np.array([dataset.classes.index(record.label) for record in found.dataset.records])
    order = np.argsort([record.digest for record in found.dataset.records], kind="stable")
    right: NDArray[np.bool_] = (found.held_out.answers.probabilities.argmax(axis=1) == labels)[order]
    return right


if __name__ == "__main__":
    main()
