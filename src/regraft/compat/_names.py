"""Translate the names of networks in classic commands into backbones of regraft."""

from __future__ import annotations

import re
from pathlib import Path

from regraft.backbones.base import load_backbone
from regraft.errors import BackboneError
from regraft.features.backbone_choice import AUTO
from regraft.foundation import console

INCEPTION = "https://tfhub.dev/google/imagenet/inception_v3/feature_vector/3"
"""The default of ``--tfhub_module`` in ``retrain.py``."""

_HUB = re.compile(
    r"https?://(?:www\.)?(?:tfhub\.dev|kaggle\.com/models)/.*?/(?P<name>[a-z0-9_]+)(?:/[a-z_-]+)*(?:/\d+)?/?$"
)
_MOBILENET = re.compile(r"mobilenet_v(?P<version>[12])_(?P<width>\d{3})_(?P<size>\d{2,3})$")
_IN_FLOATS = "its weights are in floats here; regraft-quantize-graph puts what was learned into 8 bits"


def pixels_of(backbone: str) -> str:
    """Return the range of pixels for a module in a folder: 0 to 1, as for all image modules of TensorFlow Hub."""
    return "0..1" if backbone.startswith("file:") else ""


def weights_in(folder: str, backbone: str) -> str:
    """Return the file of weights that Keras would download, where it is in ``folder`` already; else an empty string."""
    if backbone == AUTO:
        return ""
    found = load_backbone(backbone)
    file = f"{found.name.removeprefix('keras:')}_weights_tf_dim_ordering_tf_kernels_notop.h5"
    if mobilenet := re.fullmatch(r"keras:mobilenet(?:_(0\.\d\d))?", found.name):
        share = {"0.75": "7_5", "0.50": "5_0", "0.25": "2_5"}.get(mobilenet[1], "1_0")
        file = f"mobilenet_{share}_{found.transform.size}_tf_no_top.h5"
    path = Path(folder).expanduser() / file
    return str(path) if path.is_file() else ""


def backbone_of_architecture(name: str) -> str:
    """Return the backbone for a value of ``--architecture``.

    Such a value is ``inception_v3``, ``mobilenet_0.50_224`` with or without ``_quantized``, or any backbone of regraft.
    """
    plain = re.sub(r"^(mobilenet_[\d.]+_\d+)_quantized$", r"\1", name)
    if plain != name:
        console.say(f"{name}: {_IN_FLOATS}")
    return plain


def backbone_of_module(module: str) -> str:
    """Return the backbone for a value of ``--tfhub_module``.

    For an address it is the same network in Keras; for a folder, the module in that folder.

    Raises:
        BackboneError: no backbone of regraft is known to be the same network.
    """
    if "://" not in module:
        return f"file:{module}" if Path(module).expanduser().exists() else module
    found = _HUB.match(module)
    if "/quantops/" in module:
        console.say(f"{module}: {_IN_FLOATS}")
    parts = [part for part in module.split("/") if re.match(r"(inception|mobilenet|resnet|nasnet|efficientnet)", part)]
    name = parts[0] if parts else found["name"] if found else module
    if mobilenet := _MOBILENET.match(name):
        family = "mobilenet" if mobilenet["version"] == "1" else "mobilenet_v2"
        return f"keras:{family}_{int(mobilenet['width']) / 100:.2f}_{mobilenet['size']}"
    known = {
        "inception_v3": "keras:inception_v3",
        "inception_resnet_v2": "keras:inception_resnet_v2",
        "nasnet_mobile": "keras:nasnet_mobile",
        "mobilenet_v2": "keras:mobilenet_v2_1.00_224",
        "nasnet_large": "keras:nasnet_large",
        **{f"resnet_v{v}_{n}": f"keras:resnet{n}{'_v2' if v == 2 else ''}" for v in (1, 2) for n in (50, 101, 152)},
    }
    if name not in known:
        raise BackboneError(
            f"no network here is known to be {module}; type --architecture with a backbone (`regraft info backbones` "
            "lists them), or --tfhub_module with the folder of a module you have"
        )
    return known[name]
