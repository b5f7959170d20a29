"""Graphs as predictors: our own, and those of others, of which nothing is known but what their user tells."""

from __future__ import annotations

import re
from argparse import Namespace
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from regraft import _console
from regraft._documents import MEBIBYTE, mended, read_text
from regraft._files import as_path
from regraft.calibration import Answers
from regraft.compat._flags import Flag
from regraft.dataset import ImageRecord
from regraft.errors import ExportError, ImageError, RunError
from regraft.evaluation import Predictor
from regraft.exporters import Artifact, load_predictor
from regraft.exporters.graph_def import contents
from regraft.images import Pixels, Problem, decode, read
from regraft.probe import has_int8_layers, limit_for_int8

_LABELS = ("labels.txt", "retrained_labels.txt", "output_labels.txt")

GRAPH_FLAGS = (
    Flag("labels", "", f"file of labels, one a line; by default {', '.join(_LABELS)} beside the graph"),
    Flag("input_height", 0, "pixels; by default the graph's own"),
    Flag("input_width", 0, "pixels; by default the graph's own"),
    Flag("input_mean", 128.0, "subtracted from each channel of a graph that takes floats"),
    Flag("input_std", 128.0, "by which that is divided"),
    Flag("input_layer", "", "the input's name; by default the only one"),
    Flag("output_layer", "", "the output's name; by default the only one"),
)
"""What is told of a graph that does not tell it itself."""


def load_graph(path: str, options: Namespace) -> Predictor:
    """An export or run of ours, or any graph that OpenVINO reads, as ``options`` describe it.

    Raises:
        ExportError: there is nothing, it cannot be read, or has not one score for each label.
        RunError: it is a folder of something else.
    """
    file = as_path(path, "the graph")
    try:
        return load_ours(path)
    except (ExportError, RunError):
        if not file.is_file() and not (file / "saved_model.pb").is_file():
            raise
        return Foreign(str(file), options)


def load_ours(path: str) -> Predictor:
    """An export or run of ours. Raises ExportError or RunError where it is none."""
    file = as_path(path, "the graph")
    if not file.exists():
        raise ExportError(f"there is no {path}; wanted a graph that regraft-retrain wrote, or a .pb, .tflite or .onnx")
    if file.suffix == ".pb" and file.is_file():
        with suppress(RuntimeError):  # OpenVINO's, of an operation it does not know: TensorFlow knows it
            return _frozen(file)
    return load_predictor(file)


def _frozen(path: Path) -> Artifact:
    """A ``.pb`` that regraft wrote. OpenVINO runs it, which starts ten times sooner than TensorFlow."""
    import openvino
    from google.protobuf.message import DecodeError
    from tensorboard.compat.proto.graph_pb2 import GraphDef

    try:
        definition = GraphDef.FromString(path.read_bytes())
    except DecodeError as error:
        raise ExportError(f"{path} is no frozen graph: {error}") from error
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
    """A graph with labels in a file of their own.

    Attributes:
        classes: the labels.
        temperature, threshold: it has none.
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
            self._compiled = openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        except RuntimeError as error:
            wide, high = self._size
            raise ExportError(
                f"{graph} does not take photos of {wide} x {high} pixels; type --input_width and --input_height"
            ) from error

    def predict_proba(
        self, images: Sequence[Any], on_problem: Callable[[Problem], None] | None = None
    ) -> NDArray[np.float32]:
        """As `Predictor.predict_proba`."""
        return self.answers(images, on_problem).probabilities

    def answers(self, images: Sequence[Any], on_problem: Callable[[Problem], None] | None = None) -> Answers:
        """As `Predictor.answers`; ``images`` are paths or records."""
        found = np.full((len(images), len(self.classes)), np.nan, np.float32)
        for i, image in enumerate(images):
            is_record = isinstance(image, ImageRecord)
            try:
                data = read(image.path, image.part) if is_record else read(Path(image))
                found[i] = self._scores(decode(data))
            except ImageError as error:
                if on_problem is None:
                    raise
                on_problem(Problem(image.path if is_record else Path(image), str(error)))
        return Answers(found, np.full(len(images), np.nan, np.float32))

    def _scores(self, image: Image.Image) -> NDArray[np.float32]:
        """One for each label; the whole photo is squeezed into the graph's size, as label_image.py did it."""
        pixels = np.asarray(image.resize(self._size, Image.Resampling.BILINEAR))[np.newaxis]
        if not self._bytes:
            pixels = (pixels.astype(np.float32) - self._options.input_mean) / self._options.input_std
        found = np.array(self._compiled(pixels)[self._output]).ravel()
        if len(found) != len(self.classes):
            raise ExportError(f"{self._graph} gives {len(found)} scores, and there are {len(self.classes)} labels")
        return (found / 255 if found.dtype == np.uint8 else found).astype(np.float32)


def _read(graph: str, options: Namespace) -> Any:
    """The graph as OpenVINO has it; a ``.pb`` from ``--input_layer`` on. Raises ExportError."""
    import openvino

    ends = [options.output_layer] if options.output_layer else []
    try:
        with _console.silenced():  # what is no graph is told in one line
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
    """What lies between tensors that need not be the graph's own: retrained Inception-v3 takes a JPEG, or ``Mul``.

    Its own outputs are meant where none is named.
    """
    from openvino import PartialShape
    from openvino.frontend import FrontEndManager

    frontend = FrontEndManager().load_by_framework("tf")
    model = frontend.load(graph)
    taken = _tensor(model, begin, "input")
    model.extract_subgraph([taken], [_tensor(model, name, "output") for name in ends] or model.get_outputs())
    if model.get_partial_shape(taken).rank.is_dynamic:  # what decodes told it, and is gone
        model.set_partial_shape(taken, PartialShape([1, -1, -1, 3]))
    return frontend.convert(model)


def _tensor(model: Any, name: str, what: str) -> Any:
    place = model.get_place_by_tensor_name(name if ":" in name else f"{name}:0")
    if place is None:
        raise ExportError(f"there is no {what} {name!r} in the graph")
    return place


def _labels(graph: str, options: Namespace) -> tuple[str, ...]:
    beside = [Path(graph).with_name(name) for name in _LABELS]
    path = Path(options.labels) if options.labels else next((path for path in beside if path.is_file()), beside[0])
    with mended(ExportError, "type --labels FILE"):
        return tuple(read_text(path, 16 * MEBIBYTE).splitlines())


def _place(ports: Sequence[Any], name: str, what: str) -> int:
    """Which port is called ``name``, with or without TensorFlow's ``:0``; the only one where no name is given."""
    known = {alias.partition(":")[0]: i for i, port in enumerate(ports) for alias in port.get_names()}
    if not name and len(ports) == 1:
        return 0
    if not name:
        raise ExportError(f"it has several {what}s; type --{what}_layer with one of {', '.join(sorted(known))}")
    if name.partition(":")[0] not in known:
        raise ExportError(f"there is no {what} {name!r}; there is {', '.join(sorted(known)) or 'none'}")
    return known[name.partition(":")[0]]
