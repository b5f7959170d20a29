"""Event files that TensorBoard reads, written with TensorBoard's own protocol.

Its `EventFileWriter` would import TensorFlow wherever that is installed, for seconds, to open a file.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from regraft._tfrecord import frame


class EventFile:
    """One TensorBoard run.

    Args:
        folder: the run's folder, made if need be; its name is what TensorBoard shows.
    """

    def __init__(self, folder: Path) -> None:
        from tensorboard.compat.proto.event_pb2 import Event

        folder.mkdir(parents=True, exist_ok=True)
        self._event = Event
        self._file = (folder / f"events.out.tfevents.{time.time_ns()}.regraft").open("wb")
        self._write(file_version="brain.Event:2")

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Write one point of each curve; NaN is left out, as there is nothing to draw."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        points = [Summary.Value(tag=k, simple_value=v) for k, v in values.items() if not math.isnan(v)]
        if points:
            self._write(step=step, summary=Summary(value=points))

    def hyperparameters(self, values: Mapping[str, Any]) -> None:
        """Write the run's hyperparameters for the HParams tab."""
        from tensorboard.plugins.hparams.summary_v2 import hparams_pb

        plain = {k: v if isinstance(v, bool | int | float | str) else str(v) for k, v in values.items()}
        self._write(summary=hparams_pb(plain))

    def close(self) -> None:
        """Write out what is buffered."""
        self._file.close()

    def _write(self, **fields: Any) -> None:
        self._file.write(frame(self._event(wall_time=time.time(), **fields).SerializeToString()))
