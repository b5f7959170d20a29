"""A measurement of the speed and the memory of one backbone on this machine.

The measurement runs in a process of its own, so that the peak memory of the process is that of the backbone alone. The
speed does not depend on the values of the weights, so networks that would need a download are measured with random
weights.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from time import perf_counter
from typing import Any

import numpy as np

from regraft.backbones.base import load_backbone
from regraft.engines.openvino import OpenVinoEngine
from regraft.foundation.files import peak_memory

_MEASURE_SECONDS = 2.0


def measure(spec: str) -> dict[str, Any]:
    """Measure a backbone with all workers of its engine.

    Args:
        spec: the name of the backbone.

    Returns:
        ``photos_per_s``, the photos per second of the network without decoding; ``MiB``, the peak memory of the
        process; and ``features``, the number of features.
    """
    backbone = load_backbone(spec, weights="none" if spec.startswith("keras:") else "")
    engine = OpenVinoEngine(backbone)
    size = backbone.transform.size
    photo = np.random.default_rng(0).integers(0, 256, (size, size, 3), dtype=np.uint8)
    engine.run(photo)  # the first photo builds and compiles the network, so it is not timed
    start = perf_counter()

    def compute_repeatedly(_: int) -> int:
        done = 0
        while perf_counter() - start < _MEASURE_SECONDS:
            engine.run(photo)
            done += 1
        return done

    with ThreadPoolExecutor(engine.workers) as pool:
        done = sum(pool.map(compute_repeatedly, range(engine.workers)))
    seconds = perf_counter() - start
    return {"photos_per_s": round(done / seconds, 1), "MiB": peak_memory(), "features": backbone.num_features}
