"""A Keras network with the channels last → the same network with the channels first.

On OpenVINO a channels_last graph spends most of its time in transposes, and several families of networks can only be
built so. The kernels are the same in both layouts; only axes, and layers that know the last axis alone, change.
"""

from __future__ import annotations

from typing import Any

import numpy as np


class CannotConvertError(ValueError):
    """A layer is of a kind for which nothing is known."""


def channels_first(model: Any) -> Any:
    """``model``, of one input (H, W, 3) and one output of any shape (N, D), for input (3, H, W).

    Sets Keras' image data format where it succeeds: some layers go by that, whatever they were given. A network with
    layers that are not Keras' own is run once in both forms, since nothing is known of what those do with an axis.

    Raises:
        CannotConvertError: a layer is of a kind for which nothing is known, or the two forms differ.
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


def _require_equal(expected: Any, found: Any) -> None:
    import keras

    difference = np.abs(expected - keras.ops.convert_to_numpy(found)).max()
    if not difference <= 1e-4 * np.abs(expected).max():
        raise CannotConvertError(f"its output differs by {difference:g}")


def _clone(model: Any, shape: Any) -> Any:
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
    for layer in layers:
        if type(layer).__name__ == "Sequential":
            _copy_weights(layer.layers, {new.name: new for new in made[layer.name].layers})
        elif layer.name in made and layer.weights:
            made[layer.name].set_weights(_weights(layer))


def _converted(layer: Any) -> Any:
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
    if kind == "LayerScale":  # x * gamma: a depthwise convolution of one pixel
        return keras.layers.DepthwiseConv2D(1, use_bias=False, data_format="channels_first", name=layer.name)
    if kind == "Reshape" and len(config["target_shape"]) == 3:  # of squeeze and excitation
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
    numbers = list(axis) if isinstance(axis, list | tuple) else [axis]
    if any(number not in (3, -1) for number in numbers):
        raise CannotConvertError(f"{layer.name} works along axis {axis}")
    return [1] if isinstance(axis, list | tuple) else 1


def _weights(layer: Any) -> list[Any]:
    """Its weights in the shapes that the converted layer has."""
    values = layer.get_weights()
    kind = type(layer).__name__
    if kind == "Dense" and len(layer.output.shape) == 4:
        values[0] = values[0][np.newaxis, np.newaxis]
    if kind == "LayerScale":
        values[0] = values[0].reshape(1, 1, -1, 1)
    return list(values)
