"""The conversion of a Keras network from channels last to channels first.

On OpenVINO a graph with channels last spends most of its time in transposes, but several families of networks can only
be built with channels last. The kernels are the same in both layouts. Only axes change, and layers that can only work
along the last axis.
"""

from __future__ import annotations

from typing import Any

import numpy as np


class CannotConvertError(ValueError):
    """The network cannot be converted: the conversion does not know a kind of layer, or the outputs differ."""


def channels_first(model: Any) -> Any:
    """Return a network that takes photos (3, H, W) and otherwise equals ``model``, which takes photos (H, W, 3).

    On success Keras' image data format is ``channels_first`` afterwards, because some layers use it and ignore their
    own setting. If the network has layers that are not part of Keras, both networks are run on random pixels and
    compared, since such a layer may use its axes in any way.

    Args:
        model: a network with one input and one output of any shape.

    Raises:
        CannotConvertError: the conversion does not know a kind of layer, or the outputs of the two networks differ.
    """
    import keras

    (shape,) = [tensor.shape for tensor in model.inputs]
    photo = np.random.default_rng(0).normal(size=(1, *shape[1:])).astype(np.float32)
    foreign = any(not type(layer).__module__.startswith("keras.src.") for layer in model.layers)
    expected = keras.ops.convert_to_numpy(model(photo)) if foreign else None
    keras.config.set_image_data_format("channels_first")
    try:
        converted = _clone(model, shape)
        if expected is not None:
            _require_equal(expected, converted(np.moveaxis(photo, 3, 1)))
    except Exception as error:
        keras.config.set_image_data_format("channels_last")
        raise CannotConvertError(str(error)) from error
    return converted


def _require_equal(expected: Any, actual: Any) -> None:
    """Raise CannotConvertError if two outputs differ by more than 1e-4 of the largest value, or are not finite."""
    import keras

    difference = np.abs(expected - keras.ops.convert_to_numpy(actual)).max()
    # "not <=" instead of ">", so that NaN is an error too
    if not difference <= 1e-4 * np.abs(expected).max():
        raise CannotConvertError(f"its output differs by {difference:g}")


def _clone(model: Any, shape: Any) -> Any:
    """Return the converted network, with the weights of ``model``. ``shape`` is the input (N, H, W, 3)."""
    import keras

    inputs = keras.Input((shape[3], *shape[1:3]), name=model.inputs[0].name)
    made: dict[str, Any] = {}

    def convert(layer: Any) -> Any:
        made[layer.name] = _converted(layer)
        return made[layer.name]

    converted = keras.models.clone_model(model, input_tensors=inputs, clone_function=convert)
    _copy_weights(model.layers, made)
    return converted


def _copy_weights(layers: list[Any], made: dict[str, Any]) -> None:
    """Copy the weights of ``layers`` to the converted layers ``made``, which are found by their names."""
    for layer in layers:
        if type(layer).__name__ == "Sequential":
            _copy_weights(layer.layers, {new.name: new for new in made[layer.name].layers})
        elif layer.name in made and layer.weights:
            made[layer.name].set_weights(_weights(layer))


def _converted(layer: Any) -> Any:
    """Return a layer like ``layer`` for channels first, without its weights. Raises CannotConvertError."""
    import keras

    kind, config = type(layer).__name__, layer.get_config()
    if kind == "Sequential":
        height, width, channels = layer.input_shape[1:]
        inner = [_converted(part) for part in layer.layers]
        return keras.Sequential([keras.Input((channels, height, width)), *inner], name=layer.name)
    rank = len(getattr(layer.output, "shape", ()))
    if kind == "Dense" and rank == 4:
        shared = {k: config[k] for k in ("name", "activation", "use_bias")}
        return keras.layers.Conv2D(config["units"], 1, data_format="channels_first", **shared)
    if kind == "LayerScale":  # x * gamma is a depthwise convolution of one pixel
        return keras.layers.DepthwiseConv2D(1, use_bias=False, data_format="channels_first", name=layer.name)
    if kind == "Reshape" and len(config["target_shape"]) == 3:  # the reshape of squeeze and excitation
        height, width, channels = config["target_shape"]
        return keras.layers.Reshape((channels, height, width), name=layer.name)
    if kind in ("Reshape", "Flatten", "Permute", "Lambda", "Softmax"):
        raise CannotConvertError(f"{layer.name} is a {kind}")
    if "data_format" in config:
        config["data_format"] = "channels_first"
    if "axis" in config and rank == 4:
        config["axis"] = _axis(config["axis"], layer)
    return type(layer).from_config(config)


def _axis(axis: Any, layer: Any) -> Any:
    """Return the channel axis for channels first. Raises CannotConvertError for any axis but the last."""
    numbers = list(axis) if isinstance(axis, list | tuple) else [axis]
    if any(number not in (3, -1) for number in numbers):
        raise CannotConvertError(f"{layer.name} works along axis {axis}")
    return [1] if isinstance(axis, list | tuple) else 1


def _weights(layer: Any) -> list[Any]:
    """Return the weights of ``layer``, in the shapes of its converted layer."""
    values = layer.get_weights()
    kind = type(layer).__name__
    if kind == "Dense" and len(layer.output.shape) == 4:
        values[0] = values[0][np.newaxis, np.newaxis]
    if kind == "LayerScale":
        values[0] = values[0].reshape(1, 1, -1, 1)
    return list(values)
