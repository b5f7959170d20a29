from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from regraft.backbones.base import load_backbone
from regraft.backbones.graphs import SEAL, graph_path, seal
from regraft.engines.openvino import OpenVinoEngine
from regraft.errors import BackboneError
from tests import keras_float32


def noise(count: int, size: int = 224) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def test_the_engine_agrees_with_keras(cache: Path) -> None:
    backbone = load_backbone("efficientnet_lite0")
    photos = noise(3)
    scaled = (photos - np.float32(127)) / np.float32(128)
    expected = keras_float32.run(backbone.keras_model(), scaled)
    np.testing.assert_allclose(OpenVinoEngine(backbone, "f32").features(photos), expected, rtol=1e-4, atol=1e-4)
    rough = OpenVinoEngine(backbone, "bf16").features(photos)
    assert np.corrcoef(rough.ravel(), expected.ravel())[0, 1] > 0.999


def test_one_photo_alone_gives_the_same_as_among_many(cache: Path) -> None:
    backbone = load_backbone("efficientnet_lite0")
    photos = noise(2)
    many, one = (
        OpenVinoEngine(backbone, "f32").features(photos),
        OpenVinoEngine(backbone, "f32", many=False).features(photos[:1]),
    )
    np.testing.assert_allclose(many[:1], one, rtol=1e-4, atol=1e-4)


def test_the_fingerprint_tells_precisions_apart() -> None:
    backbone = load_backbone("efficientnet_lite0")
    assert OpenVinoEngine(backbone, "f32").fingerprint != OpenVinoEngine(backbone, "bf16").fingerprint
    assert OpenVinoEngine(backbone, "f32").fingerprint == OpenVinoEngine(backbone, "f32", many=False).fingerprint


def test_a_damaged_graph_is_built_again(cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    backbone = load_backbone("efficientnet_lite0")
    graph_path(backbone).write_text("<not xml")
    features = OpenVinoEngine(backbone, "f32", many=False).features(noise(1))  # not compiled before
    assert np.isfinite(features).all()
    assert "graph.xml does not have the checksum" in caplog.text


def test_a_graph_that_cannot_be_built_says_why(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = load_backbone("efficientnet_lite0", 256)
    monkeypatch.setattr(type(backbone), "name", "embedded:efficientnet_lite7")
    with pytest.raises(BackboneError, match="cannot be built: unknown backbone 'embedded:efficientnet_lite7'"):
        graph_path(backbone)


def as_int8(cache: Path, folder: Path) -> Path:
    """A graph of its own in a run, with its seal: here the float graph, since NNCF is an extra."""
    folder.mkdir()
    graph = graph_path(load_backbone("efficientnet_lite0"))
    for suffix in (".xml", ".bin"):
        shutil.copyfile(graph.with_suffix(suffix), (folder / "backbone-int8.xml").with_suffix(suffix))
    seal(folder / "backbone-int8.xml")
    return folder / "backbone-int8.xml"


@pytest.mark.parametrize("suffix", [".xml", ".bin", SEAL])
def test_a_damaged_graph_of_a_run_is_an_error(suffix: str, cache: Path, tmp_path: Path) -> None:
    graph = as_int8(cache, tmp_path / "run")
    backbone = load_backbone("efficientnet_lite0")
    before = OpenVinoEngine(backbone, "f32", int8=graph).features(noise(1))
    data = bytearray(graph.with_suffix(suffix).read_bytes())
    data[len(data) // 2] ^= 1
    graph.with_suffix(suffix).write_bytes(data)
    shutil.rmtree(cache / "openvino")
    with pytest.raises(BackboneError, match=r"run is damaged \(backbone-int8\."):
        OpenVinoEngine(backbone, "f32", int8=graph).features(noise(1))
    data[len(data) // 2] ^= 1
    graph.with_suffix(suffix).write_bytes(data)
    graph.with_suffix(SEAL).unlink()  # as in a run that an earlier version wrote
    assert np.array_equal(OpenVinoEngine(backbone, "f32", int8=graph).features(noise(1)), before)


def test_what_was_compiled_gives_the_same_to_the_bit(cache: Path) -> None:
    backbone = load_backbone("efficientnet_lite0")
    compiled = OpenVinoEngine(backbone, "f32").features(noise(2))
    written = {blob: blob.stat().st_mtime_ns for blob in (cache / "openvino").glob("*.blob")}
    assert np.array_equal(OpenVinoEngine(backbone, "f32").features(noise(2)), compiled)
    assert {blob: blob.stat().st_mtime_ns for blob in (cache / "openvino").glob("*.blob")} == written
    OpenVinoEngine(backbone, "f32", many=False).features(noise(1))
    assert len(list((cache / "openvino").glob("*.blob"))) == len(written) + 1
