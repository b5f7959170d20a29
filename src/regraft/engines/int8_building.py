"""The quantisation of a graph by NNCF. It runs in a process of its own, because NNCF is slow to import."""

from __future__ import annotations

import numpy as np


def quantise(graph: str, photos: str, out: str) -> None:
    """Quantise a graph to int8 and write it to a file.

    Args:
        graph: the path of the graph (.xml).
        photos: the path of the calibration photos (.npy, uint8 (N, size, size, 3)).
        out: the path of the int8 graph (.xml).
    """
    import nncf
    import openvino

    rows = np.load(photos, mmap_mode="r")
    model = openvino.Core().read_model(graph)
    data = nncf.Dataset([np.ascontiguousarray(row[np.newaxis]) for row in rows])
    # MIXED quantises activations asymmetrically where they have a sign: the projections of mobile networks have no
    # activation function after them.
    done = nncf.quantize(model, data, subset_size=len(rows), preset=nncf.QuantizationPreset.MIXED)
    openvino.save_model(done, out, compress_to_fp16=False)
