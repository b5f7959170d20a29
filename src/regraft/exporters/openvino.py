"""OpenVINO IR (``.xml`` and ``.bin``): the very graph that computed the features, with the head behind it."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regraft._files import thread_limit
from regraft.backbones._graphs import graph_path
from regraft.classifier import Classifier
from regraft.errors import ExportError
from regraft.exporters import Artifact, Facts
from regraft.exporters._keras import tail_of
from regraft.images import Pixels
from regraft.probe import has_int8_layers, limit_for_int8
from regraft.quantisation import quantise

_KEY = "regraft"


def whole_graph(classifier: Classifier, backbone: Path) -> Any:
    """An ``openvino.Model``: ``image``, uint8 (?, S, S, 3), to ``probabilities`` (?, C) and ``novelty`` (?,)."""
    import openvino

    core = openvino.Core()
    below = core.read_model(backbone)
    with tempfile.TemporaryDirectory() as folder:
        tail_of(classifier, Path(folder) / "tail.xml")
        above = core.read_model(Path(folder) / "tail.xml")
        features = below.outputs[0].get_node().input_value(0)
        for target in above.inputs[0].get_target_inputs():
            target.replace_source_output(features)
        model = openvino.Model(above.get_results(), below.get_parameters(), "classifier")
        size = classifier.backbone.transform.size
        model.reshape([-1, size, size, 3])
        model.inputs[0].get_tensor().set_names({"image"})
        for output, name in zip(model.outputs, ("probabilities", "novelty"), strict=False):
            output.get_tensor().set_names({name})
        return model


class OpenVino:
    """``--format openvino``."""

    artifact = "model.xml"
    writes: tuple[str, ...] = ("openvino",)
    reads: tuple[str, ...] = ("openvino",)
    extra = ""
    runtime = "OpenVINO"
    quantizations: tuple[str, ...] = ("fp16", "int8")
    example = """
def load(folder):
    import openvino

    core = openvino.Core()
    model = core.read_model(folder / "model.xml")
    facts = model.get_rt_info(["regraft", "facts"]).astype(str)
    compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})

    def run(photo):
        found = compiled({0: photo[np.newaxis]})
        values = [found[output][0] for output in compiled.outputs]
        return values[0], values[1] if len(values) > 1 else None

    return json.loads(facts), run
"""

    def write(self, classifier: Classifier, path: Path, quantize: str, photos: Pixels) -> None:
        """Join the backbone's graph and the head's; with the names that Model API reads."""
        import openvino

        with tempfile.TemporaryDirectory() as folder:
            backbone = graph_path(classifier.backbone)
            if quantize == "int8":
                backbone = quantise(backbone, photos, Path(folder) / "int8.xml")
            model = whole_graph(classifier, backbone)
            facts = Facts.of(classifier)
            model.set_rt_info(facts.to_json(), [_KEY, "facts"])
            for key, value in _model_api(facts).items():
                model.set_rt_info(value, ["model_info", key])
            try:
                openvino.save_model(model, path, compress_to_fp16=quantize == "fp16")
            except RuntimeError as error:  # all that it says of a full disk is "iostream error"
                raise ExportError(
                    f"OpenVINO cannot write {path.name} ({str(error).splitlines()[-1][:200]}); "
                    "free space on the disk, or type another --out"
                ) from error
            del model  # it keeps the graph's file open

    def load(self, path: Path) -> Artifact:
        """In float32: bf16, where the processor has it, would not be what other machines answer."""
        import openvino

        core = openvino.Core()
        model = core.read_model(path)
        known = model.has_rt_info([_KEY, "facts"])
        facts = Facts.from_json(model.get_rt_info([_KEY, "facts"]).astype(str) if known else None, path)
        _check(model, facts, path)
        if has_int8_layers(model):
            limit_for_int8()
        limit = {"INFERENCE_NUM_THREADS": count} if (count := thread_limit()) else {}
        compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32", **limit})

        def run(photos: Pixels) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
            found = compiled({0: photos})
            rows = [np.array(found[output]) for output in compiled.outputs]
            return rows[0], rows[1] if len(rows) > 1 else None

        return Artifact(facts, run)


def _check(model: Any, facts: Facts, path: Path) -> None:
    shape = model.outputs[0].partial_shape
    if len(shape) != 2 or not shape[1].is_static or shape[1].get_length() != len(facts.classes):
        raise ExportError(f"{path} gives {shape}, and names {len(facts.classes)} classes; export it again")


def _model_api(facts: Facts) -> dict[str, Any]:
    """What OpenVINO's Model API wants to know; it separates labels by spaces, so theirs become underscores."""
    return {
        "model_type": "Classification",
        "labels": " ".join(label.replace(" ", "_") for label in facts.classes),
        "multilabel": "False",
        "hierarchical": "False",
        "output_raw_scores": "False",
        "resize_type": "standard" if facts.transform.crop is None else "crop",
    }
