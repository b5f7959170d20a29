"""OpenVINO IR (``.xml`` and ``.bin``): the graph that computed the run's features, joined with a graph of the head."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regraft.backbones.base import Backbone
from regraft.backbones.graphs import graph_path
from regraft.backbones.side_by_side import parts_of
from regraft.classifiers.classifier import Classifier
from regraft.engines.int8 import quantise
from regraft.engines.probe import has_int8_layers, limit_for_int8
from regraft.errors import ExportError, option
from regraft.exporting.formats.base import Artifact, Facts
from regraft.exporting.keras_network import tail_of
from regraft.foundation.files import thread_limit
from regraft.photos.images import Pixels

_KEY = "regraft"  # of the facts in the graph's runtime information


def backbone_graph(backbone: Backbone, folder: Path) -> Path:
    """Return the path of a backbone's graph (.xml): of several side by side, of a graph that joins theirs.

    Args:
        backbone: the backbone; all its parts take the same pixels.
        folder: the folder for a joined graph.

    Raises:
        BackboneError: a graph cannot be built.
    """
    paths = [graph_path(part) for part in parts_of(backbone)]
    if len(paths) == 1:
        return paths[0]
    import openvino
    from openvino import opset13

    core = openvino.Core()
    first, *others = (core.read_model(path) for path in paths)
    for other in others:
        for target in other.inputs[0].get_target_inputs():
            target.replace_source_output(first.inputs[0].get_node().output(0))
    rows = [model.outputs[0].get_node().input_value(0) for model in (first, *others)]
    joined = openvino.Model([opset13.concat(rows, 1)], first.get_parameters(), "backbones")
    openvino.save_model(joined, folder / "backbones.xml", compress_to_fp16=False)
    return folder / "backbones.xml"


def whole_graph(classifier: Classifier, backbone: Path) -> Any:
    """Join the graph of the backbone and the graph of the head.

    Args:
        classifier: the run.
        backbone: the path of the backbone's graph (.xml).

    Returns:
        An ``openvino.Model`` from ``image``, uint8 (N, S, S, 3), to ``probabilities`` (N, C) and, where the run has a
        novelty, ``novelty`` (N,). The batch size N is dynamic.
    """
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
    """The exporter of ``--format openvino``."""

    artifact = "model.xml"
    folder_holds = ""
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
        """Write the graph of backbone and head, with the facts and the metadata that OpenVINO's Model API reads."""
        import openvino

        with tempfile.TemporaryDirectory() as folder:
            backbone = backbone_graph(classifier.backbone, Path(folder))
            if quantize == "int8":
                backbone = quantise(backbone, photos, Path(folder) / "int8.xml")
            model = whole_graph(classifier, backbone)
            facts = Facts.of(classifier)
            model.set_rt_info(facts.to_json(), [_KEY, "facts"])
            for key, value in _model_api(facts).items():
                model.set_rt_info(value, ["model_info", key])
            try:
                openvino.save_model(model, path, compress_to_fp16=quantize == "fp16")
            except RuntimeError as error:  # of a full disk OpenVINO says only "iostream error"
                raise ExportError(
                    f"OpenVINO cannot write {path.name} ({str(error).splitlines()[-1][:200]}); "
                    f"free space on the disk, or type another {option('out')}"
                ) from error
            del model  # it keeps the backbone's file open, which is deleted next

    def load(self, path: Path) -> Artifact:
        """Load an OpenVINO graph, to compute in float32: in bf16 it would answer differently than on other machines."""
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
    """Raise ExportError where a graph does not give one probability for each class."""
    shape = model.outputs[0].partial_shape
    if len(shape) != 2 or not shape[1].is_static or shape[1].get_length() != len(facts.classes):
        raise ExportError(f"{path} gives {shape}, and names {len(facts.classes)} classes; export it again")


def _model_api(facts: Facts) -> dict[str, Any]:
    """Return the metadata for OpenVINO's Model API; it separates labels by spaces, so spaces become underscores."""
    return {
        "model_type": "Classification",
        "labels": " ".join(label.replace(" ", "_") for label in facts.classes),
        "multilabel": "False",
        "hierarchical": "False",
        "output_raw_scores": "False",
        "resize_type": "standard" if facts.transform.crop is None else "crop",
    }
