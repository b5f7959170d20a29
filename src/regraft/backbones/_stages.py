"""The stages of a Keras network, found in its graph by resolution, and their averages as features."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from regraft.errors import BackboneError

if TYPE_CHECKING:
    import keras

_NO_STAGE = ("InputLayer", "ZeroPadding2D", "Rescaling", "Normalization")
DRAWN = "none-2"
"""What `draw_weights` draws, for fingerprints."""

_FIRST_STRIDE = 8  # stages of less are edges and colours


def pooled(photo: Any, outputs: list[tuple[str, Any]], name: str) -> keras.Model:
    """The network from ``photo`` to all of ``outputs`` side by side (N, D): maps averaged over space, rows as they are.

    Its attribute ``regraft_stages`` has their names, and how many features each makes.
    """
    import keras

    rows = [
        keras.layers.GlobalAveragePooling2D(name=f"pool_{i}")(x) if len(x.shape) == 4 else x
        for i, (_, x) in enumerate(outputs)
    ]
    features = keras.layers.Concatenate(name="features")(rows) if len(rows) > 1 else rows[0]
    model = keras.Model(photo, features, name=name)
    model.regraft_stages = {stage: row.shape[-1] for (stage, _), row in zip(outputs, rows, strict=True)}
    return model


def stage_outputs(trunk: keras.Model, size: int, wanted: str) -> list[tuple[str, Any]]:
    """The last joint of each resolution from a stride of 8 on, and the network's own output: (name, tensor).

    Args:
        trunk: without its head, channels last.
        size: side of its input in pixels.
        wanted: empty for all of them, ``last`` for the output alone, or names of layers with commas.

    Raises:
        BackboneError: there is no such layer, or it has no space to average over.
    """
    import math

    if wanted and wanted != "last":
        named = {layer.name: layer for layer in trunk.layers}
        missing = [name for name in wanted.split(",") if name not in named or len(named[name].output.shape) != 4]
        if missing:
            raise BackboneError(f"there is no stage {', '.join(missing)}; type a layer's name, or last")
        return [(name, named[name].output) for name in wanted.split(",")]
    own = trunk.output
    by_level: dict[int, tuple[str, Any]] = {}
    for layer in _joints(trunk):
        shape: tuple[int | None, ...] = tuple(getattr(layer.output, "shape", ()))
        if len(shape) == 4 and shape[1] and shape[1] > 1:
            by_level[round(math.log2(size / shape[1]))] = (layer.name, layer.output)
    last = round(math.log2(size / own.shape[1]))
    inner = [found for level, found in sorted(by_level.items()) if 2**level >= _FIRST_STRIDE and level < last]
    return ([] if wanted == "last" else inner) + [(trunk.operations[-1].name, own)]


def draw_weights(model: keras.Model) -> None:
    """Random kernels of variance 1 / inputs (Y. LeCun et al., 1998), the same on every machine and Keras backend."""
    import math

    import numpy as np

    dice = np.random.default_rng(0)
    for variable in model.trainable_variables:
        if len(variable.shape) > 1:
            shape = tuple(variable.shape)
            inputs = math.prod(shape[:2] if shape[-1] == 1 else shape[:-1])  # one channel a filter where depthwise
            variable.assign(dice.normal(0, math.sqrt(1 / inputs), shape).astype(np.float32))


def _joints(trunk: keras.Model) -> list[Any]:
    """The layers through which all that the network computes must pass: the ends of its blocks.

    A network whose blocks see more than the one before (NASNet) has none; there, all that merge branches serve.
    """
    layers = trunk.operations  # layers, and what stands between them without being one
    place = {layer.name: i for i, layer in enumerate(layers)}
    reach, found = 0, []
    last_use = [0] * len(layers)
    for layer in layers:
        for parent in _parents(layer):
            last_use[place[parent]] = max(last_use[place[parent]], place[layer.name])
    for i, layer in enumerate(layers):
        if reach <= i and type(layer).__name__ not in _NO_STAGE:
            found.append(layer)
        reach = max(reach, last_use[i])
    inner = [layer for layer in found if layer is not layers[-1]]
    return inner if len(inner) > 3 else [x for x in layers if type(x).__name__ in ("Add", "Concatenate")]


def _parents(layer: Any) -> list[str]:
    return [parent.operation.name for node in layer._inbound_nodes for parent in node.parent_nodes]
