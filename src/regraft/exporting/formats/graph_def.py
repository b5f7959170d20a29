"""The frozen GraphDef (``.pb``) of TensorFlow 1: the format that ``retrain.py`` wrote and ``label_image.py`` reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regraft.engines.tensorflow import quiet_tensorflow
from regraft.errors import ExportError
from regraft.exporting.formats.base import Artifact, Facts
from regraft.exporting.keras_network import KerasExporter
from regraft.photos.images import Pixels

_FACTS = "regraft"
"""The name of a constant in the graph that holds the facts as JSON."""


class GraphDef(KerasExporter):
    """The exporter of ``--format graph-def``: input ``image:0``, outputs ``probabilities:0`` and ``novelty:0``."""

    name = "graph-def"
    artifact = "model.pb"
    writes: tuple[str, ...] = ("tensorflow",)
    reads: tuple[str, ...] = ("tensorflow",)
    extra = "tensorflow"
    runtime = "TensorFlow"
    example = """
def load(folder):
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow logs also when it first computes
    import tensorflow

    definition = tensorflow.compat.v1.GraphDef.FromString((folder / "model.pb").read_bytes())
    graph = tensorflow.Graph()
    with graph.as_default():
        tensorflow.import_graph_def(definition, name="")
    session = tensorflow.compat.v1.Session(graph=graph)
    names = [name for name in ("probabilities:0", "novelty:0") if name[:-2] in {node.name for node in definition.node}]

    def run(photo):
        found = session.run(names, {"image:0": photo[np.newaxis]})
        return found[0][0], found[1][0] if len(found) > 1 else None

    return json.loads(session.run("regraft:0")), run
"""

    def build(self, network: Any, facts: Facts, path: Path, quantize: str, photos: Pixels) -> None:
        """Write the network with its variables as constants, and the facts as one more constant."""
        import tensorflow
        from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

        size = facts.transform.size
        taken = tensorflow.TensorSpec((None, size, size, 3), tensorflow.uint8, "image")
        concrete = tensorflow.function(lambda image: network(image, training=False)).get_concrete_function(taken)
        frozen = convert_variables_to_constants_v2(concrete)
        graph = tensorflow.Graph()
        with graph.as_default():
            tensorflow.import_graph_def(frozen.graph.as_graph_def(), name="")
            # TensorFlow sorts the outputs of the function by name.
            for key, output in zip(sorted(network.output), frozen.outputs, strict=True):
                tensorflow.identity(graph.get_tensor_by_name(output.name), name=key)
            tensorflow.constant(facts.to_json(), name=_FACTS)
        path.write_bytes(graph.as_graph_def().SerializeToString(deterministic=True))

    def load(self, path: Path) -> Artifact:
        """Load a GraphDef that regraft wrote, to compute with TensorFlow. Raises ExportError for another graph."""
        tensorflow = quiet_tensorflow()
        definition = tensorflow.compat.v1.GraphDef.FromString(path.read_bytes())
        facts, outputs = contents(definition, path)
        names = [f"{name}:0" for name in outputs]
        graph = tensorflow.Graph()
        with graph.as_default():
            tensorflow.import_graph_def(definition, name="")
        session = tensorflow.compat.v1.Session(graph=graph)

        def run(photos: Pixels) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
            found = session.run(names, {"image:0": photos})
            return found[0], found[1] if len(found) > 1 else None

        return Artifact(facts, run)


def contents(definition: Any, path: Path) -> tuple[Facts, list[str]]:
    """Return the facts and the names of the outputs of a ``GraphDef``.

    Args:
        definition: the graph.
        path: the graph's file, for messages.

    Raises:
        ExportError: regraft did not write the graph, or it is damaged.
    """
    nodes = {node.name: node for node in definition.node}
    text = nodes[_FACTS].attr["value"].tensor.string_val[0] if _FACTS in nodes else None
    facts = Facts.from_json(text, path)
    outputs = [name for name in ("probabilities", "novelty") if name in nodes]
    if outputs[:1] != ["probabilities"] or "image" not in nodes:
        raise ExportError(f"{path} has no image or gives no probabilities; export it again")
    return facts, outputs


def name_output(path: Path, name: str) -> None:
    """Add an output called ``name`` to a graph that `GraphDef` wrote; it is a copy of ``probabilities``."""
    tensorflow = quiet_tensorflow()
    definition = tensorflow.compat.v1.GraphDef.FromString(path.read_bytes())
    node = definition.node.add(name=name, op="Identity", input=["probabilities"])
    node.attr["T"].type = tensorflow.float32.as_datatype_enum
    path.write_bytes(definition.SerializeToString(deterministic=True))
