"""Small presets with random weights, saved by KerasHub and loaded from their folders. Needs the extra hub."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from regraft.backbones import keras_hub
from regraft.backbones.base import Backbone, load_backbone
from regraft.engines.openvino import OpenVinoEngine
from regraft.errors import BackboneError
from tests.conftest import Command

needs_hub = pytest.mark.skipif(find_spec("keras_hub") is None, reason="needs the extra hub")
PHOTOS = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)

MAKE = """
import sys
from pathlib import Path
import keras_hub
from keras_hub.layers import EfficientNetImageConverter, ResNetImageConverter, SigLIPImageConverter, ViTImageConverter
from keras_hub.models import EfficientNetBackbone, ResNetBackbone, SigLIPBackbone, SigLIPTextEncoder
from keras_hub.models import SigLIPVisionEncoder, ViTBackbone

tower = dict(num_layers=2, num_heads=2, hidden_dim=32, intermediate_dim=64)
made = {
    "resnet": (ResNetImageConverter, ResNetBackbone(
        input_conv_filters=[64], input_conv_kernel_sizes=[7], stackwise_num_filters=[64, 64, 128, 128],
        stackwise_num_blocks=[1, 1, 1, 1], stackwise_num_strides=[1, 2, 2, 2], block_type="basic_block",
    )),
    "efficientnet": (EfficientNetImageConverter, EfficientNetBackbone(
        stackwise_kernel_sizes=[3, 3, 5], stackwise_num_repeats=[1, 2, 1], stackwise_input_filters=[32, 16, 24],
        stackwise_output_filters=[16, 24, 40], stackwise_expansion_ratios=[1, 6, 6], stackwise_strides=[1, 2, 2],
        stackwise_squeeze_and_excite_ratios=[0.25] * 3, stackwise_block_types=["v1"] * 3, width_coefficient=1.0,
        depth_coefficient=1.0,
    )),
    "vit": (ViTImageConverter, ViTBackbone(
        image_shape=(64, 64, 3), patch_size=16, num_layers=2, num_heads=2, hidden_dim=32, mlp_dim=64
    )),
    "siglip": (SigLIPImageConverter, SigLIPBackbone(
        SigLIPVisionEncoder(patch_size=16, image_shape=(64, 64, 3), name="photos", **tower),
        SigLIPTextEncoder(vocabulary_size=64, embedding_dim=32, max_sequence_length=16, name="text", **tower),
    )),
}
for name, (converter, backbone) in made.items():
    folder = Path(sys.argv[1]) / name
    backbone.save_to_preset(folder)
    converter(image_size=(64, 64), scale=[0.01, 0.02, 0.03], offset=[-1.0, 0.0, 1.0]).save_to_preset(folder)
"""

EXPECT = """
import sys
from pathlib import Path
import numpy as np
import keras_hub
from regraft.backbones.base import load_backbone
from tests import keras_float32

folder, photos = Path(sys.argv[1]), np.load(sys.argv[1] + "/photos.npy")
for preset in (path for path in folder.iterdir() if path.is_dir()):
    scaled = keras_hub.layers.ImageConverter.from_preset(str(preset))(photos)
    rows = keras_float32.run(load_backbone(f"keras_hub:{preset}").keras_model(), np.asarray(scaled, np.float32))
    np.save(folder / f"{preset.name}.npy", rows)
"""


@pytest.fixture(scope="module")
def presets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("presets")
    np.save(folder / "photos.npy", PHOTOS)
    environment = {**os.environ, "REGRAFT_CACHE": str(folder.with_name("hub-cache")), "TF_CPP_MIN_LOG_LEVEL": "3"}
    for script in (MAKE, EXPECT):
        command = [sys.executable, "-c", script, str(folder)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
    return folder


@pytest.fixture(params=["resnet", "efficientnet", "vit", "siglip"])
def backbone(request: pytest.FixtureRequest, presets: Path) -> Backbone:
    return load_backbone(f"keras_hub:{presets / request.param}")


STAGES = {"resnet": 3, "efficientnet": 1, "vit": 2, "siglip": 1}


@needs_hub
def test_features_are_what_keras_hub_makes_of_its_own_preprocessing(backbone: Backbone, presets: Path) -> None:
    preset = Path(backbone.name.partition(":")[2]).name
    features = OpenVinoEngine(backbone, "f32").features(PHOTOS)
    expected = np.load(presets / f"{preset}.npy")
    assert features.shape == expected.shape == (2, backbone.num_features)
    assert np.abs(features - expected).max() <= 1e-4 * np.abs(expected).max()
    assert not np.allclose(features[0], features[1])
    assert len(backbone.stages) == STAGES[preset]
    assert backbone.fixed_size == (preset in ("vit", "siglip"))
    assert load_backbone(backbone.name).fingerprint == backbone.fingerprint
    assert load_backbone(backbone.name, stages="last").fingerprint != backbone.fingerprint


@needs_hub
def test_tokens_are_chosen_by_name(presets: Path) -> None:
    spec = f"keras_hub:{presets / 'vit'}"
    assert load_backbone(spec, stages="last").stages == ("class_token",)
    assert load_backbone(spec, stages="patches").num_features == 32
    with pytest.raises(BackboneError, match="there is no stage block; there is class_token, patches"):
        assert load_backbone(spec, stages="block").num_features


@needs_hub
def test_a_preset_trains_a_classifier(presets: Path, photos: Path, regraft: Command) -> None:
    run = regraft("train", photos, "--backbone", f"keras_hub:{presets / 'resnet'}", "--json", "--resolution", "96")
    assert json.loads(run.stdout)["test"]["accuracy"] > 0.5


@needs_hub
def test_a_preset_that_is_none_is_told_in_one_line(tmp_path: Path, presets: Path) -> None:
    with pytest.raises(BackboneError, match=r"there is no config\.json in it"):
        load_backbone(f"keras_hub:{tmp_path}")
    with pytest.raises(BackboneError, match="Unknown preset identifier"):
        assert load_backbone("keras_hub:nonsense").transform
    with pytest.raises(BackboneError, match="there is no file of weights"):
        assert load_backbone(f"keras_hub:{presets / 'vit'}", weights="nowhere.h5").fingerprint
    with pytest.raises(BackboneError, match="unknown range"):
        load_backbone(f"keras_hub:{presets / 'vit'}", pixels="0-1")


def test_without_keras_hub_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keras_hub, "find_spec", lambda name: None)
    with pytest.raises(BackboneError, match=r"pip install 'regraft\[hub\]'"):
        load_backbone("keras_hub:resnet_50_imagenet")
