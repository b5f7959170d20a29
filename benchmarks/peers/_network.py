"""The ONNX export of a run as each peer computes it: Pillow as in the export's example.py, then ONNX Runtime.

Nothing of regraft is imported here: a peer runs in an environment of its own.
"""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from PIL import Image, ImageOps


class Network:
    """The network in ``model.onnx`` of an export folder, with ``threads`` threads for a batch of photos."""

    def __init__(self, folder: Path, threads: int) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        self._session = onnxruntime.InferenceSession(folder / "model.onnx", options, providers=["CPUExecutionProvider"])
        facts = json.loads(self._session.get_modelmeta().custom_metadata_map["regraft"])
        self._classes: list[str] = facts["classes"]
        self._transform: dict[str, Any] = facts["transform"]

    def pixels(self, photo: bytes) -> Any:
        """Decode, crop and resize an encoded photo: RGB in uint8 of shape (S, S, 3)."""
        with Image.open(io.BytesIO(photo)) as opened:
            image = ImageOps.exif_transpose(opened).convert("RGB")
        width, height = image.size
        side = min(width, height) * self._transform["crop"]
        left, top = (width - side) / 2, (height - side) / 2
        resample = Image.Resampling[self._transform["resample"].upper()]
        size = (self._transform["size"],) * 2
        return np.asarray(image.resize(size, resample, box=(left, top, left + side, top + side)))

    def answers(self, batch: list[Any]) -> list[dict[str, Any]]:
        """The most probable class of each photo of a batch of pixels, and its probability."""
        probabilities = self._session.run(["probabilities"], {"image": np.stack(batch)})[0]
        best = probabilities.argmax(1)
        return [
            {"label": self._classes[i], "probability": float(row[i])}
            for i, row in zip(best, probabilities, strict=True)
        ]
