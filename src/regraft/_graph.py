"""Write a backbone's OpenVINO graph. Run as a process of its own: ``python -m regraft._graph SPEC SIZE OUT``.

A process has one Keras backend for life. Building here, with ``KERAS_BACKEND=openvino``, leaves the user's
process free to train with TensorFlow or JAX later, and free of Keras' start-up on all later runs.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

from regraft.backbones import load_backbone
from regraft.images import Transform


def write_graph(spec: str, size: int, path: Path) -> None:
    """Write ``path`` (.xml, with its .bin beside it): input uint8 RGB ``(1, S, S, 3)``, output float32 ``(1, D)``."""
    import keras
    import openvino

    # channels_last graphs spend most of their time in transposes (docs/decisions.md).
    keras.config.set_image_data_format("channels_first")
    backbone = load_backbone(spec, size)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        bare = Path(folder) / "bare.xml"
        backbone.keras_model().export(str(bare), format="openvino", verbose=False)
        model = openvino.Core().read_model(bare)
        model.reshape([1, 3, backbone.transform.size, backbone.transform.size])
        openvino.save_model(_with_transform(model, backbone.transform), path, compress_to_fp16=False)
        del model


def _with_transform(model: Any, transform: Transform) -> Any:
    """Put layout, mean, std and channel order inside the graph."""
    from openvino import Layout, Type
    from openvino.preprocess import PrePostProcessor

    steps = PrePostProcessor(model)
    steps.input().tensor().set_element_type(Type.u8).set_layout(Layout("NHWC"))
    steps.input().model().set_layout(Layout("NCHW"))
    preprocess = steps.input().preprocess().convert_element_type(Type.f32)
    if transform.channel_order == "BGR":
        preprocess.reverse_channels()
    preprocess.mean(list(transform.mean)).scale(list(transform.std))
    return steps.build()


if __name__ == "__main__":
    write_graph(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
