"""TensorFlow's SavedModel, as TensorFlow Serving wants it: a numbered folder with a signature and labels."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regraft._files import write_text
from regraft._tensorflow import quiet_tensorflow
from regraft.errors import ExportError
from regraft.exporters import Artifact, Facts
from regraft.exporters._keras import KerasExporter, save_model
from regraft.images import Pixels

_FACTS = "regraft.json"


class SavedModel(KerasExporter):
    """``--format saved-model``."""

    name = "saved-model"
    artifact = "1"  # TensorFlow Serving serves the highest number in a folder
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
        """With the signature ``serving_default`` and the assets ``labels.txt`` and ``regraft.json``."""
        texts = {"labels.txt": "".join(f"{label}\n" for label in facts.classes), _FACTS: facts.to_json()}
        with tempfile.TemporaryDirectory() as folder:
            for name, text in texts.items():
                write_text(Path(folder) / name, text)
            save_model(network, path, None, [Path(folder) / name for name in texts])

    def load(self, path: Path) -> Artifact:
        """With TensorFlow."""
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

        run.model = model  # type: ignore[attr-defined]  # its variables live only as long as it does
        return Artifact(facts, run)
