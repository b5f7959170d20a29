"""Translate an OpenVINO graph to ONNX, operation by operation, so that no other framework is needed.

Only the operations that regraft's backbones and heads use are translated. The one package that does this
(openvino2onnx) needs NumPy below 2.2.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regraft.errors import ExportError, option

OPSET = 20
"""The version of the ONNX operator set."""

_SAME = {
    "Abs": "Abs",
    "Add": "Add",
    "Ceiling": "Ceil",
    "Divide": "Div",
    "Equal": "Equal",
    "Erf": "Erf",
    "Exp": "Exp",
    "Floor": "Floor",
    "Greater": "Greater",
    "GreaterEqual": "GreaterOrEqual",
    "HSwish": "HardSwish",
    "Less": "Less",
    "Log": "Log",
    "LogicalAnd": "And",
    "LogicalNot": "Not",
    "LogicalOr": "Or",
    "Maximum": "Max",
    "Minimum": "Min",
    "Multiply": "Mul",
    "Negative": "Neg",
    "Power": "Pow",
    "Relu": "Relu",
    "Select": "Where",
    "ShapeOf": "Shape",
    "Sigmoid": "Sigmoid",
    "Sign": "Sign",
    "Sqrt": "Sqrt",
    "Subtract": "Sub",
    "Tanh": "Tanh",
}
"""Operations with the same inputs and the same meaning: OpenVINO's name and ONNX' name."""

_LONGS = {"Broadcast": "Expand", "Squeeze": "Squeeze", "Unsqueeze": "Unsqueeze"}
"""Operations whose second input must be int64 in ONNX."""

_REDUCE = {"ReduceMean": "ReduceMean", "ReduceSum": "ReduceSum", "ReduceMax": "ReduceMax", "ReduceMin": "ReduceMin"}
_TYPES = {"f16": 10, "f32": 1, "f64": 11, "i32": 6, "i64": 7, "u8": 2, "boolean": 9}  # numbers in onnx.TensorProto


def to_onnx(model: Any, metadata: Mapping[str, str]) -> Any:
    """Translate an OpenVINO graph to ONNX.

    Args:
        model: an ``openvino.Model``; its constant parts are folded in place.
        metadata: texts by key for the metadata of the ONNX file.

    Returns:
        An ``onnx.ModelProto`` that computes the same, checked by ONNX' own checker.

    Raises:
        ExportError: the graph has an operation that cannot be translated.
    """
    from openvino.passes import ConstantFolding, Manager

    manager = Manager()
    manager.register_pass(ConstantFolding())
    manager.run_passes(model)
    return _Translation(model).run(metadata)


class _Translation:
    """The ONNX nodes of an OpenVINO graph, while it is translated.

    Attributes:
        model: the OpenVINO graph.
        nodes: the ONNX nodes so far.
        initializers: the ONNX constants so far.
        names: the ONNX name of each output, by the name of the OpenVINO operation and the number of the output.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        self.nodes: list[Any] = []
        self.initializers: list[Any] = []
        self.names: dict[tuple[str, int], str] = {}

    def run(self, metadata: Mapping[str, str]) -> Any:
        """Translate the graph, and return a checked ``onnx.ModelProto``."""
        import onnx
        from onnx import helper

        inputs, outputs = [], []
        for op in self.model.get_ordered_ops():
            kind = op.get_type_name()
            if kind == "Parameter":
                name = next(iter(op.output(0).get_names()))
                self.names[op.get_name(), 0] = name
                inputs.append(helper.make_tensor_value_info(name, _type(op.output(0)), _shape(op.output(0))))
            elif kind == "Constant":
                self.names[op.get_name(), 0] = self.constant(np.array(op.data), op.get_name())
            elif kind != "Result":
                self.translate(op, kind)
        for output in self.model.outputs:
            name = next(iter(output.get_names()))
            self.add("Identity", [self.source(output.get_node(), 0)], name)
            outputs.append(helper.make_tensor_value_info(name, _type(output), _shape(output)))
        used = {name for node in self.nodes for name in node.input}  # ONNX Runtime warns of each unused constant
        initializers = [one for one in self.initializers if one.name in used]
        graph = helper.make_graph(self.nodes, "classifier", inputs, outputs, initializers)
        opset = [helper.make_opsetid("", OPSET)]
        made = helper.make_model(graph, producer_name="regraft", opset_imports=opset, ir_version=9)
        helper.set_model_props(made, dict(metadata))
        onnx.checker.check_model(made, full_check=True)
        return made

    def constant(self, values: NDArray[Any], name: str = "") -> str:
        """Add a constant (an ONNX initializer), and return its name."""
        from onnx import numpy_helper

        name = name or f"constant_{len(self.initializers)}"
        self.initializers.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def add(self, kind: str, inputs: list[str], name: str = "", count: int = 1, **attributes: Any) -> str:
        """Add an ONNX node with ``count`` outputs, and return the name of its first output."""
        from onnx import helper

        name = name or f"{kind}_{len(self.nodes)}"
        outputs = [name, *(f"{name}_{i}" for i in range(1, count))]
        self.nodes.append(helper.make_node(kind, inputs, outputs, **attributes))
        return name

    def source(self, op: Any, index: int) -> str:
        """Return the ONNX name of input ``index`` of an OpenVINO operation."""
        output = op.input_value(index)
        return self.names[output.get_node().get_name(), output.get_index()]

    def value(self, op: Any, index: int) -> NDArray[Any]:
        """Return the values of input ``index`` of an operation. Raises ExportError where the input is not constant."""
        node = op.input_value(index).get_node()
        if node.get_type_name() != "Constant":
            raise ExportError(f"an input of {op.get_type_name()} is computed in the graph; ONNX needs a constant")
        return np.array(node.data)

    def longs(self, op: Any, index: int) -> str:
        """Return the ONNX name of an integer input as int64: OpenVINO also takes int32, ONNX does not."""
        if op.input_value(index).get_node().get_type_name() == "Constant":
            return self.constant(self.value(op, index).astype(np.int64))
        return self.add("Cast", [self.source(op, index)], to=_TYPES["i64"])

    def translate(self, op: Any, kind: str) -> None:
        """Add the ONNX nodes for one OpenVINO operation of type ``kind``."""
        inputs = [self.source(op, i) for i in range(op.get_input_size())]
        if kind in _SAME:
            name = self.add(_SAME[kind], inputs, op.get_name())
        elif kind in _LONGS:
            name = self.add(_LONGS[kind], [inputs[0], *([self.longs(op, 1)] if len(inputs) > 1 else [])], op.get_name())
        elif kind in _REDUCE:
            keep = int(op.get_attributes()["keep_dims"])
            axes = self.constant(np.atleast_1d(self.value(op, 1)).astype(np.int64))
            name = self.add(_REDUCE[kind], [inputs[0], axes], op.get_name(), keepdims=keep)
        elif kind in _SPECIAL:
            name = _SPECIAL[kind](self, op, inputs)
        else:
            raise ExportError(f"ONNX export does not know the operation {kind}; type {option('format', 'openvino')}")
        self.names[op.get_name(), 0] = name
        for i in range(1, op.get_output_size()):
            self.names[op.get_name(), i] = f"{name}_{i}"


