"""Load graphs as predictors: exports and runs of regraft, and graphs of other programs, described by flags."""

from __future__ import annotations

import re
from argparse import Namespace
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from regraft.classifiers.predictor import Answered, Answers, Predictor, answer_all
from regraft.compat._flags import Flag
from regraft.engines.probe import has_int8_layers, limit_for_int8
from regraft.errors import ExportError, ImageError, RunError
from regraft.exporting.formats.base import Artifact, load_predictor
from regraft.exporting.formats.graph_def import contents
from regraft.foundation import console
from regraft.foundation.documents import MEBIBYTE, mended, read_text
from regraft.foundation.files import as_path
from regraft.photos.images import Pixels, Problem
from regraft.photos.unlabelled import Found, Photo, image_of

_LABELS = ("labels.txt", "retrained_labels.txt", "output_labels.txt")

GRAPH_FLAGS = (
    Flag("labels", "", f"file of labels, one a line; by default {', '.join(_LABELS)} beside the graph"),
    Flag("input_height", 0, "height of the photos in pixels; by default that of the graph's input"),
    Flag("input_width", 0, "width of the photos in pixels; by default that of the graph's input"),
    Flag("input_mean", 128.0, "mean, subtracted from each channel, for a graph that takes floats"),
    Flag("input_std", 128.0, "standard deviation, by which each channel is divided, for a graph that takes floats"),
    Flag("input_layer", "", "name of the input; needed where the graph has several"),
    Flag("output_layer", "", "name of the output; needed where the graph has several"),
)
"""The flags that describe a graph without metadata of regraft."""


def load_graph(path: str, options: Namespace) -> Predictor:
    """Load an export or a run of regraft, or another graph that OpenVINO reads.

    Args:
        path: the file or folder.
        options: the values of `GRAPH_FLAGS`, for a graph that regraft did not write.

    Raises:
        ExportError: ``path`` does not exist, or the graph cannot be read.
        RunError: ``path`` is a folder that is neither an export, a run nor a SavedModel.
    """
    file = as_path(path, "the graph")
    try:
        return load_ours(path)
    except (ExportError, RunError):
        if not file.is_file() and not (file / "saved_model.pb").is_file():
            raise
        return Foreign(str(file), options)


def load_ours(path: str) -> Predictor:
    """Load an export or a run of regraft. Raises ExportError or RunError where ``path`` is something else."""
    file = as_path(path, "the graph")
    if not file.exists():
        raise ExportError(f"there is no {path}; wanted a graph that regraft-retrain wrote, or a .pb, .tflite or .onnx")
    if file.suffix == ".pb" and file.is_file():
        with suppress(RuntimeError):  # OpenVINO does not know an operation of the graph: TensorFlow loads it instead
            return _frozen(file)
    return load_predictor(file)


def _frozen(path: Path) -> Artifact:
    """Load a ``.pb`` that regraft wrote into OpenVINO, which starts ten times sooner than TensorFlow."""
    import openvino
    from google.protobuf.message import DecodeError
    from tensorboard.compat.proto.graph_pb2 import GraphDef

    try:
        definition = GraphDef.FromString(path.read_bytes())
    except DecodeError as error:
        raise ExportError(f"{path} is not a frozen graph: {error}") from error
    facts, outputs = contents(definition, path)
    model = _from_inside(str(path), "image", outputs)
    model.reshape({model.inputs[0]: [1, facts.transform.size, facts.transform.size, 3]})
    compiled = openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})

    def run(photos: Pixels) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        rows = [compiled(photos[i : i + 1]) for i in range(len(photos))]
        found = [np.concatenate([row[k].copy() for row in rows]) for k in range(len(outputs))]
        return found[0], found[1] if len(found) > 1 else None

    return Artifact(facts, run)


