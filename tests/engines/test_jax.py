"""The JAX engine in the whole job, on the CPU; and which engine is taken."""

from __future__ import annotations

import json
import os
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from regraft.backbones.base import load_backbone
from regraft.config.features import FeatureConfig
from regraft.engines import jax as jax_engine
from regraft.engines.base import load_engine
from regraft.engines.jax import JaxEngine
from regraft.engines.openvino import OpenVinoEngine
from regraft.errors import BackboneError
from regraft.foundation import console
from tests.conftest import Command

LITE = load_backbone("efficientnet_lite0")


def test_openvino_is_taken_where_there_is_no_accelerator() -> None:
    assert isinstance(load_engine(LITE, FeatureConfig()), OpenVinoEngine)
    assert isinstance(load_engine(LITE, FeatureConfig(engine="openvino")), OpenVinoEngine)


def test_an_accelerator_is_taken_aloud(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(console, "note", said.append)
    monkeypatch.setattr(JaxEngine, "accelerator", lambda: "H100 (gpu)")
    monkeypatch.setattr(JaxEngine, "refusal", lambda backbone: "")
    assert isinstance(load_engine(LITE, FeatureConfig()), JaxEngine)
    assert "there is H100 (gpu)" in said[0]


def test_without_jax_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jax_engine, "find_spec", lambda name: None)
    with pytest.raises(BackboneError, match=r"pip install 'regraft\[jax\]'"):
        load_engine(LITE, FeatureConfig(engine="jax"))


@pytest.mark.skipif(find_spec("jax") is None, reason="needs the extra jax")
def test_a_process_whose_keras_runs_on_something_else_is_told() -> None:
    import keras

    assert keras.backend.backend() == "openvino"
    with pytest.raises(BackboneError, match="Keras runs on openvino in this process"):
        JaxEngine(LITE, "f32").features(np.zeros((1, 224, 224, 3), np.uint8))


@pytest.mark.skipif(find_spec("jax") is None, reason="needs the extra jax")
def test_the_whole_job_in_batches_with_a_photo_that_cannot_be_read(
    photos: Path, tmp_path: Path, regraft: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    folder = shutil.copytree(photos, tmp_path / "photos")
    bad = folder / "circle" / "bad.jpg"
    bad.write_bytes((folder / "circle" / "000.jpg").read_bytes()[:500])
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    assert "KERAS_BACKEND" not in os.environ
    wanted = ("--engine", "jax", "--effort", "quick", "--json")
    document = json.loads(regraft("train", folder, *wanted, "--out", "jax").stdout)
    assert document["features"]["computed"] == 60
    assert [Path(p["path"]).name for p in document["problems"]] == ["bad.jpg"]
    assert document["test"]["accuracy"] > 0.9
    again = json.loads(regraft("train", folder, *wanted, "--out", "again").stdout)
    assert again["features"] == {"computed": 0, "cached": 60}
    answer = json.loads(regraft("predict", "jax", folder / "circle" / "001.jpg", "--json").stdout)
    assert answer[0]["top"][0]["label"] == "circle"