def _type(output: Any) -> int:
    """Return the ONNX number of an output's element type."""
    return _TYPES[output.get_element_type().get_type_name()]


def _shape(output: Any) -> list[int | str]:
    """Return the shape of an output, with ``N`` for a dynamic axis."""
    shape = output.get_partial_shape()
    return [shape[i].get_length() if shape[i].is_static else "N" for i in range(len(shape))]


def _window(op: Any, kernel: list[int]) -> dict[str, Any]:
    """Return strides, dilations, pads and kernel shape of a convolution or pooling, as ONNX attributes."""
    told = op.get_attributes()
    strides, dilations = list(told["strides"]), list(told.get("dilations", [1] * len(kernel)))
    begin, end = list(told["pads_begin"]), list(told["pads_end"])
    if told.get("auto_pad", "explicit") in ("same_upper", "same_lower"):
        taken, given = (shape.get_partial_shape() for shape in (op.input_value(0), op.output(0)))
        for i, size in enumerate(kernel):
            reach = (given[i + 2].get_length() - 1) * strides[i] + (size - 1) * dilations[i] + 1
            total = max(reach - taken[i + 2].get_length(), 0)
            first = total // 2 if told["auto_pad"] == "same_upper" else total - total // 2
            begin[i], end[i] = first, total - first
    elif told.get("auto_pad") == "valid":
        begin, end = [0] * len(kernel), [0] * len(kernel)
    return {"strides": strides, "dilations": dilations, "pads": [*begin, *end], "kernel_shape": kernel}


