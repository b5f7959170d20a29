"""ONNX, standalone: runs in ONNX Runtime, on servers and in browsers, with nothing else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from regraft._files import atomic_file, thread_limit
from regraft.backbones._graphs import graph_path
from regraft.classifier import Classifier
from regraft.errors import ExportError
from regraft.exporters import Artifact, Facts
from regraft.exporters._to_onnx import to_onnx
from regraft.exporters.openvino import whole_graph
from regraft.images import Pixels


class Onnx:
    """``--format onnx``: opset 20."""

    artifact = "model.onnx"
    writes: tuple[str, ...] = ("onnx",)
    reads: tuple[str, ...] = ("onnxruntime",)
    extra = "onnx"
    runtime = "ONNX Runtime"
    quantizations: tuple[str, ...] = ()
    example = """
def load(folder):
    import onnxruntime

    onnxruntime.set_default_logger_severity(3)  # errors
    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])

    def run(photo):
        found = session.run(None, {"image": photo[np.newaxis]})
        return found[0][0], found[1][0] if len(found) > 1 else None

    return json.loads(session.get_modelmeta().custom_metadata_map["regraft"]), run
"""

    def write(self, classifier: Classifier, path: Path, quantize: str, photos: Pixels) -> None:
        """Translate the graph that OpenVINO runs; TensorFlow has no part in it."""
        facts = Facts.of(classifier)
        metadata = {"regraft": facts.to_json(), "labels": "\n".join(facts.classes)}
        model = to_onnx(whole_graph(classifier, graph_path(classifier.backbone)), metadata)
        with atomic_file(path) as temporary:
            temporary.write_bytes(model.SerializeToString(deterministic=True))

    def load(self, path: Path) -> Artifact:
        """With ONNX Runtime on the CPU."""
        import onnxruntime

        onnxruntime.set_default_logger_severity(3)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = thread_limit() or 0  # 0 is its own choice
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        told = session.get_modelmeta().custom_metadata_map
        facts = Facts.from_json(told.get("regraft"), path)
        facts.require_labels(told.get("labels"), path)
        shape = session.get_outputs()[0].shape
        if shape[1:] != [len(facts.classes)]:
            raise ExportError(f"{path} gives {shape}, and names {len(facts.classes)} classes; export it again")

        def run(photos: Pixels) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
            found = session.run(None, {"image": photos})
            return found[0], found[1] if len(found) > 1 else None

        return Artifact(facts, run)
