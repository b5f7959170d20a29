"""What every registered backbone owes, plug-ins included. One whose weights are not installed is skipped, by name.

Those of Keras are tested with random weights: the real ones are a download. Most are slow to build, and seen at 128 px:
the graph is the same at every size, and EfficientNetB7's own 600 would take minutes a photo.
"""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from regraft.backbones.base import Backbone, list_backbones, load_backbone
from regraft.engines.openvino import OpenVinoEngine
from regraft.engines.probe import runs_bf16
from regraft.errors import BackboneError
from regraft.features.features import Features
from regraft.heads.base import softmax
from regraft.heads.logistic import LogisticRegression
from tests import keras_float32
from tests.conftest import SHAPES, draw_photo

QUICK = {"keras:mobilenet_v3_small"}
TIE = 0.1
"""Two answers whose probabilities are closer than this."""


def seen(name: str, **options: str) -> Backbone:
    """The backbone as it is tested."""
    return load_backbone(name, 128 if name.startswith("keras:") else None, weights=weights_of(name), **options)


def weights_of(name: str) -> str:
    return "none" if name.startswith("keras:") else ""


@pytest.fixture
def cache(warm_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One cache for all tests of this module: each network is built once. No photo is cached in it."""
    monkeypatch.setenv("REGRAFT_CACHE", str(warm_cache))
    return warm_cache


@pytest.fixture(
    params=[
        pytest.param(name, marks=[pytest.mark.slow] if name.startswith("keras:") and name not in QUICK else [])
        for name in list_backbones()
    ]
)
def backbone(request: pytest.FixtureRequest) -> Backbone:
    found = seen(request.param)
    try:
        found.require_weights()
    except BackboneError as error:
        pytest.skip(str(error))
    return found


def test_it_describes_itself(backbone: Backbone) -> None:
    assert backbone.name in list_backbones()
    assert seen(backbone.name).fingerprint == backbone.fingerprint
    assert len(backbone.fingerprint) == 64
    assert backbone.transform.size > 0
    assert backbone.licence
    assert backbone.parameters > 0


def test_its_features_are_as_described_and_as_keras_computes_them(backbone: Backbone, cache: str) -> None:
    size, transform = backbone.transform.size, backbone.transform
    photos = np.random.default_rng(1).integers(0, 256, (2, size, size, 3), dtype=np.uint8)
    features = OpenVinoEngine(backbone, "f32").features(photos)
    assert features.shape == (2, backbone.num_features)
    assert features.dtype == np.float32
    assert np.isfinite(features).all()
    assert not np.allclose(features[0], features[1])
    assert len(backbone.stages) == len(backbone.widths) > 0
    assert sum(backbone.widths) == backbone.num_features

    scaled: Any = photos[..., ::-1] if transform.channel_order == "BGR" else photos
    scaled = (scaled - np.array(transform.mean, np.float32)) / np.array(transform.std, np.float32)
    expected = keras_float32.run(backbone.keras_model(), np.ascontiguousarray(scaled, np.float32))
    assert np.abs(features - expected).max() <= 1e-4 * np.abs(expected).max()


IN_JAX = """
import sys
import numpy as np
from regraft.engines.jax import JaxEngine
from regraft.backbones.base import load_backbone
name, size, weights, precision, folder = sys.argv[1:]
engine = JaxEngine(load_backbone(name, int(size), weights=weights), precision)
np.save(folder + "/features.npy", engine.features(np.load(folder + "/photos.npy")))
"""


@pytest.mark.skipif(find_spec("jax") is None, reason="needs the extra jax")
@pytest.mark.parametrize(("precision", "bound"), [("f32", 1e-4), ("bf16", 0.1)])
def test_jax_computes_the_same(backbone: Backbone, cache: Path, tmp_path: Path, precision: str, bound: float) -> None:
    size = backbone.transform.size
    photos = np.random.default_rng(1).integers(0, 256, (3, size, size, 3), dtype=np.uint8)
    np.save(tmp_path / "photos.npy", photos)
    wanted = [backbone.name, str(size), weights_of(backbone.name), precision, str(tmp_path)]
    command = [sys.executable, "-c", IN_JAX, *wanted]
    environment = {key: value for key, value in os.environ.items() if key != "KERAS_BACKEND"}
    subprocess.run(command, env={**environment, "JAX_PLATFORMS": "cpu"}, check=True)
    expected = OpenVinoEngine(backbone, "f32").features(photos)
    found = np.load(tmp_path / "features.npy")
    assert found.dtype == np.float32
    assert np.abs(found - expected).max() <= bound * np.abs(expected).max()


def test_bf16_keeps_the_answers_of_a_trained_head(backbone: Backbone, cache: Path) -> None:
    """The head is trained on exact features of 400 drawn photos, and asked about 200 others.

    Random networks see little in them, so that some answers are ties; those that are not must stay.
    """
    if not runs_bf16():
        pytest.skip("this processor has no bf16")
    size, dice = backbone.transform.size, np.random.default_rng(2)
    shapes = list(SHAPES.values())
    y = np.repeat(np.arange(3), 200)
    drawn = [draw_photo(shapes[label], int(dice.integers(10**6))).convert("RGB") for label in y]
    photos = np.stack([np.asarray(photo.resize((size, size))) for photo in drawn])
    held = np.arange(0, len(y), 3)
    exact, rounded = (
        OpenVinoEngine(backbone, "f32").features(photos),
        OpenVinoEngine(backbone, "bf16").features(photos[held]),
    )
    features = Features(exact, y, tuple(SHAPES), tuple(map(str, range(len(y)))), backbone.name)
    train = [i for i in range(len(y)) if i % 3]
    head = LogisticRegression().fit(features.select(train), features.select(()))
    expected, found = (softmax(head.logits(x)) for x in (exact[held], rounded))
    second, first = np.sort(expected, axis=1)[:, -2:].T
    sure = first - second > TIE
    assert sure.mean() > 0.9
    assert (expected.argmax(1) == found.argmax(1))[sure].mean() >= 0.995


def test_another_size_and_other_stages_are_another_fingerprint(backbone: Backbone) -> None:
    weights = weights_of(backbone.name)
    larger = load_backbone(backbone.name, backbone.transform.size + 32, weights=weights)
    assert larger.transform.size == backbone.transform.size + 32
    last = seen(backbone.name, stages="last")
    assert len({backbone.fingerprint, larger.fingerprint, last.fingerprint}) == 3
