"""Write event files for TensorBoard, with the protocol buffers of the package ``tensorboard``.

Its class `EventFileWriter` is not used: it imports TensorFlow, if TensorFlow is installed, which takes seconds.
"""

from __future__ import annotations

import io
import json
import math
import struct
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regraft.foundation.console import printable
from regraft.foundation.files import naming
from regraft.foundation.tfrecord import frame

_BUCKETS = 30  # bins of a histogram
_FRAME = 16  # bytes around each event in a file: its length and two checksums
_MOST_READ = 64 * 2**20  # bytes of an event file


class EventFile:
    """The event file of one run in TensorBoard.

    Args:
        folder: the folder of the event file, made if it is missing. TensorBoard shows its name as the name of the run.
    """

    def __init__(self, folder: Path) -> None:
        from tensorboard.compat.proto.event_pb2 import Event

        folder.mkdir(parents=True, exist_ok=True)
        self._event = Event
        self._path = folder / f"events.out.tfevents.{time.time_ns()}.regraft"
        self._file = self._path.open("wb")
        self._write(file_version="brain.Event:2")

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Write one point of each curve.

        Args:
            step: the position on the horizontal axis.
            values: the value of each curve by its name. NaN is left out, since TensorBoard cannot draw it.
        """
        from tensorboard.compat.proto.summary_pb2 import Summary

        points = [Summary.Value(tag=k, simple_value=v) for k, v in values.items() if not math.isnan(v)]
        if points:
            self._write(step=step, summary=Summary(value=points))

    def histograms(self, step: int, values: Mapping[str, NDArray[np.float32]]) -> None:
        """Write a histogram of each array.

        Args:
            step: the position on the time axis.
            values: the arrays by their names, of any shape.
        """
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.plugins.histogram.metadata import create_summary_metadata
        from tensorboard.util.tensor_util import make_tensor_proto

        summaries = []
        for tag, array in values.items():
            counts, edges = np.histogram(array, _BUCKETS)
            tensor = make_tensor_proto(np.stack([edges[:-1], edges[1:], counts], axis=1))
            summaries.append(Summary.Value(tag=tag, tensor=tensor, metadata=create_summary_metadata(tag, "")))
        self._write(step=step, summary=Summary(value=summaries))

    def images(self, step: int, values: Mapping[str, bytes]) -> None:
        """Write an image of each name for the Images tab.

        Args:
            step: the position on the time axis.
            values: the bytes of PNG or JPEG files by their names.
        """
        from PIL import Image
        from tensorboard.compat.proto.summary_pb2 import Summary

        summaries = []
        for tag, data in values.items():
            with Image.open(io.BytesIO(data)) as image:
                shown = Summary.Image(encoded_image_string=data, width=image.width, height=image.height, colorspace=3)
            summaries.append(Summary.Value(tag=tag, image=shown))
        self._write(step=step, summary=Summary(value=summaries))

    def graph(self, network: str) -> None:
        """Write a Keras network for the Graphs tab. ``network`` is the JSON text that Keras writes for a network."""
        from tensorboard.plugins.graph.keras_util import keras_model_to_graph_def

        self._write(graph_def=keras_model_to_graph_def(json.loads(network)).SerializeToString())

    def hyperparameters(self, values: Mapping[str, Any]) -> None:
        """Write the hyperparameters of the run, by name, for the HParams tab."""
        from tensorboard.plugins.hparams.summary_v2 import hparams_pb

        plain = {k: v if isinstance(v, bool | int | float) else printable(str(v)) for k, v in values.items()}
        self._write(summary=hparams_pb(plain))

    def close(self) -> None:
        """Write buffered data to the disk, and close the file."""
        with naming(self._path):
            self._file.close()

    def _write(self, **fields: Any) -> None:
        with naming(self._path):
            self._file.write(frame(self._event(wall_time=time.time(), **fields).SerializeToString()))


def read_scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Return the points (step, value) of each curve in the event files of a folder, by the name of the curve.

    An event file that is cut off, damaged or larger than 64 MiB is read up to there. TensorBoard's own reader is not
    used: it imports TensorFlow, if TensorFlow is installed, which takes seconds.
    """
    from google.protobuf.message import DecodeError
    from tensorboard.compat.proto.event_pb2 import Event

    curves: dict[str, list[tuple[int, float]]] = {}
    for path in sorted(folder.glob("events.out.tfevents.*")):
        with path.open("rb") as file:
            data = file.read(_MOST_READ)
        place = 0
        while place + _FRAME <= len(data):
            (length,) = struct.unpack_from("<Q", data, place)  # then 4 bytes of checksum, the event, and 4 bytes more
            try:
                event = Event.FromString(data[place + _FRAME - 4 : place + _FRAME - 4 + length])
            except DecodeError:
                break
            for value in event.summary.value:
                if value.HasField("simple_value"):
                    curves.setdefault(value.tag, []).append((event.step, value.simple_value))
            place += _FRAME + length
    return curves
