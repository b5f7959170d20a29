"""The building of a backbone's OpenVINO graph, in a process of its own.

Keras has one backend for the whole life of a process. The graph is built in a process with ``KERAS_BACKEND=openvino``.
So the process of the user can still train with TensorFlow or JAX, and later runs need not import Keras at all.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, cast

from regraft.backbones import graphs
from regraft.backbones.base import Backbone, GraphBackbone, load_backbone
from regraft.backbones.channels_first import CannotConvertError, channels_first
from regraft.backbones.symmetric import Symmetric, averaged, of_one_image
from regraft.errors import BackboneError
from regraft.foundation.keras_import import import_keras
from regraft.photos.images import Transform


def write_graph(spec: str, options: dict[str, Any], out: str) -> None:
    """Build a backbone's graph and write it to a file.

    The graph takes a photo ``(1, S, S, 3)``, uint8 RGB, and returns its features ``(1, D)``. For a `Trunk` it returns
    the activations ``(1, H, W, C)`` in float16.

    Args:
        spec: the name of the backbone.
        options: the options of `load_backbone`.
        out: the path of the graph (.xml). A .bin and a .json are written beside it.

    Raises:
        BackboneError: the backbone cannot be built.
    """
    import openvino

    keras = import_keras()
    graphs.building_here = True
    keras.config.set_image_data_format("channels_last")  # the user's Keras configuration may say otherwise
    backbone = load_backbone(spec, **options)
    path = Path(out)
    bare = path.parent / "bare"
    bare.mkdir()
    model, widths = _bare_model(of_one_image(backbone), bare / "bare.xml")
    if isinstance(backbone, Symmetric):
        model = averaged(model, backbone.options.symmetry)
    model = _with_transform(model, backbone.transform)
    openvino.save_model(model, path, compress_to_fp16=False)
    path.with_suffix(".json").write_text(json.dumps({"widths": widths}), encoding="utf-8")
    del model
    # Not in a finally clause: after a failure on a full disk, `kept_folder` needs the disk to be as full as it was.
    shutil.rmtree(bare)


def _bare_model(backbone: Backbone, path: Path) -> tuple[Any, dict[str, int]]:
    """Return the OpenVINO model of a backbone for one photo after mean and standard deviation, and its stages.

    Args:
        backbone: the backbone.
        path: where Keras may write a model.

    Raises:
        BackboneError: the backbone cannot be built.
    """
    if (network := backbone.keras_model()) is not None:
        widths = getattr(network, "regraft_stages", None) or {"output": network.outputs[0].shape[-1]}
        return _from_keras(_fastest(network), path), widths
    if not backbone.has_keras_model:
        return cast("GraphBackbone", backbone).openvino_model()
    raise BackboneError(f"{backbone.name} brings neither a Keras model nor a graph")


def _from_keras(network: Any, bare: Path) -> Any:
    """Return the OpenVINO model of a Keras network for one photo, which Keras exports to the path ``bare``."""
    import openvino

    network.export(str(bare), format="openvino", verbose=False)
    model = openvino.Core().read_model(bare)
    model.reshape([1, *network.inputs[0].shape[1:]])
    return model


def _fastest(network: Any) -> Any:
    """Return the network with channels first, which is faster (docs/decisions.md), or as it is if that fails."""
    if network.inputs[0].shape[1] == 3:
        return network
    try:
        return channels_first(network)
    except CannotConvertError:
        return network


def _with_transform(model: Any, transform: Transform) -> Any:
    """Return the model with layout, mean, standard deviation and channel order as part of its graph."""
    from openvino import Layout, Type
    from openvino.preprocess import PrePostProcessor

    steps = PrePostProcessor(model)
    steps.input().tensor().set_element_type(Type.u8).set_layout(Layout("NHWC"))
    first = model.input().shape[1] == 3
    steps.input().model().set_layout(Layout("NCHW" if first else "NHWC"))
    if len(model.output().shape) == 4:  # activations: float16 halves their size in the cache
        steps.output().model().set_layout(Layout("NCHW" if first else "NHWC"))
        steps.output().tensor().set_element_type(Type.f16).set_layout(Layout("NHWC"))
    if model.input().get_element_type() == Type.u8:  # a quantised network takes the bytes as they are
        return steps.build()
    preprocess = steps.input().preprocess().convert_element_type(Type.f32)
    if transform.channel_order == "BGR":
        preprocess.reverse_channels()
    preprocess.mean(list(transform.mean)).scale(list(transform.std))
    return steps.build()
