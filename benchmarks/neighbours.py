"""What does the search for copies cost on 100,000 photos? Synthetic features of 500 clusters, 1,000 planted copies."""

from __future__ import annotations

import argparse
import resource
import time

import numpy as np
from _common import report

from regraft.features.duplicates import duplicate_groups


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=int, default=100_000)
    parser.add_argument("--features", type=int, default=1704)
    options = parser.parse_args()
    dice, count = np.random.default_rng(0), options.photos
    centres = dice.standard_normal((500, options.features), np.float32)
    x = np.empty((count, options.features), np.float32)
    for start in range(0, count, 10_000):
        part = x[start : start + 10_000]
        noise = dice.standard_normal(part.shape, np.float32)
        part[:] = np.maximum(centres[dice.integers(0, 500, len(part))] + 0.7 * noise, 0)
    looks = dice.integers(0, 256, (count, 16, 16)).astype(np.uint8)
    planted = 1000
    x[-planted:] = x[:planted] + dice.normal(0, 0.1, (planted, options.features)).astype(np.float32)
    looks[-planted:] = looks[:planted, :, ::-1]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.perf_counter()
    groups = duplicate_groups([f"{i:064}" for i in range(count)], x, looks)
    seconds = time.perf_counter() - began
    found = sum(group == [group[0], group[0] + count - planted] for group in groups)
    report(
        rows=count,
        features=options.features,
        seconds=round(seconds, 1),
        peak_MiB=round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        features_MiB=round(x.nbytes / 2**20),
        peak_before_MiB=round(before / 1024),
        planted=planted,
        found=found,
        groups=len(groups),
    )


if __name__ == "__main__":
    main()
