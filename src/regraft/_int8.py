"""Quantise a graph, in a process of its own, since NNCF is slow to import."""

from __future__ import annotations

import numpy as np


def quantise(graph: str, photos: str, out: str) -> None:
    """Write ``graph`` (.xml) in int8 to ``out``, calibrated on ``photos`` (.npy, uint8 (N, size, size, 3))."""
    import nncf
    import openvino

    rows = np.load(photos, mmap_mode="r")
    model = openvino.Core().read_model(graph)
    data = nncf.Dataset([np.ascontiguousarray(row[np.newaxis]) for row in rows])
    # Asymmetric where values have a sign: projections of mobile networks have no activation after them.
    done = nncf.quantize(model, data, subset_size=len(rows), preset=nncf.QuantizationPreset.MIXED)
    openvino.save_model(done, out, compress_to_fp16=False)
