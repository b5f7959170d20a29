"""The features of an ONNX network that was trained to classify or to embed photos, found in its graph.

In: an ``openvino.Model`` with the input (N, 3, H, W). Out: the same network for one photo, with features (1, D).
Why: networks of the Hub end in class scores, which are worse features than what the classifier is computed from.
Surprise: names of layers are never looked at, only those of outputs, which transformers fixes: ``last_hidden_state``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from regraft.backbones.blocks import joints_of
from regraft.backbones.openvino_network import named_output, with_features
from regraft.errors import BackboneError, option

_TOKENS = "last_hidden_state"
_EMBEDDINGS = ("pooler_output", "image_embeds")
"""The names of outputs that are features as they are, in the order of preference."""

_AFTER_CLASSIFIER = (
    *("Add", "Subtract", "Multiply", "Divide", "Convert"),
    *("Reshape", "Squeeze", "Unsqueeze", "Transpose", "ReduceMean"),
    *("Softmax", "LogSoftmax", "Sigmoid"),
)
"""The types of operations that may stand between the classifier and the class scores."""

_FIRST_STRIDE = 8  # stages with a smaller stride only have edges and colours


class OnnxNetwork:
    """An ONNX network that takes photos with channels first.

    Args:
        model: the ``openvino.Model``. `features` changes its shapes.
        path: the file, for messages.

    Attributes:
        side: the only side of the photos, in pixels, that the network takes; None if it takes any.

    Raises:
        BackboneError: the network does not take one RGB photo with channels first.
    """

    def __init__(self, model: Any, path: Path) -> None:
        self._model = model
        self._path = path
        self.side: int | None = self._side()

    def _side(self) -> int | None:
        """Return the only side of the photos, in pixels, or None. Raises BackboneError."""
        inputs = self._model.inputs
        if len(inputs) != 1:
            names = ", ".join(sorted(one.get_any_name() for one in inputs))
            raise BackboneError(f"{self._path} takes {names}; wanted one input, a photo")
        shape = inputs[0].partial_shape
        if shape.rank.is_dynamic or len(shape) != 4 or (shape[1].is_static and shape[1].get_length() != 3):
            raise BackboneError(f"{self._path} takes {shape}; wanted one RGB photo, (N, 3, H, W)")
        sides = {length.get_length() for length in (shape[2], shape[3]) if length.is_static}
        if len(sides) > 1:
            raise BackboneError(f"{self._path} takes {shape}; wanted square photos")
        return next(iter(sides), None)

    @property
    def has_attention(self) -> bool:
        """Whether the network multiplies activations by activations, as a transformer does."""
        live = _live(self._model)
        kinds = ("MatMul", "Einsum", "ScaledDotProductAttention")
        products = [op for op in self._model.get_ops() if op.get_type_name() in kinds]
        return any(len(_live_inputs(op, live)) > 1 for op in products)

    def features(self, side: int, wanted: str) -> tuple[Any, dict[str, int]]:
        """Return an OpenVINO model from one photo (1, 3, S, S) to features (1, D), and each stage's number of features.

        Args:
            side: S, the side of the photos in pixels.
            wanted: empty for all stages, ``last`` for the last one, or names separated by commas.

        Raises:
            BackboneError: the network does not take this size, there is no such stage, or no features are found.
        """
        if self.side not in (None, side):
            raise BackboneError(f"{self._path} takes photos of {self.side} px only; wanted {side} px")
        try:
            self._model.reshape([1, 3, side, side])
            return with_features(self._model, self._chosen(side, wanted), True, self._path)
        except RuntimeError as error:
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            raise BackboneError(f"{self._path} does not take photos of {side} px: {lines[-1]}") from error

    def _chosen(self, side: int, wanted: str) -> dict[str, Any]:
        """Return the output of each wanted stage by its name; see `features`. Raises BackboneError."""
        found = self._outputs(side) if wanted in ("", "last") else self._token_stages(side)
        if wanted == "last":
            return dict([list(found.items())[-1]])
        names = wanted.split(",") if wanted else list(found)
        return {name: found[name] if name in found else named_output(self._model, name) for name in names}

    def _outputs(self, side: int) -> dict[str, Any]:
        """Return the output of each stage by its name, the deepest one last. Raises BackboneError."""
        if tokens := self._token_stages(side):
            return tokens
        own = self._named_outputs()
        last = next((own[name] for name in (_TOKENS, *_EMBEDDINGS) if name in own), None)
        if last is None:
            last = self._before_classifier(own.get("logits", self._model.outputs[0].get_node().input_value(0)))
        return {**_inner_stages(self._until(last), side), last.get_node().get_friendly_name(): last}

    def _named_outputs(self) -> dict[str, Any]:
        """Return the outputs of the network by their names."""
        outputs = self._model.outputs
        return {name: output.get_node().input_value(0) for output in outputs for name in output.get_names()}

    def _token_stages(self, side: int) -> dict[str, Any]:
        """Return the average (1, D) of a transformer's patch tokens, and its class token (1, D) if there is one.

        A network that gives no tokens has no such stages. The tokens before the patch tokens are the class token and
        perhaps a distillation token or register tokens. A network without them, such as SigLIP, may have an output that
        is pooled from all tokens.

        Raises:
            BackboneError: nothing in the network tells the number of patches.
        """
        own = self._named_outputs()
        tokens = own.get(_TOKENS)  # (1, T, D), or activations (1, D, h, w) of a convolutional network
        if tokens is None or len(tokens.get_partial_shape()) != 3:
            return {}
        first = next((op for op in self._model.get_ordered_ops() if op.get_type_name() == "Convolution"), None)
        if first is None:
            raise BackboneError(f"{self._path} cuts photos into patches in an unknown way; type {option('stages')}")
        count = tokens.get_shape()[1]
        before = max(count - (side // first.get_attributes()["strides"][0]) ** 2, 0)
        found = {"patches": _mean_of(tokens, range(before, count))}
        if before:
            return {**found, "class_token": _mean_of(tokens, range(1))}
        return {**found, **{name: own[name] for name in _EMBEDDINGS[:1] if name in own}}

    def _before_classifier(self, scores: Any) -> Any:
        """Return the input (1, D) or (1, D, 1, 1) of the last layer with weights before the class scores.

        Raises:
            BackboneError: the scores do not come from such a layer.
        """
        node = scores.get_node()
        live = _live(self._until(scores))
        while node.get_type_name() in _AFTER_CLASSIFIER and (inputs := _live_inputs(node, live)):
            node = inputs[0].get_node()
        inputs = _live_inputs(node, live)
        if node.get_type_name() not in ("MatMul", "Convolution") or len(inputs) != 1:
            raise BackboneError(f"{self._path} ends in no known classifier; name a stage with {option('stages')}")
        return inputs[0]

    def _until(self, output: Any) -> Any:
        """Return the part of the network that computes ``output``, as a model of its own."""
        import openvino

        return openvino.Model([output], self._model.get_parameters(), "part")


def _mean_of(tokens: Any, places: range) -> Any:
    """Return the mean (1, D) of the tokens at some places among tokens (1, T, D).

    The sum is a product of matrices. With slices and ReduceMean, OpenVINO 2026.4 ends the process by a segmentation
    fault while it compiles networks with register tokens.
    """
    import numpy as np
    from openvino import opset13

    chosen = np.zeros((1, tokens.get_shape()[1]), np.float32)
    chosen[0, places.start : places.stop] = 1.0
    total = opset13.matmul(chosen, opset13.squeeze(opset13.convert(tokens, "f32"), np.array([0])), False, False)
    return opset13.multiply(total, np.float32(1 / len(places))).output(0)


def _live(model: Any) -> set[str]:
    """Return the unique names of the operations whose results depend on the pixels, and not on the size alone."""
    found: set[str] = set()
    for op in model.get_ordered_ops():
        if op.get_type_name() == "Parameter" or (op.get_type_name() != "ShapeOf" and _live_inputs(op, found)):
            found.add(op.get_name())
    return found


def _live_inputs(op: Any, live: set[str]) -> list[Any]:
    """Return the outputs that an operation takes as inputs and that belong to operations in ``live``."""
    return [source for source in op.input_values() if source.get_node().get_name() in live]


def _inner_stages(part: Any, side: int) -> dict[str, Any]:
    """Return the last joint (1, C, h, w) of each resolution by its name, without the lowest resolution.

    Args:
        part: the network up to its last stage.
        side: the side of the photos in pixels.
    """
    levels: dict[int, Any] = {}
    for op in _joints(part):
        shape = op.output(0).get_partial_shape()
        if shape.is_static and len(shape) == 4 and shape[2] == shape[3] and shape[2].get_length() > 1:
            levels[shape[2].get_length()] = op  # a later joint of the same resolution replaces an earlier one
    inner = [op for length, op in levels.items() if min(levels) < length <= side // _FIRST_STRIDE]
    return {op.get_friendly_name(): op.output(0) for op in inner}


def _joints(part: Any) -> list[Any]:
    """Return the ends of the blocks: the operations through which all that is computed from the pixels must pass."""
    live = _live(part)
    ops = [op for op in part.get_ordered_ops() if op.get_name() in live and op.get_type_name() != "Result"]
    place = {op.get_name(): i for i, op in enumerate(ops)}
    last_use = list(range(len(ops)))
    for i, op in enumerate(ops):
        for source in _live_inputs(op, live):
            last_use[place[source.get_node().get_name()]] = i
    return [ops[i] for i in joints_of(last_use)]
