"""The whole classifier (normalisation, backbone, head, calibration) as one Keras network, and its exporters."""

from __future__ import annotations

import tempfile
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from regraft.backbones.base import Backbone
from regraft.backbones.side_by_side import parts_of
from regraft.classifiers.classifier import Classifier
from regraft.errors import ExportError, option
from regraft.exporting.formats.base import Facts
from regraft.foundation.files import write_text
from regraft.foundation.processes import call
from regraft.heads.base import Head
from regraft.photos.images import Pixels

if TYPE_CHECKING:
    import keras


_NO_LIMIT = np.float32(1e30)  # far above any feature


def whole_network(classifier: Classifier, balanced: bool = False) -> keras.Model:
    """Return a Keras model from photos to probabilities.

    Its input is ``image``, uint8 RGB (N, S, S, 3); its outputs are ``probabilities`` (N, C) and, where the classifier
    has a novelty, ``novelty`` (N,).

    Args:
        classifier: the classifier whose backbone, head and calibration become one network.
        balanced: whether the weights of a linear head are scaled to like size, for a format that keeps them in 8 bits.

    Raises:
        ExportError: the backbone has no Keras model.
    """
    import keras
    from keras import ops

    size = classifier.backbone.transform.size
    photo = keras.Input((size, size, 3), dtype="uint8", name="image")
    rows = [_features(part, ops.cast(photo, "float32")) for part in parts_of(classifier.backbone)]
    features = rows[0] if len(rows) == 1 else ops.concatenate(rows, axis=1)
    logits = _balanced(classifier.head, features) if balanced else classifier.head.as_keras(features)
    return keras.Model(photo, classifier.calibration.as_keras(features, logits), name="classifier")


def _features(backbone: Backbone, x: Any) -> Any:
    """Return the features (N, D) of photos (N, S, S, 3) in 0..255, as symbolic tensors. Raises ExportError."""
    from keras import ops

    network = backbone.keras_model()
    if network is None:
        raise ExportError(
            f"{backbone.name} has no Keras model; it can be exported with {option('format', 'openvino')} or onnx"
        )
    transform = backbone.transform
    if transform.channel_order == "BGR":
        x = ops.flip(x, axis=-1)
    mean, std = np.array(transform.mean, np.float32), np.array(transform.std, np.float32)
    return network(ops.divide(ops.subtract(x, mean), std))


def _balanced(head: Head, features: Any) -> Any:
    """Return the logits of a linear head whose features are scaled first, so that each weight is at most 1.

    A feature that hardly varies has weights of hundreds; in 8 bits, the weights of all other features would be 0.
    """
    from keras import ops

    state = head.state()
    if not {"weight", "bias"} <= set(state):
        return head.as_keras(features)
    scale = np.abs(state["weight"]).max(axis=1, keepdims=True)
    scale[scale == 0] = 1
    # Without this minimum, TensorFlow undoes the scaling.
    scaled = ops.minimum(ops.multiply(features, scale[:, 0]), _NO_LIMIT)
    return head.from_state({**state, "weight": state["weight"] / scale}).as_keras(scaled)


def save_model(network: keras.Model, path: Path, batch: int | None, assets: Sequence[Path] = ()) -> None:
    """Write a network as a SavedModel with the signature ``serving_default``. Keras must run on TensorFlow.

    Args:
        network: the Keras model, with one input in uint8.
        path: the folder to write.
        batch: the batch size of the input; None for any.
        assets: files that are copied into the SavedModel.
    """
    import tensorflow

    _, *shape = network.inputs[0].shape
    taken = tensorflow.TensorSpec((batch, *shape), tensorflow.uint8, "image")
    module = tensorflow.Module()
    module.weights = [variable.value for variable in network.variables]  # TensorFlow saves only what is an attribute
    module.assets = [tensorflow.saved_model.Asset(str(file)) for file in assets]
    serve = tensorflow.function(lambda image: network(image, training=False), input_signature=[taken])
    tensorflow.saved_model.save(module, str(path), {"serving_default": serve})


def write_tail(classifier: Classifier, path: Path) -> None:
    """Write head and calibration as an OpenVINO graph (.xml) from features (N, D). Keras must run on OpenVINO."""
    import keras

    features = keras.Input((classifier.backbone.num_features,), name="features")
    outputs = classifier.calibration.as_keras(features, classifier.head.as_keras(features))
    keras.Model(features, list(outputs.values())).export(str(path), format="openvino", verbose=False)


class KerasExporter(ABC):
    """The exporter of a format that TensorFlow writes.

    Attributes:
        name: the name of the format.
    """

    name: str
    folder_holds = ""
    quantizations: tuple[str, ...] = ()

    def write(self, classifier: Classifier, path: Path, quantize: str, photos: Pixels) -> None:
        """Write the artifact at ``path``, in a process in which Keras runs on TensorFlow.

        Args:
            classifier: the classifier, with its run folder.
            path: the file or folder to write.
            quantize: the quantisation; empty for none.
            photos: the calibration photos, uint8 (N, S, S, 3); empty where none are needed.

        Raises:
            BackboneError: the artifact cannot be built.
            ExportError: a label cannot be exported.
        """
        facts = Facts.of(classifier)
        with tempfile.TemporaryDirectory() as folder:
            np.save(Path(folder) / "photos.npy", photos)
            write_text(Path(folder) / "facts.json", facts.to_json())
            job = {"name": self.name, "run": str(classifier.path), "path": str(path)}
            job |= {"quantize": quantize, "folder": folder}
            call(
                "regraft.exporting.export_building:write_export",
                job,
                f"the {self.name} export cannot be built",
                "tensorflow",
            )

    @abstractmethod
    def build(self, network: Any, facts: Facts, path: Path, quantize: str, photos: Pixels) -> None:
        """Write ``network`` to ``path``; called in the process that `write` starts."""


def tail_of(classifier: Classifier, path: Path) -> None:
    """Run `write_tail` in a process of its own, in which Keras runs on OpenVINO. Raises BackboneError."""
    job = {"run": str(classifier.path), "path": str(path)}
    call("regraft.exporting.export_building:write_head_graph", job, "the head's graph cannot be built")
