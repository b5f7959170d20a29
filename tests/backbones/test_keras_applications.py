from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from regraft.backbones.base import load_backbone
from regraft.backbones.keras_applications import _NETWORKS, KerasBackbone
from regraft.errors import BackboneError
from tests.conftest import Command


def test_a_folder_of_the_same_name_does_not_hide_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "resnet50").mkdir()
    (tmp_path / "photos").mkdir()
    monkeypatch.chdir(tmp_path)
    assert load_backbone("resnet50").name == "keras:resnet50"
    with pytest.raises(BackboneError, match="unknown backbone 'photos'"):
        load_backbone("photos")


def test_every_network_of_keras_is_there() -> None:
    import keras

    ours = {network.cls for network in _NETWORKS.values()}
    theirs = {name for name in dir(keras.applications) if name[0].isupper()}
    assert ours == theirs


@pytest.mark.parametrize("name", _NETWORKS)
def test_its_transform_is_kerass_own(name: str) -> None:
    import keras

    modules = [getattr(keras.applications, m) for m in dir(keras.applications) if m[0].islower()]
    found = [m for m in modules if hasattr(m, _NETWORKS[name].cls)]  # ResNet50 is in two, alike
    module = found[0] if found else keras.applications.mobilenet_v3
    x = np.random.default_rng(0).integers(0, 256, (4, 5, 3)).astype(np.float32)
    transform = load_backbone(f"keras:{name}").transform
    ours: Any = x[..., ::-1] if transform.channel_order == "BGR" else x
    ours = (ours - np.array(transform.mean, np.float32)) / np.array(transform.std, np.float32)
    np.testing.assert_allclose(ours, module.preprocess_input(x.copy()), atol=1e-5)


@pytest.mark.parametrize(
    ("typed", "name", "size"),
    [
        ("inception_v3", "keras:inception_v3", 299),
        ("mobilenet_0.50_224", "keras:mobilenet_0.50", 224),
        ("mobilenet_1.0_128", "keras:mobilenet", 128),
        ("keras:mobilenet_v2_0.35_96", "keras:mobilenet_v2_0.35", 96),
        ("ResNet50", "keras:resnet50", 224),
        ("keras:NASNetLarge", "keras:nasnet_large", 331),
    ],
)
def test_the_spellings_of_old_tutorials_are_understood(typed: str, name: str, size: int) -> None:
    found = load_backbone(typed)
    assert (found.name, found.transform.size) == (name, size)
    assert found.fixed_size == (typed[-3:] in ("224", "128") or typed.endswith("96"))


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("keras:resnet51", "did you mean 'keras:resnet50'"),
        ("mobilenet_0.60_224", "no mobilenet of width 0.6"),
        ("resnet500", "did you mean 'resnet50'"),
    ],
)
def test_a_wrong_name_offers_the_right_one(typed: str, message: str) -> None:
    with pytest.raises(BackboneError, match=message):
        load_backbone(typed)


@pytest.mark.parametrize(
    ("name", "stages"),
    [
        ("resnet50", ["conv3_block4_out", "conv4_block6_out", "conv5_block3_out"]),
        ("inception_v3", ["mixed2", "mixed7", "mixed10"]),
        ("vgg16", ["block4_conv3", "block5_conv3", "block5_pool"]),
        ("mobilenet_v2", ["block_6_expand_relu", "block_13_expand_relu", "out_relu"]),
    ],
)
def test_stages_are_the_ends_of_blocks(name: str, stages: list[str]) -> None:
    model = load_backbone(f"keras:{name}", weights="none").keras_model()
    assert model is not None
    assert list(model.regraft_stages) == stages
    assert sum(model.regraft_stages.values()) == model.output.shape[-1]


def test_stages_can_be_chosen() -> None:
    last = load_backbone("keras:mobilenet_0.25_128", weights="none", stages="last").keras_model()
    assert last is not None
    assert last.output_shape == (None, 256)
    two = load_backbone("keras:mobilenet_0.25_128", weights="none", stages="conv_pw_3_relu,conv_pw_11_relu")
    both = two.keras_model()
    assert both is not None
    assert both.output_shape == (None, 32 + 128)
    with pytest.raises(BackboneError, match="no stage nonsense"):
        load_backbone("keras:mobilenet_0.25_128", weights="none", stages="nonsense").keras_model()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Keras' own, when its weights become arrays
def test_a_file_of_weights_is_used_and_is_part_of_the_fingerprint(tmp_path: Path) -> None:
    import keras

    keras.utils.set_random_seed(1)
    model = keras.applications.MobileNet(include_top=False, weights=None, alpha=0.25, input_shape=(128, 128, 3))
    model.save_weights(tmp_path / "mine.weights.h5")
    mine = load_backbone("keras:mobilenet_0.25_128", weights=str(tmp_path / "mine.weights.h5"))
    random = load_backbone("keras:mobilenet_0.25_128", weights="none")
    assert mine.fingerprint != random.fingerprint
    assert mine.licence == "unknown"
    built = mine.keras_model()
    assert built is not None
    kernel = built.get_layer("conv1").get_weights()[0]
    np.testing.assert_array_equal(kernel, model.get_layer("conv1").get_weights()[0])
    with pytest.raises(BackboneError, match="no file of weights"):
        load_backbone("keras:mobilenet_0.25_128", weights="nowhere.h5").require_weights()


def test_without_a_network_the_error_names_file_place_and_option() -> None:
    backbone = load_backbone("keras:mobilenet_0.25_128")
    assert isinstance(backbone, KerasBackbone)
    url = "https://storage.googleapis.com/tensorflow/keras-applications/mobilenet/mobilenet_2_5_128_tf_no_top.h5"
    told = backbone._why(Exception(f"URL fetch failure on {url}: None -- [Errno -2] Name or service not known"))
    assert url in told
    assert str(Path(".keras") / "models" / "mobilenet_2_5_128_tf_no_top.h5") in told
    assert "weights=FILE" in told


def test_the_whole_job_on_a_keras_network(photos: Path, regraft: Command, tmp_path: Path) -> None:
    options = ("--backbone", "mobilenet_0.25_128", "--weights", "none", "--precision", "fp32")
    document = json.loads(regraft("train", photos, *options, "--out", "run", "--json").stdout)
    assert document["features"] == {"computed": 60, "cached": 0}
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["backbone"]["name"] == "keras:mobilenet_0.25"
    assert manifest["backbone"]["options"] == {
        "stages": "",
        "weights": "none",
        "pixels": "",
        "symmetry": "",
        "beside": "",
    }
    assert manifest["backbone"]["stages"][-1] == "conv_pw_13_relu"
    answers = json.loads(regraft("predict", "run", photos / "circle" / "000.jpg", "--json").stdout)
    assert len(answers) == 1


@pytest.mark.slow
def test_other_stages_and_another_size_are_other_features(photos: Path, regraft: Command) -> None:
    options = ("--backbone", "mobilenet_0.25_128", "--weights", "none")
    regraft("train", photos, *options)
    again = json.loads(regraft("train", photos, *options, "--stages", "last", "--resolution", "96", "--json").stdout)
    assert again["features"]["computed"] == 60
