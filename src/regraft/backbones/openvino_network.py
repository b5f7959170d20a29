"""A network on disk as an OpenVINO model: read, looked up by name, and given features (1, D) as its output.

In: the path of a file that OpenVINO reads. Out: an ``openvino.Model`` from one photo to the features of named outputs.
Why: a file that a user names and one that comes from the Hub are cut and averaged in the same way.
Surprise: an output (1, C, H, W) or (1, H, W, C) is averaged over space, and it is its shape that tells which it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from regraft.errors import BackboneError, option
from regraft.foundation import console


def read_network(path: Path) -> Any:
    """Return the ``openvino.Model`` of a file. Raises BackboneError."""
    import openvino

    try:
        with console.silenced():  # the error below says all in one line
            return openvino.Core().read_model(str(path))
    except RuntimeError as error:
        lines = [line for line in str(error).splitlines() if line.strip()]
        raise BackboneError(f"{path} cannot be read: {(lines or ['no reason given'])[-1].strip()}") from error


def named_output(model: Any, name: str) -> Any:
    """Return the output of the layer or tensor called ``name``. Raises BackboneError if there is none."""
    outputs = {op.get_friendly_name(): op.output(0) for op in model.get_ops() if op.outputs()}
    outputs |= {known: output for op in model.get_ops() for output in op.outputs() for known in output.get_names()}
    if name not in outputs:
        import difflib

        near = difflib.get_close_matches(name, outputs, n=3, cutoff=0.3)
        raise BackboneError(f"there is no stage {name!r} in it; the nearest names are {', '.join(near) or 'none'}")
    return outputs[name]


def with_features(model: Any, outputs: Mapping[str, Any], first: bool, path: Path) -> tuple[Any, dict[str, int]]:
    """Return a model with the features (1, D) as its output, and the number of features of each stage by its name.

    Args:
        model: a model that takes one photo.
        outputs: the output of each stage by its name, (1, D), (1, H, W, D) or (1, D, H, W).
        first: whether the channels of the input come first.
        path: the file, for the message.

    Raises:
        BackboneError: an output has another shape.
    """
    import openvino
    from openvino import opset13

    rows = [_averaged(output, first, path) for output in outputs.values()]
    features = opset13.concat(rows, 1) if len(rows) > 1 else rows[0]
    result = openvino.Model([features.output(0)], model.get_parameters(), "features")
    return result, {name: row.get_output_shape(0)[-1] for name, row in zip(outputs, rows, strict=True)}


def _averaged(output: Any, first: bool, path: Path) -> Any:
    """Return the features (1, D) float32 of one output; see `with_features`. Raises BackboneError."""
    import numpy as np
    from openvino import opset13

    floats = opset13.convert(output, "f32")
    shape = list(output.get_shape())
    if len(shape) == 2:
        return floats
    if len(shape) != 4:
        raise BackboneError(
            f"{path} has the output {shape}; wanted (N, D) or (N, H, W, C); name a stage with {option('stages')}"
        )
    # For some formats OpenVINO changes the layout of inner layers. Activations are square, so if exactly one dimension
    # differs from the two others, that dimension has the channels.
    if (shape[2] == shape[3]) != (shape[1] == shape[2]):
        first = shape[2] == shape[3]
    return opset13.reduce_mean(floats, np.array([2, 3] if first else [1, 2], np.int64), keep_dims=False)
