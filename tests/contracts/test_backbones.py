"""What every registered backbone owes, plug-ins included. One whose weights are not installed is skipped, by name.

Those of Keras are tested with random weights: the real ones are a download. Most are slow to build.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from regraft.backbones import Backbone, list_backbones, load_backbone
from regraft.engine import Engine
from regraft.errors import BackboneError
from tests import keras_float32

QUICK = {"keras:mobilenet_v3_small"}


def weights_of(name: str) -> str:
    return "none" if name.startswith("keras:") else ""


@pytest.fixture(
    params=[
        pytest.param(name, marks=[pytest.mark.slow] if name.startswith("keras:") and name not in QUICK else [])
        for name in list_backbones()
    ]
)
def backbone(request: pytest.FixtureRequest) -> Backbone:
    found = load_backbone(request.param, weights=weights_of(request.param))
    try:
        found.require_weights()
    except BackboneError as error:
        pytest.skip(str(error))
    return found


def test_it_describes_itself(backbone: Backbone) -> None:
    assert backbone.name in list_backbones()
    assert load_backbone(backbone.name, weights=weights_of(backbone.name)).fingerprint == backbone.fingerprint
    assert len(backbone.fingerprint) == 64
    assert backbone.transform.size > 0
    assert backbone.licence
    assert backbone.parameters > 0


def test_its_features_are_as_described_and_as_keras_computes_them(backbone: Backbone, cache: str) -> None:
    size, transform = backbone.transform.size, backbone.transform
    photos = np.random.default_rng(1).integers(0, 256, (2, size, size, 3), dtype=np.uint8)
    features = Engine(backbone, "f32").features(photos)
    assert features.shape == (2, backbone.num_features)
    assert features.dtype == np.float32
    assert np.isfinite(features).all()
    assert not np.allclose(features[0], features[1])
    assert backbone.stages

    scaled: Any = photos[..., ::-1] if transform.channel_order == "BGR" else photos
    scaled = (scaled - np.array(transform.mean, np.float32)) / np.array(transform.std, np.float32)
    expected = keras_float32.run(backbone.keras_model(), np.ascontiguousarray(scaled, np.float32))
    assert np.abs(features - expected).max() <= 1e-4 * np.abs(expected).max()


def test_another_size_and_other_stages_are_another_fingerprint(backbone: Backbone) -> None:
    weights = weights_of(backbone.name)
    larger = load_backbone(backbone.name, backbone.transform.size + 32, weights=weights)
    assert larger.transform.size == backbone.transform.size + 32
    last = load_backbone(backbone.name, stages="last", weights=weights)
    assert len({backbone.fingerprint, larger.fingerprint, last.fingerprint}) == 3
