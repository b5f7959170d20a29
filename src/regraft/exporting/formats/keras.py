"""Keras' own ``.keras`` file, with built-in layers and operations only, so that it can be loaded without regraft."""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regraft.engines.keras_backend import trainable_keras
from regraft.errors import ExportError
from regraft.exporting.facts import LONGEST
from regraft.exporting.formats.base import Artifact, Facts, text_in_archive
from regraft.exporting.keras_network import KerasExporter
from regraft.foundation import console
from regraft.photos.images import Pixels

_FACTS = "regraft.json"
_MAX_UNPACKED_RATIO = 8
"""The largest size of an unpacked file, as a multiple of its size: weights hardly compress, so more is an attack."""


class KerasFile(KerasExporter):
    """The exporter of ``--format keras``."""

    name = "keras"
    artifact = "model.keras"
    writes: tuple[str, ...] = ("tensorflow",)
    reads: tuple[str, ...] = ("keras",)
    extra = "tensorflow"
    runtime = "Keras on TensorFlow"
    example = """
def load(folder):
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow logs also when it first computes
    import zipfile

    import keras

    model = keras.saving.load_model(folder / "model.keras", compile=False)

    def run(photo):
        found = {key: np.asarray(value)[0] for key, value in model(photo[np.newaxis], training=False).items()}
        return found["probabilities"], found.get("novelty")

    with zipfile.ZipFile(folder / "model.keras") as archive:
        return json.loads(archive.read("regraft.json")), run
"""

    def build(self, network: Any, facts: Facts, path: Path, quantize: str, photos: Pixels) -> None:
        """Write the network, and add the facts to the zip archive as a file that Keras ignores."""
        network.save(path)
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr(_FACTS, facts.to_json())

    def load(self, path: Path) -> Artifact:
        """Load a ``.keras`` file in Keras' safe mode, which runs no code from the file.

        Raises:
            ExportError: regraft did not write the file, or it is damaged.
        """
        facts = Facts.from_json(text_in_archive(path, _FACTS), path)
        with zipfile.ZipFile(path) as archive:
            if (
                sum(entry.file_size for entry in archive.infolist())
                > _MAX_UNPACKED_RATIO * path.stat().st_size + LONGEST
            ):
                raise ExportError(f"{path} unpacks to far more than its own size; export it again")
        keras = sys.modules.get("keras") or trainable_keras("auto")  # a loaded Keras keeps its backend
        with console.silenced():
            model = keras.saving.load_model(path, compile=False)
        if not isinstance(model.output, dict) or model.output["probabilities"].shape[-1] != len(facts.classes):
            raise ExportError(f"{path} does not give {len(facts.classes)} probabilities; export it again")

        def run(photos: Pixels) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
            found = {key: np.asarray(value) for key, value in model.predict_on_batch(photos).items()}
            return found["probabilities"], found.get("novelty")

        return Artifact(facts, run)
