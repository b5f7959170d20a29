"""Old names of networks → backbones here."""

from __future__ import annotations

import re
from pathlib import Path

from regraft.errors import BackboneError

INCEPTION = "https://tfhub.dev/google/imagenet/inception_v3/feature_vector/3"
"""The module that `retrain.py` took by default."""

_HUB = re.compile(
    r"https?://(?:www\.)?(?:tfhub\.dev|kaggle\.com/models)/.*?/(?P<name>[a-z0-9_]+)(?:/[a-z_-]+)*(?:/\d+)?/?$"
)
_MOBILENET = re.compile(r"mobilenet_v(?P<version>[12])_(?P<width>\d{3})_(?P<size>\d{2,3})$")


def backbone_of_architecture(name: str) -> str:
    """What `--architecture` named: ``inception_v3``, ``mobilenet_0.50_224`` with or without ``_quantized``, or ours."""
    return re.sub(r"^(mobilenet_[\d.]+_\d+)_quantized$", r"\1", name)


def backbone_of_module(module: str) -> str:
    """What ``--tfhub_module`` named: the same network here where Keras has it, or a module's folder on this machine.

    Raises:
        BackboneError: nothing here is known to be the same network.
    """
    if "://" not in module:
        return f"file:{module}" if Path(module).expanduser().exists() else module
    found = _HUB.match(module)
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
