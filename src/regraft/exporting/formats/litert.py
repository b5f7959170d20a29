"""LiteRT (``.tflite``), for phones and small computers, with the metadata that MediaPipe Tasks reads."""

from __future__ import annotations

import io
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regraft.errors import ExportError
from regraft.exporting.formats.base import Artifact, Facts, text_in_archive
from regraft.exporting.keras_network import KerasExporter, save_model
from regraft.exporting.litert_metadata import with_metadata
from regraft.foundation import console
from regraft.photos.images import Pixels

_FACTS = "regraft.json"
_FLOAT_OPERATIONS = ["SUB", "DIV"]
"""Operations that are never quantised: they normalise pixels by mean and standard deviation."""


class LiteRT(KerasExporter):
    """The exporter of ``--format litert``."""

    name = "litert"
    artifact = "model.tflite"
    writes: tuple[str, ...] = ("tensorflow", "ai_edge_litert")
    reads: tuple[str, ...] = ("ai_edge_litert",)
    extra = "litert"
    runtime = "LiteRT"
    quantizations: tuple[str, ...] = ("fp16", "int8-weights", "int8")
    example = """
def load(folder):
    import zipfile

    from ai_edge_litert.interpreter import Interpreter  # on Android and iOS: MediaPipe's ImageClassifier

    interpreter = Interpreter(str(folder / "model.tflite"))
    interpreter.allocate_tensors()
    taken, given = interpreter.get_input_details()[0], interpreter.get_output_details()

    def run(photo):
        interpreter.set_tensor(taken["index"], photo[np.newaxis])
        interpreter.invoke()
        values = {len(one["shape"]): interpreter.get_tensor(one["index"])[0] for one in given}
        return values[2], values.get(1)

    with zipfile.ZipFile(folder / "model.tflite") as archive:
        return json.loads(archive.read("regraft.json")), run
"""

    def build(self, network: Any, facts: Facts, path: Path, quantize: str, photos: Pixels) -> None:
        """Write the network with TensorFlow's converter; full int8 takes the ranges of values from ``photos``."""
        import tensorflow

        with tempfile.TemporaryDirectory() as folder:
            save_model(network, Path(folder), batch=1)
            converter = tensorflow.lite.TFLiteConverter.from_saved_model(folder)
            data = _in_int8(converter, photos) if quantize == "int8" else _converted(converter, quantize)
            path.write_bytes(with_metadata(data, facts, {_FACTS: facts.to_json()}))

    def load(self, path: Path) -> Artifact:
        """Load a ``.tflite`` file into the LiteRT interpreter, which answers one photo at a time.

        Raises:
            ExportError: regraft did not write the file, or it is damaged.
        """
        with console.silenced():
            from ai_edge_litert.interpreter import Interpreter

            data = path.read_bytes()
            facts = Facts.from_json(text_in_archive(io.BytesIO(data), _FACTS), path)
            facts.require_labels(text_in_archive(io.BytesIO(data), "labels.txt"), path)
            interpreter = Interpreter(model_content=data, num_threads=None)
            interpreter.allocate_tensors()
        taken, given = interpreter.get_input_details()[0], interpreter.get_output_details()
        places = {len(one["shape"]): one["index"] for one in given}
        shapes = [list(one["shape"]) for one in given]
        if [1, len(facts.classes)] not in shapes:
            raise ExportError(f"{path} gives {shapes}, and names {len(facts.classes)} classes; export it again")

        def run(photos: Pixels) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
            rows: list[NDArray[np.float32]] = []
            novelty: list[NDArray[np.float32]] = []
            for photo in photos:
                interpreter.set_tensor(taken["index"], photo[np.newaxis])
                interpreter.invoke()
                rows.append(interpreter.get_tensor(places[2])[0])
                if 1 in places:
                    novelty.append(interpreter.get_tensor(places[1])[0])
            return np.stack(rows), np.stack(novelty) if novelty else None

        return Artifact(facts, run)


def _converted(converter: Any, quantize: str) -> bytes:
    """Return the .tflite model in floats, or with weights in int8 or float16."""
    import tensorflow

    if quantize:
        converter.optimizations = [tensorflow.lite.Optimize.DEFAULT]
    if quantize == "fp16":
        converter.target_spec.supported_types = [tensorflow.float16]
    data: bytes = converter.convert()
    return data


def _in_int8(converter: Any, photos: Pixels) -> bytes:
    """Return the .tflite model in full int8.

    Weights and activations are int8. Vectors, a thousandth of the computation, stay in floats: see `_vectors`.
    """
    import tensorflow

    lite, builtin = tensorflow.lite, tensorflow.lite.OpsSet
    converter.optimizations = [lite.Optimize.DEFAULT]
    converter.target_spec.supported_ops = [builtin.TFLITE_BUILTINS_INT8, builtin.TFLITE_BUILTINS]
    converter.representative_dataset = lambda: ([photo[np.newaxis]] for photo in photos)
    converter.inference_input_type = tensorflow.uint8
    shown = [[photos[:1]]]
    # The debugger is TensorFlow's one documented way to leave operations out ("selective quantization").
    debugger = lite.experimental.QuantizationDebugger(converter=converter, debug_dataset=lambda: iter(shown))
    debugger.options = lite.experimental.QuantizationDebugOptions(
        denylisted_ops=_FLOAT_OPERATIONS, denylisted_nodes=_vectors(debugger.calibrated_model)
    )
    data: bytes = debugger.get_nondebug_quantized_model()
    return data


def _vectors(model: bytes) -> list[str]:
    """Return the names of a model's operations with a vector or a number as result: pooling, head and novelty.

    The range of an int8 value is that of the calibration photos, which are train photos. The novelty of a stranger lies
    outside this range: in int8 it was cut off at the largest novelty of a train photo, often below the threshold.
    """
    from ai_edge_litert import schema_py_generated as schema

    graph = schema.ModelT.InitFromPackedBuf(model, 0).subgraphs[0]
    results = [graph.tensors[index] for operator in graph.operators for index in operator.outputs]
    shapes = [() if tensor.shape is None else tuple(tensor.shape) for tensor in results]
    pairs = zip(results, shapes, strict=True)
    return [tensor.name.decode() for tensor, shape in pairs if len(shape) < 2 or (len(shape) == 2 and shape[0] == 1)]
