"""The blocks of a network, and the cut of a network into a frozen trunk and the thawed blocks above it.

Blocks are found in the graph of the network, never by the names of its layers. In a residual network a block lies
between two places where branches part or meet. In a network without branches a block begins at each convolution whose
kernel is larger than one pixel.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from regraft.errors import BackboneError, option

if TYPE_CHECKING:
    import keras

BatchNorm = Literal["frozen", "trained", "statistics"]


def pooled_maps(network: keras.Model) -> list[Any]:
    """Return the activations (N, H, W, C) whose averages over space are the features, in the order of the features.

    Raises:
        BackboneError: the features are not averages of activations over space.
    """
    pools = [row._keras_history.operation for row in _rows(network)]
    if any(type(pool).__name__ != "GlobalAveragePooling2D" for pool in pools):
        raise BackboneError(
            "the backbone's features are not averages over space: it has no blocks to thaw, and stays frozen"
        )
    return [pool.input for pool in pools]


def _rows(network: keras.Model) -> list[Any]:
    """Return the parts of the features, one for each stage."""
    last = network.operations[-1]
    return list(last.input) if type(last).__name__ == "Concatenate" else [network.outputs[0]]


def blocks(network: keras.Model) -> list[Any]:
    """Return the activations (N, H, W, C) at which each block begins, from the input of the network on.

    Raises:
        BackboneError: the features are not averages over space, or no block was found.
    """
    final = pooled_maps(network)[-1]._keras_history.operation
    inside = _ancestors(final)
    order = [op for op in network.operations if op in inside]
    place = {op: i for i, op in enumerate(order)}
    children: dict[Any, list[Any]] = {op: [] for op in order}
    for op in order:
        for parent in set(_parents(op)):
            children[parent].append(op)
    uses = [max((place[child] for child in children[op]), default=i) for i, op in enumerate(order)]
    joints = [order[i] for i in joints_of(uses)[:-1] if _is_map(order[i]) and _parents(order[i])]
    # A block begins where branches meet (several parents) or part (several children).
    found = [op for op in joints if sum(map(_is_map, set(_parents(op)))) > 1 or sum(map(_is_map, children[op])) > 1]
    found = [op for op, later in zip_longest(found, found[1:]) if _has_weights(order, op, later)]
    if len(found) < 3:  # the network is a chain, almost without branches
        found = [op for op in joints if any(_looks_around(child) for child in children[op])]
    if not found:
        raise BackboneError(f"the backbone has no blocks that can be thawed one by one; type {option('thaw', 'all')}")
    return [op.output for op in found]


def joints_of(last_use: Sequence[int]) -> list[int]:
    """Return the numbers of the operations through which all paths pass: nothing before them is used after them.

    ``last_use`` has for each operation, in the order of computation, the number of the last one that uses its result,
    or its own if none does.
    """
    reach, joints = 0, []
    for number, last in enumerate(last_use):
        if reach <= number:
            joints.append(number)
        reach = max(reach, last)
    return joints


def _is_map(op: Any) -> bool:
    """Return whether the output is a map (N, H, W, C), and not the single pixel of squeeze and excitation."""
    shape: tuple[int | None, ...] = tuple(getattr(op.output, "shape", ()))
    return len(shape) == 4 and shape[1] != 1


def _has_weights(order: list[Any], op: Any, later: Any) -> bool:
    """Return whether any operation after ``op``, up to ``later``, has weights. None stands for the end of the network.

    Without weights there is no block between them, as between an addition and the activation function after it.
    """
    end = order.index(later) if later is not None else len(order)
    return any(getattr(x, "weights", ()) for x in order[order.index(op) + 1 : end + 1])


def _looks_around(op: Any) -> bool:
    """Return whether an operation is a convolution with a kernel larger than one pixel."""
    return max(getattr(op, "kernel_size", (1,))) > 1 and "Conv" in type(op).__name__


def _ancestors(op: Any) -> set[Any]:
    """Return all operations on which ``op`` depends, ``op`` included."""
    ancestors, todo = {op}, [op]
    while todo:
        for parent in _parents(todo.pop()):
            if parent not in ancestors:
                ancestors.add(parent)
                todo.append(parent)
    return ancestors


def _parents(op: Any) -> list[Any]:
    """Return the operations whose outputs are the inputs of ``op``."""
    return [parent.operation for node in op._inbound_nodes[:1] for parent in node.parent_nodes]


@dataclass
class Upper:
    """The blocks above a cut, as a network that can be trained.

    Attributes:
        model: takes the activations (N, h, w, C) at the cut, of any height and width, and returns the features (N, D')
            that training changes.
        kept: the number of features below the cut. They are the first features of a row, and do not change.
        layers: for each original layer that is trained: this layer, its counterpart in ``model``, and the factor of
            the batch normalisation that was folded into the counterpart, or None.
    """

    model: keras.Model
    kept: int
    layers: list[tuple[Any, Any, Any]]

    def write_back(self) -> None:
        """Copy the trained weights to the original layers. Frozen weights keep their exact values."""
        for original, trained, scale in self.layers:
            values = [np.asarray(value) for value in original.get_weights()]
            learned = [np.reshape(w, v.shape) for w, v in zip(trained.get_weights(), values, strict=False)]
            if scale is not None:  # a channel with a factor near 0 has no output: its kernel keeps its old values
                factor = _along(original, scale)
                kernel = learned[0] / np.where(np.abs(factor) > 1e-6, factor, 1)
                learned = [np.where(np.abs(factor) > 1e-6, kernel, values[0])]
            original.set_weights([*learned, *values[len(learned) :]])


def upper(network: keras.Model, cut: Any, batch_norm: BatchNorm, bf16: bool, norms_only: bool = False) -> Upper:
    """Return the part of a network above a cut, with a copy of the weights, for training.

    Frozen batch normalisation is folded into the convolution before it. `Upper.write_back` divides it out again.
    Convolutions of one pixel become matrix products, which are faster to train.

    Args:
        network: the whole network, whose features are averages over space.
        cut: the activations (N, h, w, C) at which the lowest thawed block begins; see `blocks`.
        batch_norm: ``frozen`` keeps the batch normalisation as it is; ``trained`` trains its weights and updates its
            statistics; ``statistics`` only updates its statistics.
        bf16: whether the matrix products are computed in bf16.
        norms_only: whether all layers but batch normalisation stay frozen.
    """
    import keras

    maps = pooled_maps(network)
    start = keras.Input((None, None, cut.shape[-1]), name="activations")
    values: dict[int, Any] = {id(cut): start}
    folded = _foldable(network) if batch_norm == "frozen" else {}
    layers: list[tuple[Any, Any, Any]] = []
    for op in _above(network, values):
        if op in folded.values():  # a batch normalisation that is folded into the convolution before it
            values[id(op.output)] = values[id(op._inbound_nodes[0].input_tensors[0])]
            continue
        is_layer = isinstance(op, keras.layers.Layer)
        new, scale = _counterpart(op, folded.get(op), bf16) if is_layer else (op, None)
        values[id(op.output)] = _called(new, op, values)
        if is_layer and new.weights:
            _take_weights(op, new, folded.get(op), scale)
            layers += [(op, new, scale)] if _set_trainable(new, batch_norm, norms_only) else []
    rows = [keras.layers.GlobalAveragePooling2D()(values[id(x)]) for x in _changed(maps, values, cut)]
    model = keras.Model(start, keras.layers.Concatenate()(rows) if len(rows) > 1 else rows[0], name="upper")
    changed = sum(x.shape[-1] for x in _changed(maps, values, cut))
    return Upper(model, sum(x.shape[-1] for x in maps) - changed, layers)


def joined(frozen: keras.Model, tuned: keras.Model, count: int) -> keras.Model:
    """Return a network with the features of a frozen network, and beside them those of its fine-tuned copy.

    The blocks below the last ``count`` are the same in both, and are computed once. The features of these blocks stand
    in the result once.

    Args:
        frozen: the network as it was, with features (N, D).
        tuned: the network with other weights in the last ``count`` blocks; D' of its features lie in them.
        count: the number of blocks.

    Returns:
        The network from photos to features (N, D + D').

    Raises:
        BackboneError: the networks have fewer blocks.
    """
    import keras

    cut = cut_of(tuned, count)
    values: dict[int, Any] = {id(cut): cut_of(frozen, count)}
    for op in _above(tuned, values):
        if not isinstance(op, keras.layers.Layer):
            values[id(op.output)] = _called(op, op, values)
            continue
        copy = type(op).from_config({**op.get_config(), "name": f"tuned_{op.name}"})
        values[id(op.output)] = _called(copy, op, values)
        copy.set_weights(op.get_weights())
    changed = _changed(pooled_maps(tuned), values, cut)
    pools = [keras.layers.GlobalAveragePooling2D(name=f"tuned_pool_{i}") for i in range(len(changed))]
    rows = [pool(values[id(x)]) for pool, x in zip(pools, changed, strict=True)]
    model = keras.Model(frozen.inputs[0], keras.layers.Concatenate(name="joined")([*_rows(frozen), *rows]))
    names = getattr(frozen, "regraft_stages", None) or {"output": frozen.outputs[0].shape[-1]}
    again = [(f"tuned {name}", names[name]) for name in list(names)[-len(rows) :]]
    model.regraft_stages = {**names, **dict(again)}
    return model


def cut_of(network: keras.Model, thawed: int) -> Any:
    """Return the activations (N, h, w, C) at which the last ``thawed`` blocks begin.

    Raises:
        BackboneError: the network has fewer blocks.
    """
    found = blocks(network)
    if not 0 < thawed <= len(found):
        raise BackboneError(
            f"the backbone has {len(found)} blocks to thaw, not {thawed}; or type {option('thaw', 'all')}"
        )
    return found[-thawed]


def _above(network: keras.Model, values: dict[int, Any]) -> Iterator[Any]:
    """Yield each operation whose inputs all have a value, in the order of computation. The caller adds its output."""
    for op in network.operations:
        given = [id(x) for x in op._inbound_nodes[0].input_tensors]
        if given and id(op.output) not in values and all(x in values for x in given):
            yield op


def _called(new: Any, op: Any, values: dict[int, Any]) -> Any:
    """Return the output of ``new`` for the values of the inputs of ``op``. ``new`` is ``op`` itself, or a layer."""
    node = op._inbound_nodes[0]
    if new is op:
        args, kwargs = node.arguments.fill_in(values)
        return op(*args, **kwargs)
    inputs = [values[id(x)] for x in node.input_tensors]
    return new(inputs if len(inputs) > 1 or isinstance(op.input, list) else inputs[0])


def _changed(maps: list[Any], values: dict[int, Any], cut: Any) -> list[Any]:
    """Return the maps above a cut: those that have a value, except for the cut itself."""
    return [x for x in maps if id(x) in values and id(x) != id(cut)]


def _set_trainable(layer: Any, batch_norm: BatchNorm, norms_only: bool) -> bool:
    """Freeze a layer that is not to be trained, and return whether training changes the layer."""
    kind = type(layer).__name__
    if norms_only or kind == "DepthwiseConv2D":
        layer.trainable = False
    if kind == "BatchNormalization":
        layer.trainable = batch_norm != "frozen"
        for variable in layer.trainable_variables if batch_norm == "statistics" else ():
            variable.trainable = False
    return bool(layer.trainable)


def _foldable(network: keras.Model) -> dict[Any, Any]:
    """Return each convolution that only a batch normalisation follows, with that batch normalisation."""
    users: dict[Any, list[Any]] = {}
    for op in network.operations:
        for parent in _parents(op):
            users.setdefault(parent, []).append(op)
    return {
        op: following[0]
        for op, following in users.items()
        if type(op).__name__ in ("Conv2D", "DepthwiseConv2D")
        and len(following) == 1
        and type(following[0]).__name__ == "BatchNormalization"
        and op.get_config()["activation"] in (None, "linear")
    }


def _counterpart(op: Any, norm: Any, bf16: bool) -> tuple[Any, Any]:
    """Return a new layer like ``op``, and the factor of each output channel from ``norm``; None without ``norm``."""
    config, kind = op.get_config(), type(op).__name__
    scale = None
    if norm is not None:
        gamma, _, _, variance = _norm_weights(norm)
        scale = gamma / np.sqrt(variance + norm.epsilon)
        config["use_bias"] = True
    if kind == "Conv2D" and op.kernel_size == (1, 1) and op.strides == (1, 1) and op.groups == 1:
        return _pointwise(op.filters, config["activation"], config["use_bias"], bf16), scale
    return type(op).from_config(config), scale


def _pointwise(units: int, activation: Any, use_bias: bool, bf16: bool) -> Any:
    """Return a layer that computes a convolution of one pixel as a matrix product. Only the product is in bf16."""
    import keras
    from keras import ops

    class Pointwise(keras.layers.Dense):  # type: ignore[misc]
        """A dense layer over the channels of activations (N, H, W, C)."""

        def call(self, maps: Any) -> Any:
            """Return the activations (N, H, W, units)."""
            kind = "bfloat16" if bf16 else "float32"
            rows = ops.reshape(ops.cast(maps, kind), (-1, maps.shape[-1]))
            product = ops.cast(ops.matmul(rows, ops.cast(self.kernel, kind)), "float32")
            result = ops.reshape(product + self.bias if self.use_bias else product, (*ops.shape(maps)[:-1], self.units))
            return self.activation(result)

    return Pointwise(units, activation, use_bias)


def _take_weights(op: Any, new: Any, norm: Any, scale: Any) -> None:
    """Copy the weights of ``op`` to its counterpart ``new``, with the batch normalisation ``norm`` folded in."""
    values = op.get_weights()
    if norm is not None:
        _, beta, mean, _ = _norm_weights(norm)
        before = values[1] if len(values) > 1 else 0.0
        values = [values[0] * _along(op, scale), beta + (before - mean) * scale]
        new.bias.trainable = False  # this bias comes from the frozen batch normalisation
    values[0] = values[0].reshape(new.weights[0].shape)
    new.set_weights(values)


def _along(conv: Any, scale: Any) -> Any:
    """Return the factor of each output channel, in a shape that can be multiplied with the kernel of ``conv``."""
    return scale.reshape((1, 1, -1, conv.depth_multiplier)) if "Depthwise" in type(conv).__name__ else scale


def _norm_weights(norm: Any) -> tuple[Any, Any, Any, Any]:
    """Return gamma, beta, mean and variance of a batch normalisation. If it has no gamma or beta, these are 1 or 0."""
    *learned, mean, variance = norm.get_weights()
    gamma = learned[0] if norm.scale else np.ones_like(mean)
    beta = learned[-1] if norm.center else np.zeros_like(mean)
    return gamma, beta, mean, variance
