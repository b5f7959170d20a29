"""How fast one backbone is on this machine, and what memory it takes.

This runs in a process of its own, so that its peak of memory is the backbone's alone. Weights play no part in speed, so
that networks whose weights would have to be downloaded are measured with random ones.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from time import perf_counter
from typing import Any

import numpy as np

from regraft._files import peak_memory
from regraft.backbones import load_backbone
from regraft.engine import Engine

_SECONDS = 2.0


def measure(spec: str) -> dict[str, Any]:
    """Photos per second of the network alone, and the process's peak of memory in MiB."""
    backbone = load_backbone(spec, weights="none" if spec.startswith("keras:") else "")
    engine = Engine(backbone)
    size = backbone.transform.size
    photo = np.random.default_rng(0).integers(0, 256, (size, size, 3), dtype=np.uint8)
    engine.run(photo)
    start = perf_counter()

    def keep_asking(_: int) -> int:
        done = 0
        while perf_counter() - start < _SECONDS:
            engine.run(photo)
            done += 1
        return done

    with ThreadPoolExecutor(engine.workers) as pool:
        done = sum(pool.map(keep_asking, range(engine.workers)))
    seconds = perf_counter() - start
    return {"photos_per_s": round(done / seconds, 1), "MiB": peak_memory(), "features": backbone.num_features}
