"""One Keras network in the formats of other tools gives the features that it gives as ``keras:``."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from regraft.backbones.base import load_backbone
from regraft.engines.openvino import OpenVinoEngine
from regraft.errors import BackboneError
from tests import keras_float32
from tests.conftest import Command

PHOTOS = np.random.default_rng(0).integers(0, 256, (3, 128, 128, 3), dtype=np.uint8)


def expected() -> NDArray[np.float32]:
    return keras_float32.run(network(), (PHOTOS - np.float32(127.5)) / np.float32(127.5))


def features(path: Path, stages: str = "") -> NDArray[np.float32]:
    return OpenVinoEngine(load_backbone(f"file:{path}", pixels="-1..1", stages=stages), "f32").features(PHOTOS)


def network() -> object:
    return load_backbone("keras:mobilenet_0.25_128", weights="none", stages="last").keras_model()


def test_a_keras_file(tmp_path: Path, cache: Path) -> None:
    network().save(tmp_path / "n.keras")  # type: ignore[attr-defined]
    np.testing.assert_allclose(features(tmp_path / "n.keras"), expected(), atol=1e-3)


def test_openvinos_own_format_and_its_inner_results(tmp_path: Path, cache: Path) -> None:
    network().export(str(tmp_path / "n.xml"), format="openvino", verbose=False)  # type: ignore[attr-defined]
    np.testing.assert_allclose(features(tmp_path / "n.xml"), expected(), atol=1e-3)
    assert load_backbone(f"file:{tmp_path / 'n.xml'}", pixels="-1..1").num_features == 256
    with pytest.raises(BackboneError, match="there is no stage 'nonsense'"):
        features(tmp_path / "n.xml", stages="nonsense")


EXPORT = """
import sys
import keras, tensorflow as tf
keras_file, out = sys.argv[1:]
model = keras.saving.load_model(keras_file)
model.export(out + "/saved", verbose=False)
converter = tf.lite.TFLiteConverter.from_saved_model(out + "/saved")
open(out + "/n.tflite", "wb").write(converter.convert())
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2
call = tf.function(lambda x: model(x, training=False)).get_concrete_function(tf.TensorSpec((1, 128, 128, 3)))
graph = convert_variables_to_constants_v2(call).graph.as_graph_def()
tf.io.write_graph(graph, out, "n.pb", as_text=False)
try:
    import tf2onnx
except ImportError:
    raise SystemExit
model.export(out + "/n.onnx", format="onnx", verbose=False)
"""


def test_formats_that_tensorflow_writes(tmp_path: Path, cache: Path) -> None:
    if find_spec("tensorflow") is None:
        pytest.skip("needs the extra tensorflow")
    network().save(tmp_path / "n.keras")  # type: ignore[attr-defined]
    environment = {**os.environ, "KERAS_BACKEND": "tensorflow"}
    command = [sys.executable, "-c", EXPORT, str(tmp_path / "n.keras"), str(tmp_path)]
    subprocess.run(command, env=environment, capture_output=True, check=True)
    written = ["saved", "n.tflite", "n.pb", *(["n.onnx"] if find_spec("tf2onnx") else [])]
    for name in written:
        np.testing.assert_allclose(features(tmp_path / name), expected(), atol=1e-3)


def test_what_a_file_does_not_say_is_asked_for(tmp_path: Path) -> None:
    network().export(str(tmp_path / "n.xml"), format="openvino", verbose=False)  # type: ignore[attr-defined]
    with pytest.raises(BackboneError, match="type pixels with one of"):
        assert load_backbone(f"file:{tmp_path / 'n.xml'}").transform
    with pytest.raises(BackboneError, match="takes photos of"):
        assert load_backbone(f"file:{tmp_path / 'n.xml'}", 224, pixels="0..1").transform.size
    with pytest.raises(BackboneError, match="unknown range"):
        load_backbone(f"file:{tmp_path / 'n.xml'}", pixels="0-1")
    (tmp_path / "n.onnx").write_text("nonsense")
    with pytest.raises(BackboneError, match="cannot be read"):
        assert load_backbone(f"file:{tmp_path / 'n.onnx'}", pixels="0..1").transform
    with pytest.raises(BackboneError, match="there is no file"):
        load_backbone("file:nowhere.onnx")


def test_real_quantised_files_take_bytes(bench_data: Path, photos: Path, regraft: Command) -> None:
    folder = bench_data / "backbones"
    extractor = load_backbone(f"file:{folder / 'mobilenet_v1_1.0_224_quant_embedding_extractor.tflite'}")
    assert extractor.transform.size == 224
    assert extractor.num_features == 1024
    document = json.loads(regraft("train", photos, "--backbone", extractor.name, "--json").stdout)
    assert document["folds"]["accuracy"] > 0.6


def test_the_last_maps_of_a_quantised_file_beat_its_class_scores(bench_data: Path, regraft: Command) -> None:
    """TensorFlow-for-Poets took the scores of 1,001 classes for features."""
    spec = f"file:{bench_data / 'backbones' / 'mobilenet_v1_0.5_160_quant.tflite'}"
    with pytest.raises(BackboneError) as told:
        assert load_backbone(spec, stages="AvgPool").num_features
    inner = re.findall(r"AvgPool_\d+", str(told.value))[0]
    photos = bench_data / "photos" / "flowers"
    scores = json.loads(regraft("train", photos, "--backbone", spec, "--json").stdout)
    maps = json.loads(regraft("train", photos, "--backbone", spec, "--stages", inner, "--json").stdout)
    assert maps["test"]["accuracy"] > scores["test"]["accuracy"] + 0.03


def test_a_graph_that_asks_for_itself_is_an_error_and_no_end_of_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    from regraft.backbones import graphs

    monkeypatch.setattr(graphs, "building_here", True)
    with pytest.raises(BackboneError, match="asks for its own graph"):
        assert load_backbone("keras:mobilenet_0.25_128", weights="none").num_features