def _convolution(to: _Translation, op: Any, inputs: list[str]) -> str:
    kernel = [int(n) for n in op.input_value(1).get_shape()[2:]]
    return to.add("Conv", inputs, op.get_name(), **_window(op, kernel))


def _group_convolution(to: _Translation, op: Any, inputs: list[str]) -> str:
    groups, out, into, *kernel = (int(n) for n in op.input_value(1).get_shape())
    weights = to.constant(to.value(op, 1).reshape(groups * out, into, *kernel))
    return to.add("Conv", [inputs[0], weights], op.get_name(), group=groups, **_window(op, kernel))


def _pool(to: _Translation, op: Any, inputs: list[str]) -> str:
    told = op.get_attributes()
    window = _window(op, list(told["kernel"]))
    ceil = int(told.get("rounding_type", "floor") != "floor")
    if op.get_type_name() == "MaxPool":
        return to.add("MaxPool", inputs, op.get_name(), ceil_mode=ceil, **window)
    count = int(not told["exclude-pad"])
    return to.add("AveragePool", inputs, op.get_name(), ceil_mode=ceil, count_include_pad=count, **window)


def _batch_norm(to: _Translation, op: Any, inputs: list[str]) -> str:
    return to.add("BatchNormalization", inputs, op.get_name(), epsilon=float(op.get_attributes()["epsilon"]))


def _cast(to: _Translation, op: Any, inputs: list[str]) -> str:
    return to.add("Cast", inputs, op.get_name(), to=_type(op.output(0)))


def _clamp(to: _Translation, op: Any, inputs: list[str]) -> str:
    told = op.get_attributes()
    ends = [to.constant(np.array(told[end], np.float32)) for end in ("min", "max")]
    return to.add("Clip", [*inputs, *ends], op.get_name())


def _swish(to: _Translation, op: Any, inputs: list[str]) -> str:
    x = to.add("Mul", inputs) if len(inputs) > 1 else inputs[0]
    return to.add("Mul", [inputs[0], to.add("Sigmoid", [x])], op.get_name())


def _hard_sigmoid(to: _Translation, op: Any, inputs: list[str]) -> str:
    return to.add("HardSigmoid", inputs, op.get_name(), alpha=1 / 6, beta=0.5)


def _gelu(to: _Translation, op: Any, inputs: list[str]) -> str:
    tanh = str(op.get_attributes()["approximation_mode"]).lower() == "tanh"
    return to.add("Gelu", inputs, op.get_name(), approximate="tanh" if tanh else "none")


def _reshape(to: _Translation, op: Any, inputs: list[str]) -> str:
    zero = int(not op.get_attributes()["special_zero"])
    return to.add("Reshape", [inputs[0], to.longs(op, 1)], op.get_name(), allowzero=zero)


def _transpose(to: _Translation, op: Any, inputs: list[str]) -> str:
    return to.add("Transpose", [inputs[0]], op.get_name(), perm=[int(n) for n in to.value(op, 1)])


def _concat(to: _Translation, op: Any, inputs: list[str]) -> str:
    return to.add("Concat", inputs, op.get_name(), axis=int(op.get_attributes()["axis"]))


def _gather(to: _Translation, op: Any, inputs: list[str]) -> str:
    return to.add("Gather", inputs[:2], op.get_name(), axis=int(to.value(op, 2).ravel()[0]))


def _slice(to: _Translation, op: Any, inputs: list[str]) -> str:
    start, stop, step, *axes = (to.longs(op, i) for i in range(1, len(inputs)))
    axes = axes or [to.constant(np.arange(len(to.value(op, 1)), dtype=np.int64))]
    return to.add("Slice", [inputs[0], start, stop, *axes, step], op.get_name())


