"""Build an export, or a part of it, in a process of its own.

A process has one Keras backend for its whole life, so the caller starts a process with the backend of the format.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from regraft.classifiers.classifier import Classifier
from regraft.exporting.formats.base import Facts, registry
from regraft.exporting.keras_network import KerasExporter, whole_network, write_tail
from regraft.foundation.keras_import import import_keras


def write_export(name: str, run: str, path: str, quantize: str, folder: str) -> None:
    """Write the export of a run in a format that TensorFlow writes.

    Args:
        name: the name of the format.
        run: the run folder.
        path: the file or folder to write.
        quantize: the quantisation; empty for none.
        folder: a folder with ``photos.npy``, the calibration photos in uint8 (N, S, S, 3), and ``facts.json``.

    Raises:
        TypeError: the format is not a `KerasExporter`.
    """
    exporter = registry.load(name)()
    if not isinstance(exporter, KerasExporter):
        raise TypeError(f"the format {name} is not written by Keras")
    photos = np.load(Path(folder) / "photos.npy", mmap_mode="r")
    facts = Facts.from_json((Path(folder) / "facts.json").read_text(encoding="utf-8"), Path(path))
    network = whole_network(Classifier.load(run), quantize == "int8-weights")
    exporter.build(network, facts, Path(path), quantize, photos)


def write_head_graph(run: str, path: str) -> None:
    """Write the head and the calibration of a run as an OpenVINO graph (.xml) at ``path``."""
    import_keras()  # before another module imports Keras, so that the OpenVINO backend is used
    write_tail(Classifier.load(run), Path(path))
