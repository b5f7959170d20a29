"""Keras' own ``.keras`` file, of built-in layers and operations only: whoever loads it needs no regraft."""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regraft import _console
from regraft.errors import ExportError
from regraft.exporters import Artifact, Facts, text_in_archive
from regraft.exporters._facts import LONGEST
from regraft.exporters._keras import KerasExporter
from regraft.images import Pixels
from regraft.keras_backend import trainable_keras

_FACTS = "regraft.json"
_SWELLS = 8
"""How many times its own size a file may take unpacked: weights hardly shrink."""


class KerasFile(KerasExporter):
    """``--format keras``."""

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
        """The facts lie beside what Keras puts into the archive; Keras passes over them."""
        network.save(path)
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr(_FACTS, facts.to_json())

    def load(self, path: Path) -> Artifact:
        """In Keras' safe mode, in which no code of the file's own runs."""
        facts = Facts.from_json(text_in_archive(path, _FACTS), path)
        with zipfile.ZipFile(path) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > _SWELLS * path.stat().st_size + LONGEST:
                raise ExportError(f"{path} swells to far more than its own size: is it an export?")
        keras = sys.modules.get("keras") or trainable_keras("auto")  # who has Keras running chose its backend
        with _console.silenced():
            model = keras.saving.load_model(path, compile=False)
        if not isinstance(model.output, dict) or model.output["probabilities"].shape[-1] != len(facts.classes):
            raise ExportError(f"{path} does not give {len(facts.classes)} probabilities; export it again")

        def run(photos: Pixels) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
            found = {key: np.asarray(value) for key, value in model.predict_on_batch(photos).items()}
            return found["probabilities"], found.get("novelty")

        return Artifact(facts, run)
