"""ONNX: one file for ONNX Runtime, on servers and in browsers."""

from __future__ import annotations

import tempfile
import threading
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regraft.classifiers.classifier import Classifier
from regraft.errors import ExportError
from regraft.exporting.formats.base import Artifact, Facts
from regraft.exporting.formats.openvino import backbone_graph, whole_graph
from regraft.exporting.onnx_graph import to_onnx
from regraft.foundation.files import atomic_file, thread_limit
from regraft.photos.images import Pixels


class Onnx:
    """The exporter of ``--format onnx``, with operator set 20."""

    artifact = "model.onnx"
    folder_holds = ""
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
        """Translate the OpenVINO graph of backbone and head to ONNX; TensorFlow is not needed."""
        facts = Facts.of(classifier)
        metadata = {"regraft": facts.to_json(), "labels": "\n".join(facts.classes)}
        with tempfile.TemporaryDirectory() as folder:
            model = to_onnx(whole_graph(classifier, backbone_graph(classifier.backbone, Path(folder))), metadata)
        with atomic_file(path) as temporary:
            temporary.write_bytes(model.SerializeToString(deterministic=True))

    def load(self, path: Path) -> Artifact:
        """Load an ONNX file, to compute with ONNX Runtime on the CPU.

        Raises:
            ExportError: regraft did not write the file, or it is damaged.
        """
        sessions = _Sessions(path)
        metadata = sessions.alone.get_modelmeta().custom_metadata_map
        facts = Facts.from_json(metadata.get("regraft"), path)
        facts.require_labels(metadata.get("labels"), path)
        shape = sessions.alone.get_outputs()[0].shape
        if shape[1:] != [len(facts.classes)]:
            raise ExportError(f"{path} gives {shape}, and names {len(facts.classes)} classes; export it again")
        return Artifact(facts, sessions.run, is_concurrent=True)


class _Sessions:
    """ONNX Runtime with a file: on all cores for a call that is alone, on one core for calls that run at once.

    Several calls that share all cores wait for each other, which cost a tenth of the photos a second.

    Args:
        path: the ONNX file.

    Attributes:
        alone: the session for a call that is alone.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.alone = self._session(thread_limit() or 0)  # 0: ONNX Runtime chooses
        self._lock = threading.Lock()
        self._running = 0

    def run(self, photos: Pixels) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        """Return the probabilities (N, C) and the novelty (N,) of photos; None where the network has no novelty."""
        with self._lock:
            self._running += 1
            is_alone = self._running == 1
        try:
            found = (self.alone if is_alone else self._crowded).run(None, {"image": photos})
        finally:
            with self._lock:
                self._running -= 1
        return found[0], found[1] if len(found) > 1 else None

    @cached_property
    def _crowded(self) -> Any:
        return self._session(1)

    def _session(self, cores: int) -> Any:
        import onnxruntime

        onnxruntime.set_default_logger_severity(3)  # errors only
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = cores
        # Its threads would keep the cores busy while they wait, which doubled the processor time of a photo.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        return onnxruntime.InferenceSession(str(self._path), options, providers=["CPUExecutionProvider"])
