"""The maps of a backbone's last stage, before they are averaged over space.

In: uint8 photos ``(size, size, 3)``. Out: the features ``(D,)``, and the maps ``(h, w, S)`` whose mean is the last S.
Why: the maps tell which parts of a photo made a feature, and so which parts made the answer.
Surprise: not every backbone has such maps. A network that takes one token in place of an average has none.
"""

from __future__ import annotations

from pathlib import Path
from queue import SimpleQueue
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from regraft.backbones.base import Backbone
from regraft.backbones.graphs import checked_graph, graph_path
from regraft.foundation.files import thread_limit, threads
from regraft.photos.images import Pixels

_THROUGH = ("Convert", "Reshape", "Squeeze", "Unsqueeze", "Transpose", "FakeQuantize")
"""The operations between the average and the output of a graph that do not mix features."""

_TOLERANCE = 1e-3  # of the largest feature


class Mapped(NamedTuple):
    """The features (D,) float32 of a photo, and the maps (h, w, S) float32 of its last stage."""

    features: NDArray[np.float32]
    maps: NDArray[np.float32]


class LastMaps:
    """Computes features together with the maps of the last stage, in f32. Several threads may use it at the same time.

    Args:
        compiled: the compiled graph, with the features as its first output and the maps as its second.
        channels_first: whether the maps of the graph are (1, S, h, w), and not (1, h, w, S).
    """

    def __init__(self, compiled: Any, channels_first: bool) -> None:
        self._first = channels_first
        self._requests: SimpleQueue[Any] = SimpleQueue()
        for _ in range(threads()):  # all are made before the first runs: OpenVINO can deadlock otherwise
            self._requests.put(compiled.create_infer_request())

    @classmethod
    def of(cls, backbone: Backbone, int8: Path | None = None) -> Self | None:
        """Return what computes the maps of a backbone; None if its last stage is not an average over space.

        Args:
            backbone: the backbone, not several side by side.
            int8: the quantised graph of the backbone, where a run computes in int8.

        Raises:
            BackboneError: the graph of the backbone cannot be built.
        """
        import openvino

        core = openvino.Core()
        model = core.read_model(str(checked_graph(int8) if int8 else graph_path(backbone)))
        average = _average(model.get_results()[0])
        around = _averaged_axes(average) if average is not None else []
        if around not in ([1, 2], [2, 3]):
            return None
        maps, first = average.input_value(0), around == [2, 3]
        if maps.get_shape()[1 if first else 3] != backbone.widths[-1]:
            return None
        model.add_outputs([maps])
        hints = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "THROUGHPUT"}
        limit = {"INFERENCE_NUM_THREADS": str(count)} if (count := thread_limit()) else {}
        found = cls(core.compile_model(model, "CPU", {**hints, **limit}), first)
        return found if found._is_exact(backbone.transform.size) else None

    def _is_exact(self, size: int) -> bool:
        """Return whether the mean of the maps is the last features, on a photo of noise: a network may scale either."""
        photo = np.random.default_rng(0).integers(0, 256, (size, size, 3), np.uint8)
        features, maps = self.run(photo)
        wanted = features[-maps.shape[2] :]
        return bool(np.abs(maps.mean(axis=(0, 1)) - wanted).max() <= _TOLERANCE * np.abs(wanted).max())

    def run(self, pixels: Pixels) -> Mapped:
        """Return features and maps of a transformed photo (size, size, 3) uint8."""
        request = self._requests.get()
        try:
            found = request.infer({0: pixels[np.newaxis]}, share_inputs=True)
            features, maps = np.array(found[0][0], np.float32), np.array(found[1][0], np.float32)
        finally:
            self._requests.put(request)
        return Mapped(features, np.ascontiguousarray(np.moveaxis(maps, 0, 2)) if self._first else maps)


def _average(result: Any) -> Any:
    """Return the operation of a graph that averages the maps of the last stage; None if there is none.

    Args:
        result: the output of the graph. From here on it is looked for against the direction of the computation: of
            stages that stand side by side, the last one is taken.
    """
    node = result.input_value(0).get_node()
    while True:
        kind = node.get_type_name()
        if kind in ("ReduceMean", "AvgPool"):
            shape = list(node.input_value(0).get_shape())
            if len(shape) != 4 or sum(length > 1 for length in shape) > 1:
                return node if len(shape) == 4 else None
        elif kind not in (*_THROUGH, "Concat"):
            return None
        node = node.input_value(node.get_input_size() - 1 if kind == "Concat" else 0).get_node()


def _averaged_axes(average: Any) -> list[int]:
    """Return the axes that an operation of a graph averages over; none for an average over a part of the photo."""
    if average.get_type_name() == "ReduceMean":
        axes = average.input_value(1).get_node()
        if axes.get_type_name() == "Constant":
            return sorted(int(axis) % 4 for axis in np.ravel(axes.get_data()))
    # AvgPool has its channels first, and so has ONNX' GlobalAveragePool, whose axes are computed from a shape.
    return [2, 3] if list(average.output(0).get_shape())[2:] == [1, 1] else []
