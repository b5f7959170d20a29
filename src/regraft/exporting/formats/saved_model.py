"""TensorFlow's SavedModel in the form that TensorFlow Serving needs: a numbered folder with a signature and labels."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regraft.engines.tensorflow import quiet_tensorflow
from regraft.errors import ExportError
from regraft.exporting.formats.base import Artifact, Facts
from regraft.exporting.keras_network import KerasExporter, save_model
from regraft.foundation.files import write_text
from regraft.photos.images import Pixels

_FACTS = "regraft.json"


class SavedModel(KerasExporter):
    """The exporter of ``--format saved-model``."""

    name = "saved-model"
    artifact = "1"  # TensorFlow Serving serves the highest number in a folder
    folder_holds = "saved_model.pb"
    writes: tuple[str, ...] = ("tensorflow",)
    reads: tuple[str, ...] = ("tensorflow",)
    extra = "tensorflow"
    runtime = "TensorFlow"
    example = """
def load(folder):
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow logs also when it first computes
    import tensorflow

    model = tensorflow.saved_model.load(folder / "1")
    signature = model.signatures["serving_default"]

    def run(photo):
        found = {key: value.numpy()[0] for key, value in signature(image=photo[np.newaxis]).items()}
        return found["probabilities"], found.get("novelty")

    return json.loads((folder / "1" / "assets" / "regraft.json").read_text(encoding="utf-8")), run
"""

    def build(self, network: Any, facts: Facts, path: Path, quantize: str, photos: Pixels) -> None:
        """Write the network with the signature ``serving_default``, and ``labels.txt`` and the facts as assets."""
        texts = {"labels.txt": "".join(f"{label}\n" for label in facts.classes), _FACTS: facts.to_json()}
        with tempfile.TemporaryDirectory() as folder:
            for name, text in texts.items():
                write_text(Path(folder) / name, text)
            save_model(network, path, None, [Path(folder) / name for name in texts])

    def load(self, path: Path) -> Artifact:
        """Load a SavedModel that regraft wrote, to compute with TensorFlow.

        Raises:
            ExportError: regraft did not write the folder, or it is damaged.
        """
        told, labels = path / "assets" / _FACTS, path / "assets" / "labels.txt"
        facts = Facts.from_json(told.read_text(encoding="utf-8") if told.is_file() else None, path)
        facts.require_labels(labels.read_text(encoding="utf-8") if labels.is_file() else None, path)
        tensorflow = quiet_tensorflow()
        model = tensorflow.saved_model.load(str(path))
        signature = model.signatures["serving_default"]
        if not {"probabilities"} <= set(signature.structured_outputs):
            raise ExportError(f"{path} gives no probabilities; export it again")

        def run(photos: Pixels) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
            found = {key: value.numpy() for key, value in signature(image=tensorflow.constant(photos)).items()}
            return found["probabilities"], found.get("novelty")

        run.model = model  # type: ignore[attr-defined]  # keep the model: its variables are deleted with it
        return Artifact(facts, run)
