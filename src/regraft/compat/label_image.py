"""``regraft-label-image``: the top five of one photo, from an export of ours or an old ``.pb`` or ``.tflite``."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from regraft.compat._flags import Flag, parse_flags
from regraft.compat._main import run
from regraft.errors import ExportError, ImageError
from regraft.exporters import load_predictor
from regraft.images import decode, read

FLAGS = (
    Flag("image", "", "the photo"),
    Flag("graph", "/tmp/output_graph.pb", "an export, a run, or a .pb, .tflite, .onnx or SavedModel of somebody else"),
    Flag("labels", "", "file of labels, one a line; an export of ours knows its own"),
    Flag("input_height", 0, "pixels; by default the graph's own"),
    Flag("input_width", 0, "pixels; by default the graph's own"),
    Flag("input_mean", 128.0, "subtracted from each channel of a graph that takes floats"),
    Flag("input_std", 128.0, "by which that is divided"),
    Flag("input_layer", "", "the input's name; by default the only one"),
    Flag("output_layer", "", "the output's name; by default the only one"),
)

_TOP = 5


def label_image(tokens: Sequence[str]) -> int:
    """Print the time and the five most probable labels. Raises RegraftError."""
    options = parse_flags("regraft-label-image", "Label one photo.", FLAGS, tokens)
    if not options.image:
        raise ImageError("no photo was named; type --image PHOTO")
    try:
        predictor = load_predictor(options.graph)
        labels: Sequence[str] = predictor.classes
        start = perf_counter()
        scores = predictor.predict_proba([Path(options.image)])[0]
    except ExportError:
        if not Path(options.graph).exists():
            raise
        network = _Foreign(options)
        labels = _labels(options)
        start = perf_counter()
        scores = network.scores(decode(read(Path(options.image))))
    seconds = perf_counter() - start
    if len(labels) != len(scores):
        raise ExportError(f"{options.graph} gives {len(scores)} scores, {options.labels} has {len(labels)} labels")
    sys.stdout.write(f"\nEvaluation time (1-image): {seconds:.3f}s\n\n")
    for i in np.argsort(-scores, kind="stable")[:_TOP]:
        sys.stdout.write(f"{labels[i]} (score={scores[i]:.5f})\n")
    return 0


def _labels(options: Namespace) -> list[str]:
    path = Path(options.labels or Path(options.graph).with_name("labels.txt"))
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ExportError(f"{path} has no labels to read ({error}); type --labels FILE") from error


class _Foreign:
    """A graph that nothing is known of but what its input looks like; run by OpenVINO."""

    def __init__(self, options: Namespace) -> None:
        import openvino

        self._options = options
        core = openvino.Core()
        try:
            model = core.read_model(options.graph)
        except RuntimeError as error:
            lines = [line for line in str(error).splitlines() if line.strip()]
            raise ExportError(
                f"{options.graph} cannot be read: {(lines or ['no reason given'])[-1].strip()}"
            ) from error
        self._output = _place(model.outputs, options.output_layer, "output")
        taken = model.inputs[_place(model.inputs, options.input_layer, "input")]
        shape = [None if size.is_dynamic else size.get_length() for size in taken.partial_shape]
        if len(shape) != 4 or shape[3] not in (3, None):
            raise ExportError(f"{options.graph} takes {shape}; wanted one RGB photo, (1, height, width, 3)")
        self._size = (options.input_width or shape[2] or 224, options.input_height or shape[1] or 224)
        self._bytes = taken.get_element_type().get_type_name() == "u8"
        model.reshape({taken: [1, self._size[1], self._size[0], 3]})
        self._compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})

    def scores(self, image: Image.Image) -> NDArray[np.float32]:
        """One for each label; the whole photo is squeezed into the graph's size, as label_image.py did it."""
        pixels = np.asarray(image.resize(self._size, Image.Resampling.BILINEAR))[np.newaxis]
        if not self._bytes:
            pixels = (pixels.astype(np.float32) - self._options.input_mean) / self._options.input_std
        found = np.array(self._compiled(pixels)[self._output]).ravel()
        return (found / 255 if found.dtype == np.uint8 else found).astype(np.float32)


def _place(ports: Sequence[Any], name: str, what: str) -> int:
    """Which port is called ``name``, with or without TensorFlow's ``:0``; the only one where no name is given."""
    known = {alias.partition(":")[0]: i for i, port in enumerate(ports) for alias in port.get_names()}
    if not name and len(ports) == 1:
        return 0
    if name.partition(":")[0] not in known:
        raise ExportError(f"there is no {what} {name!r}; there is {', '.join(sorted(known)) or 'none'}")
    return known[name.partition(":")[0]]


def main(tokens: Sequence[str] | None = None) -> int:
    """The command. Returns the exit code."""
    return run("regraft-label-image", label_image, tokens)


if __name__ == "__main__":
    sys.exit(main())
