"""The stages of a Keras network: they are found in its graph by resolution, and their averages are the features."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from regraft.errors import BackboneError

if TYPE_CHECKING:
    import keras

_NO_STAGE = ("InputLayer", "ZeroPadding2D", "Rescaling", "Normalization")
"""The layers before the first block, which are never a stage."""

DRAWN = "none-2"
"""The part of a fingerprint that stands for the random weights of `draw_weights`. Change it when they change."""

_FIRST_STRIDE = 8  # stages with a smaller stride only have edges and colours


def pooled(photo: Any, outputs: list[tuple[str, Any]], name: str) -> keras.Model:
    """Return a network whose output is the features (N, D): all outputs, averaged over space and concatenated.

    The attribute ``regraft_stages`` of the network has the number of features of each stage by its name.

    Args:
        photo: the input tensor, (N, H, W, 3).
        outputs: the name and the output tensor of each stage: (N, h, w, C), or (N, C), which is not averaged.
        name: the name of the network.
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
    """Return the name and the output tensor (N, h, w, C) of each stage.

    A stage is the last block of each resolution, from a stride of 8 on. The last stage is the output of the network.

    Args:
        trunk: the network without its head, with channels last.
        size: the side of the photos in pixels.
        wanted: empty for all stages, ``last`` for the output alone, or names of layers, separated by commas.

    Raises:
        BackboneError: there is no such layer, or its output is not (N, h, w, C).
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
            # 2 ** level is the stride. A later layer of the same level replaces an earlier one.
            by_level[round(math.log2(size / shape[1]))] = (layer.name, layer.output)
    last = round(math.log2(size / own.shape[1]))
    inner = [stage for level, stage in sorted(by_level.items()) if 2**level >= _FIRST_STRIDE and level < last]
    return ([] if wanted == "last" else inner) + [(trunk.operations[-1].name, own)]


def draw_weights(model: keras.Model) -> None:
    """Set random kernels of variance 1 / inputs (Y. LeCun et al., 1998).

    The weights are the same on every machine and with every Keras backend.
    """
    import math

    import numpy as np

    rng = np.random.default_rng(0)
    for variable in model.trainable_variables:
        if len(variable.shape) > 1:
            shape = tuple(variable.shape)
            # A depthwise kernel (h, w, C, 1) has h * w inputs for each output.
            inputs = math.prod(shape[:2] if shape[-1] == 1 else shape[:-1])
            variable.assign(rng.normal(0, math.sqrt(1 / inputs), shape).astype(np.float32))


def _joints(trunk: keras.Model) -> list[Any]:
    """Return the ends of the blocks: the layers through which all paths of the network pass.

    A network whose blocks also use the output of the block before the last one (NASNet) has no such layers. For such a
    network all layers that merge branches are returned.
    """
    layers = trunk.operations  # layers, and operations such as additions that are no layers
    place = {layer.name: i for i, layer in enumerate(layers)}
    reach, joints = 0, []
    last_use = [0] * len(layers)
    for layer in layers:
        for parent in _parents(layer):
            last_use[place[parent]] = max(last_use[place[parent]], place[layer.name])
    for i, layer in enumerate(layers):
        if reach <= i and type(layer).__name__ not in _NO_STAGE:
            joints.append(layer)
        reach = max(reach, last_use[i])
    inner = [layer for layer in joints if layer is not layers[-1]]
    return inner if len(inner) > 3 else [x for x in layers if type(x).__name__ in ("Add", "Concatenate")]


def _parents(layer: Any) -> list[str]:
    """Return the names of the layers whose outputs are inputs of ``layer``."""
    return [parent.operation.name for node in layer._inbound_nodes for parent in node.parent_nodes]