class Foreign:
    """A predictor for a graph that regraft did not write, with the labels in a text file.

    Attributes:
        classes: the labels, in the order of the graph's output.
        temperature: always 1, as the graph is not calibrated by regraft.
        threshold: always None, as the graph has no novelty.

    Raises:
        ExportError: the graph or its labels cannot be read, or its input is not one RGB photo.
    """

    temperature: float = 1.0
    threshold: float | None = None

    def __init__(self, graph: str, options: Namespace) -> None:
        import openvino

        self._graph, self._options = graph, options
        model = _read(graph, options)
        self.classes: tuple[str, ...] = _labels(graph, options)
        self._output = _place(model.outputs, options.output_layer, "output")
        taken = model.inputs[_place(model.inputs, options.input_layer, "input")]
        shape = [None if size.is_dynamic else size.get_length() for size in taken.partial_shape]
        if len(shape) != 4 or shape[3] not in (3, None):
            raise ExportError(f"{graph} takes {shape}; wanted one RGB photo, (1, height, width, 3)")
        self._size = (options.input_width or shape[2] or 224, options.input_height or shape[1] or 224)
        self._bytes = taken.get_element_type().get_type_name() == "u8"
        try:
            model.reshape({taken: [1, self._size[1], self._size[0], 3]})
            if has_int8_layers(model):
                limit_for_int8()
            self._one_at_a_time = Lock()
            self._compiled = openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        except RuntimeError as error:
            wide, high = self._size
            raise ExportError(
                f"{graph} does not take photos of {wide} x {high} pixels; type --input_width and --input_height"
            ) from error

    def predict_proba(
        self, images: Photo | Iterable[Photo], on_problem: Callable[[Problem], None] | None = None
    ) -> NDArray[np.float32]:
        """Return the scores (N, C) of photos; see `Predictor.predict_proba`."""
        return self.answers(images, on_problem).probabilities

    def answers(self, images: Photo | Iterable[Photo], on_problem: Callable[[Problem], None] | None = None) -> Answers:
        """As `Predictor.answers`; a graph of somebody else knows no novelty."""
        return answer_all(images, len(self.classes), self._answer, on_problem)

    def _answer(self, photos: Sequence[Found]) -> Answered:
        for index, photo in enumerate(photos):
            try:
                yield [index], Answers(self._scores(image_of(photo))[np.newaxis], np.full(1, np.nan, np.float32))
            except ImageError as error:
                yield index, str(error)

    def _scores(self, image: Image.Image) -> NDArray[np.float32]:
        """Return a score for each label; as in ``label_image.py``, the whole photo is scaled, whatever its shape."""
        pixels = np.asarray(image.resize(self._size, Image.Resampling.BILINEAR))[np.newaxis]
        if not self._bytes:
            pixels = (pixels.astype(np.float32) - self._options.input_mean) / self._options.input_std
        with self._one_at_a_time:  # the compiled model has one request
            found = np.array(self._compiled(pixels)[self._output]).ravel()
        if len(found) != len(self.classes):
            raise ExportError(f"{self._graph} gives {len(found)} scores, and there are {len(self.classes)} labels")
        return (found / 255 if found.dtype == np.uint8 else found).astype(np.float32)


def _read(graph: str, options: Namespace) -> Any:
    """Read a graph into OpenVINO; of a ``.pb`` only what follows ``--input_layer``. Raises ExportError."""
    import openvino

    ends = [options.output_layer] if options.output_layer else []
    try:
        with console.silenced():  # OpenVINO logs many lines on a damaged graph; the error below is one line
            if options.input_layer and Path(graph).suffix == ".pb":
                return _from_inside(graph, options.input_layer, ends)
            return openvino.Core().read_model(graph)
    except RuntimeError as error:
        if unknown := re.search(r"No conversion rule found for operations: (.*)", str(error)):
            raise ExportError(
                f"{graph} begins with what decodes photos ({unknown[1].strip()}); type --input_layer with the tensor "
                "that takes pixels: Mul in retrained Inception-v3, whose photos are 299 pixels wide and high"
            ) from error
        lines = [line for line in str(error).splitlines() if line.strip()]
        raise ExportError(f"{graph} cannot be read: {(lines or ['no reason given'])[-1].strip()}") from error


def _from_inside(graph: str, begin: str, ends: Sequence[str]) -> Any:
    """Cut a part out of a frozen graph: from the tensor ``begin`` to the tensors ``ends``, or to the graph's outputs.

    For example, retrained Inception-v3 takes the bytes of a JPEG file; from its tensor ``Mul`` on, it takes pixels.
    """
    from openvino import PartialShape
    from openvino.frontend import FrontEndManager

    frontend = FrontEndManager().load_by_framework("tf")
    model = frontend.load(graph)
    taken = _tensor(model, begin, "input")
    model.extract_subgraph([taken], [_tensor(model, name, "output") for name in ends] or model.get_outputs())
    if model.get_partial_shape(taken).rank.is_dynamic:  # the shape came from the decoder, which was cut off
        model.set_partial_shape(taken, PartialShape([1, -1, -1, 3]))
    return frontend.convert(model)


def _tensor(model: Any, name: str, what: str) -> Any:
    """Return the place of a tensor in a graph. Raises ExportError where there is none of this name."""
    place = model.get_place_by_tensor_name(name if ":" in name else f"{name}:0")
    if place is None:
        raise ExportError(f"there is no {what} {name!r} in the graph")
    return place


def _labels(graph: str, options: Namespace) -> tuple[str, ...]:
    """Read the labels from the file that ``--labels`` names, or from one beside the graph. Raises ExportError."""
    beside = [Path(graph).with_name(name) for name in _LABELS]
    path = Path(options.labels) if options.labels else next((path for path in beside if path.is_file()), beside[0])
    with mended(ExportError, "type --labels FILE"):
        return tuple(read_text(path, 16 * MEBIBYTE).splitlines())


def _place(ports: Sequence[Any], name: str, what: str) -> int:
    """Return the number of the input or output called ``name``, with or without TensorFlow's ``:0``.

    Raises:
        ExportError: there is none of this name, or no name was given and there are several.
    """
    known = {alias.partition(":")[0]: i for i, port in enumerate(ports) for alias in port.get_names()}
    if not name and len(ports) == 1:
        return 0
    if not name:
        raise ExportError(f"the graph has several {what}s; type --{what}_layer with one of {', '.join(sorted(known))}")
    if name.partition(":")[0] not in known:
        raise ExportError(f"there is no {what} {name!r}; choose from {', '.join(sorted(known)) or 'none'}")
    return known[name.partition(":")[0]]
