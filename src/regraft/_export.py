"""Build what an export holds, in a process of its own.

A process has one Keras backend for its whole life. The caller starts this one with the backend that the format needs.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from regraft.classifier import Classifier
from regraft.exporters import Facts, registry
from regraft.exporters._keras import KerasExporter, whole_network, write_tail


def write_export(name: str, run: str, path: str, quantize: str, folder: str) -> None:
    """Write the export of a run in a format that TensorFlow writes.

    Args:
        name: the format.
        run: the run folder.
        path: where the artifact goes.
        quantize: the quantization; empty for none.
        folder: holds ``photos.npy``, uint8 (N, S, S, 3), for calibration, and ``facts.json``.
    """
    exporter = registry.load(name)()
    if not isinstance(exporter, KerasExporter):
        raise TypeError(f"the format {name} is not written by Keras")
    photos = np.load(Path(folder) / "photos.npy", mmap_mode="r")
    facts = Facts.from_json((Path(folder) / "facts.json").read_text(encoding="utf-8"), Path(path))
    network = whole_network(Classifier.load(run), quantize == "int8-weights")
    exporter.build(network, facts, Path(path), quantize, photos)


def write_head_graph(run: str, path: str) -> None:
    """Write all that comes after the backbone of a run as an OpenVINO graph (.xml) at ``path``."""
    write_tail(Classifier.load(run), Path(path))