def _strided_slice(to: _Translation, op: Any, inputs: list[str]) -> str:
    """Translate a slice that only cuts, as NumPy's ``x[:, -n:]`` does; others raise ExportError."""
    told = op.get_attributes()
    if any(any(told[mask]) for mask in ("new_axis_mask", "shrink_axis_mask", "ellipsis_mask")):
        raise ExportError(
            f"ONNX export cannot translate a slice that adds or removes axes; type {option('format', 'openvino')}"
        )
    starts, stops = to.value(op, 1).astype(np.int64), to.value(op, 2).astype(np.int64)
    steps = to.value(op, 3).astype(np.int64) if len(inputs) > 3 else np.ones_like(starts)
    starts[np.array(told["begin_mask"], bool)[: len(starts)]] = 0
    stops[np.array(told["end_mask"], bool)[: len(stops)]] = np.iinfo(np.int64).max
    values = [to.constant(array) for array in (starts, stops, np.arange(len(starts), dtype=np.int64), steps)]
    return to.add("Slice", [inputs[0], *values], op.get_name())


def _pad(to: _Translation, op: Any, inputs: list[str]) -> str:
    pads = np.concatenate([to.value(op, 1), to.value(op, 2)]).astype(np.int64)
    mode = {"constant": "constant", "edge": "edge", "reflect": "reflect"}[op.get_attributes()["pad_mode"]]
    return to.add("Pad", [inputs[0], to.constant(pads), *inputs[3:4]], op.get_name(), mode=mode)


def _matmul(to: _Translation, op: Any, inputs: list[str]) -> str:
    told = op.get_attributes()
    sides = []
    for i, key in enumerate(("transpose_a", "transpose_b")):
        rank = len(op.input_value(i).get_partial_shape())
        turned = [*range(rank - 2), rank - 1, rank - 2]
        sides.append(to.add("Transpose", [inputs[i]], perm=turned) if told[key] else inputs[i])
    return to.add("MatMul", sides, op.get_name())


def _softmax(to: _Translation, op: Any, inputs: list[str]) -> str:
    return to.add("Softmax", inputs, op.get_name(), axis=int(op.get_attributes()["axis"]))


def _fake_quantize(to: _Translation, op: Any, inputs: list[str]) -> str:
    """Translate the quantisation step of an int8 network: round values to one of ``levels`` levels and scale back."""
    x, low, high, out_low, out_high = inputs
    steps = to.constant(np.array(op.get_attributes()["levels"] - 1, np.float32))
    inside = to.add("Sub", [to.add("Max", [to.add("Min", [x, high]), low]), low])
    level = to.add("Round", [to.add("Mul", [to.add("Div", [inside, to.add("Sub", [high, low])]), steps])])
    back = to.add("Mul", [to.add("Div", [level, steps]), to.add("Sub", [out_high, out_low])])
    return to.add("Add", [back, out_low], op.get_name())


def _top_k(to: _Translation, op: Any, inputs: list[str]) -> str:
    told = op.get_attributes()
    count = to.constant(np.atleast_1d(to.value(op, 1)).astype(np.int64))
    largest = int(told["mode"] == "max")
    return to.add("TopK", [inputs[0], count], op.get_name(), 2, axis=int(told["axis"]), largest=largest)


_Rule = Callable[[_Translation, Any, list[str]], str]
_SPECIAL: dict[str, _Rule] = {
    "AvgPool": _pool,
    "BatchNormInference": _batch_norm,
    "Clamp": _clamp,
    "Concat": _concat,
    "Convert": _cast,
    "Convolution": _convolution,
    "FakeQuantize": _fake_quantize,
    "Gather": _gather,
    "Gelu": _gelu,
    "GroupConvolution": _group_convolution,
    "HSigmoid": _hard_sigmoid,
    "MatMul": _matmul,
    "MaxPool": _pool,
    "Pad": _pad,
    "Reshape": _reshape,
    "Slice": _slice,
    "SoftMax": _softmax,
    "Softmax": _softmax,
    "StridedSlice": _strided_slice,
    "Swish": _swish,
    "TopK": _top_k,
    "Transpose": _transpose,
}
