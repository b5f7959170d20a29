"""What every registered backbone owes, plug-ins included. One whose weights are not installed is skipped, by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from regraft.backbones import Backbone, list_backbones, load_backbone
from regraft.engine import Engine
from regraft.errors import BackboneError


@pytest.fixture(params=list_backbones())
def backbone(request: pytest.FixtureRequest) -> Backbone:
    found = load_backbone(request.param)
    try:
        found.require_weights()
    except BackboneError as error:
        pytest.skip(str(error))
    return found


def test_it_describes_itself(backbone: Backbone) -> None:
    assert backbone.name in list_backbones()
    assert load_backbone(backbone.name).fingerprint == backbone.fingerprint
    assert len(backbone.fingerprint) == 64
    assert backbone.transform.size > 0
    assert backbone.stages
    assert backbone.licence


def test_its_features_are_as_described(backbone: Backbone, cache: Path) -> None:
    size = backbone.transform.size
    photos = np.random.default_rng(1).integers(0, 256, (2, size, size, 3), dtype=np.uint8)
    features = Engine(backbone).features(photos)
    assert features.shape == (2, backbone.num_features)
    assert features.dtype == np.float32
    assert np.isfinite(features).all()
    assert not np.allclose(features[0], features[1])


def test_another_size_is_another_fingerprint(backbone: Backbone) -> None:
    larger = load_backbone(backbone.name, backbone.transform.size + 32)
    assert larger.fingerprint != backbone.fingerprint
    assert larger.transform.size == backbone.transform.size + 32
