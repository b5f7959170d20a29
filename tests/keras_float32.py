"""Run a Keras model exactly: on its OpenVINO backend, `predict` rounds to bf16 where the processor has it."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


def run(model: Any, x: NDArray[np.float32]) -> NDArray[np.float32]:
    """The model's only output for ``x``, in float32."""
    import openvino

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.xml"
        model.export(str(path), format="openvino", verbose=False)
        compiled = openvino.Core().compile_model(str(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        # One by one: the export of some layers is good for one photo only.
        return np.concatenate([compiled(x[i : i + 1])[0].copy() for i in range(len(x))])
