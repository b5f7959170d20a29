"""What exports by way of Keras have in common: the whole classifier as one network, built in a process of its own."""

from __future__ import annotations

import tempfile
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from regraft._files import write_text
from regraft._processes import call
from regraft.classifier import Classifier
from regraft.errors import ExportError
from regraft.exporters import Facts
from regraft.heads import Head
from regraft.images import Pixels

if TYPE_CHECKING:
    import keras


_HUGE = np.float32(1e30)


def whole_network(classifier: Classifier, balanced: bool = False) -> keras.Model:
    """Input ``image``, uint8 RGB (N, S, S, 3); outputs ``probabilities`` (N, C) and, where there is one, ``novelty``.

    Args:
        classifier: of which backbone, head and calibration become one network.
        balanced: whether a linear head is to have weights of like size, for one that keeps them in 8 bits.

    Raises:
        ExportError: no Keras model stands for the backbone.
    """
    import keras
    from keras import ops

    network = classifier.backbone.keras_model()
    if network is None:
        raise ExportError(
            f"{classifier.backbone.name} has no Keras model; it can be exported with --format openvino or onnx"
        )
    transform = classifier.backbone.transform
    photo = keras.Input((transform.size, transform.size, 3), dtype="uint8", name="image")
    x = ops.cast(photo, "float32")
    if transform.channel_order == "BGR":
        x = ops.flip(x, axis=-1)
    mean, std = np.array(transform.mean, np.float32), np.array(transform.std, np.float32)
    features = network(ops.divide(ops.subtract(x, mean), std))
    logits = _balanced(classifier.head, features) if balanced else classifier.head.as_keras(features)
    return keras.Model(photo, classifier.calibration.as_keras(features, logits), name="classifier")


def _balanced(head: Head, features: Any) -> Any:
    """The logits, of features that are scaled first, so that each has weights of at most 1.

    A feature that hardly varies has weights of hundreds, beside which all others are nothing in 8 bits.
    """
    from keras import ops

    state = head.state()
    if not {"weight", "bias"} <= set(state):
        return head.as_keras(features)
    scale = np.abs(state["weight"]).max(axis=1, keepdims=True)
    scale[scale == 0] = 1
    scaled = ops.minimum(ops.multiply(features, scale[:, 0]), _HUGE)  # without this TensorFlow undoes the scaling
    return head.from_state({**state, "weight": state["weight"] / scale}).as_keras(scaled)


def save_model(network: keras.Model, path: Path, batch: int | None, assets: Sequence[Path] = ()) -> None:
    """A SavedModel with the signature ``serving_default``; Keras must run on TensorFlow."""
    import tensorflow

    _, *shape = network.inputs[0].shape
    taken = tensorflow.TensorSpec((batch, *shape), tensorflow.uint8, "image")
    module = tensorflow.Module()
    module.weights = [variable.value for variable in network.variables]  # what is not named so is not saved
    module.assets = [tensorflow.saved_model.Asset(str(file)) for file in assets]
    serve = tensorflow.function(lambda image: network(image, training=False), input_signature=[taken])
    tensorflow.saved_model.save(module, str(path), {"serving_default": serve})


def write_tail(classifier: Classifier, path: Path) -> None:
    """All that comes after the backbone as an OpenVINO graph (.xml): features (N, D) in. Keras must run on OpenVINO."""
    import keras

    features = keras.Input((classifier.backbone.num_features,), name="features")
    outputs = classifier.calibration.as_keras(features, classifier.head.as_keras(features))
    keras.Model(features, list(outputs.values())).export(str(path), format="openvino", verbose=False)


class KerasExporter(ABC):
    """A format that TensorFlow writes."""

    name: str
    quantizations: tuple[str, ...] = ()

    def write(self, classifier: Classifier, path: Path, quantize: str, photos: Pixels) -> None:
        """Build it in a process in which Keras runs on TensorFlow. Raises BackboneError where that fails."""
        facts = Facts.of(classifier)
        with tempfile.TemporaryDirectory() as folder:
            np.save(Path(folder) / "photos.npy", photos)
            write_text(Path(folder) / "facts.json", facts.to_json())
            job = {"name": self.name, "run": str(classifier.path), "path": str(path)}
            job |= {"quantize": quantize, "folder": folder}
            call("regraft._export:write_export", job, f"the {self.name} export cannot be built", "tensorflow")

    @abstractmethod
    def build(self, network: Any, facts: Facts, path: Path, quantize: str, photos: Pixels) -> None:
        """Write ``network`` to ``path``; in that process."""


def tail_of(classifier: Classifier, path: Path) -> None:
    """`write_tail` in a process of its own, in which Keras runs on OpenVINO. Raises BackboneError."""
    job = {"run": str(classifier.path), "path": str(path)}
    call("regraft._export:write_head_graph", job, "the head's graph cannot be built")
