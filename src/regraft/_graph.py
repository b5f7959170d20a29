"""Write a backbone's OpenVINO graph, in a process of its own.

A process has one Keras backend for life. Building here, with ``KERAS_BACKEND=openvino``, leaves the user's
process free to train with TensorFlow or JAX later, and free of Keras' start-up on all later runs.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, cast

from regraft._channels_first import CannotConvertError, channels_first
from regraft.backbones import GraphBackbone, _graphs, load_backbone
from regraft.errors import BackboneError
from regraft.images import Transform


def write_graph(spec: str, options: dict[str, Any], out: str) -> None:
    """Write ``out`` (.xml, with its .bin and .json beside it): input uint8 RGB ``(1, S, S, 3)``, output ``(1, D)``."""
    import keras
    import openvino

    _graphs.building_here = True
    keras.config.set_image_data_format("channels_last")  # whatever the user's own configuration says
    backbone = load_backbone(spec, **options)
    path = Path(out)
    bare = path.parent / "bare"
    bare.mkdir()
    network = backbone.keras_model()
    if network is not None:
        widths = getattr(network, "regraft_stages", None) or {"output": network.outputs[0].shape[-1]}
        model = _from_keras(_fastest(network), bare / "bare.xml")
    elif hasattr(type(backbone), "openvino_model"):
        model, widths = cast("GraphBackbone", backbone).openvino_model()
    else:
        raise BackboneError(f"{backbone.name} brings neither a Keras model nor a graph")
    model = _with_transform(model, backbone.transform)
    openvino.save_model(model, path, compress_to_fp16=False)
    path.with_suffix(".json").write_text(json.dumps({"widths": widths}), encoding="utf-8")
    del model
    shutil.rmtree(bare)  # after a failure it stays, and fills the disk as it did when that was full: see `kept_folder`


def _from_keras(network: Any, bare: Path) -> Any:
    import openvino

    network.export(str(bare), format="openvino", verbose=False)
    model = openvino.Core().read_model(bare)
    model.reshape([1, *network.inputs[0].shape[1:]])
    return model


def _fastest(network: Any) -> Any:
    """The network with its channels first where that can be (docs/decisions.md)."""
    if network.inputs[0].shape[1] == 3:
        return network
    try:
        return channels_first(network)
    except CannotConvertError:
        return network


def _with_transform(model: Any, transform: Transform) -> Any:
    """Put layout, mean, std and channel order inside the graph."""
    from openvino import Layout, Type
    from openvino.preprocess import PrePostProcessor

    steps = PrePostProcessor(model)
    steps.input().tensor().set_element_type(Type.u8).set_layout(Layout("NHWC"))
    first = model.input().shape[1] == 3
    steps.input().model().set_layout(Layout("NCHW" if first else "NHWC"))
    if len(model.output().shape) == 4:  # maps, to be cached
        steps.output().model().set_layout(Layout("NCHW" if first else "NHWC"))
        steps.output().tensor().set_element_type(Type.f16).set_layout(Layout("NHWC"))
    if model.input().get_element_type() == Type.u8:  # a quantised network takes the bytes as they are
        return steps.build()
    preprocess = steps.input().preprocess().convert_element_type(Type.f32)
    if transform.channel_order == "BGR":
        preprocess.reverse_channels()
    preprocess.mean(list(transform.mean)).scale(list(transform.std))
    return steps.build()
