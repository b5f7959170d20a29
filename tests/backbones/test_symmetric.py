"""Features that are means over symmetric images: the same in every graph, run and export."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from regraft import Classifier, export
from regraft.backbones.base import load_backbone
from regraft.config.features import FeatureConfig
from regraft.engines.openvino import OpenVinoEngine
from regraft.errors import ConfigError
from tests import keras_float32
from tests.conftest import Command

LITE0 = "efficientnet_lite0"
PHOTOS = np.random.default_rng(0).integers(0, 256, (2, 96, 96, 3), dtype=np.uint8)
Change = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]


def images_of(photos: NDArray[np.uint8], symmetry: str) -> list[NDArray[np.uint8]]:
    """Return the symmetric images by NumPy alone: quarter turns, each with its mirror image."""
    turned = [np.rot90(photos, k, axes=(1, 2)) for k in range(4 if symmetry == "all" else 1)]
    return [np.ascontiguousarray(image) for some in turned for image in (some, some[:, :, ::-1])]


@pytest.mark.parametrize("symmetry", ["mirror", "all"])
def test_features_are_means_over_the_images(symmetry: str, cache: Path) -> None:
    plain, symmetric = load_backbone(LITE0, 96), load_backbone(LITE0, 96, symmetry=symmetry)
    one, mean = (OpenVinoEngine(backbone, "f32") for backbone in (plain, symmetric))
    images = images_of(PHOTOS, symmetry)
    assert len(images) == {"mirror": 2, "all": 8}[symmetry]
    expected = np.mean([one.features(image) for image in images], axis=0)
    np.testing.assert_allclose(mean.features(PHOTOS), expected, atol=2e-4)
    assert np.abs(one.features(PHOTOS) - expected).max() > 0.01
    network = symmetric.keras_model()
    mean_, std = np.array(plain.transform.mean, np.float32), np.array(plain.transform.std, np.float32)
    np.testing.assert_allclose(keras_float32.run(network, (PHOTOS - mean_) / std), expected, atol=2e-3)


@pytest.mark.parametrize(
    "change", [lambda photo: np.rot90(photo), lambda photo: photo[::-1], lambda photo: photo.transpose(1, 0, 2)]
)
def test_how_a_photo_lies_changes_nothing(change: Change, cache: Path) -> None:
    engine = OpenVinoEngine(load_backbone(LITE0, 96, symmetry="all"), "f32")
    turned = np.stack([np.ascontiguousarray(change(photo)) for photo in PHOTOS])
    np.testing.assert_allclose(engine.features(turned), engine.features(PHOTOS), atol=2e-4)


def test_a_network_without_a_keras_model(tmp_path: Path, cache: Path) -> None:
    network = load_backbone("keras:mobilenet_0.25_128", weights="none", stages="last").keras_model()
    network.export(str(tmp_path / "n.xml"), format="openvino", verbose=False)  # type: ignore[union-attr]
    spec, photos = f"file:{tmp_path / 'n.xml'}", np.random.default_rng(1).integers(0, 256, (2, 128, 128, 3), np.uint8)
    one, mean = (
        OpenVinoEngine(load_backbone(spec, pixels="-1..1", symmetry=symmetry), "f32") for symmetry in ("", "all")
    )
    expected = np.mean([one.features(image) for image in images_of(photos, "all")], axis=0)
    np.testing.assert_allclose(mean.features(photos), expected, atol=1e-3)
    assert load_backbone(spec, pixels="-1..1", symmetry="all").keras_model() is None


def test_it_has_its_own_place_in_the_cache_and_its_bases_description() -> None:
    plain, *others = (load_backbone(LITE0, 96, symmetry=symmetry) for symmetry in ("", "mirror", "all"))
    assert len({backbone.fingerprint for backbone in (plain, *others)}) == 3
    for backbone in others:
        described = [(b.stages, b.widths, b.num_features, b.licence) for b in (plain, backbone)]
        assert described[0] == described[1]


def test_a_run_keeps_its_symmetry(photos: Path, regraft: Command, tmp_path: Path) -> None:
    document = json.loads(
        regraft("train", photos, "--symmetry", "all", "--effort", "quick", "--out", "run", "--json").stdout
    )
    assert document["features"] == {"computed": 60, "cached": 0}
    with Image.open(photos / "circle" / "000.jpg") as image:
        image.save(tmp_path / "upright.png")
        image.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.png")
    classifier = Classifier.load(tmp_path / "run")
    upright, turned = classifier.predict_proba([tmp_path / "upright.png", tmp_path / "turned.png"])
    np.testing.assert_allclose(upright, turned, atol=5e-3)
    made = export(tmp_path / "run", config={"format": "openvino"})
    assert (made.comparison.agreement, made.comparison.difference) == (1.0, pytest.approx(0, abs=1e-2))


def test_an_unknown_symmetry_is_told() -> None:
    with pytest.raises(ConfigError, match="unknown symmetry 'rotate'; there is"):
        FeatureConfig(symmetry="rotate")  # type: ignore[arg-type]
