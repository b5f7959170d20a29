"""What every registered engine owes, plug-ins included. One whose library is not installed is skipped, by name."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest

from regraft import Classifier, TrainConfig, train
from regraft.backbones.base import Backbone, load_backbone
from regraft.config.features import FeatureConfig
from regraft.engines.base import Engine, EngineOptions, Loader, Row, load_engine, registry
from regraft.errors import BackboneError, ImageError
from regraft.foundation.files import digest_json

LITE = load_backbone("efficientnet_lite0", 64)


class Colours:
    """A double, as a plug-in would bring it: the features of a photo are its mean colours, whatever the backbone is."""

    is_new = False
    precision = "f32"

    def __init__(self, backbone: Backbone) -> None:
        self.backbone = backbone

    @classmethod
    def of(cls, backbone: Backbone, options: EngineOptions) -> Self:
        return cls(backbone)

    @classmethod
    def refusal(cls, backbone: Backbone) -> str:
        return "it computes EfficientNet-Lite only" if "lite" not in backbone.name else ""

    @classmethod
    def accelerator(cls) -> str:
        return ""

    @property
    def fingerprint(self) -> str:
        return digest_json([self.backbone.fingerprint, "colours"])

    @property
    def record(self) -> dict[str, str]:
        return {"precision": self.precision}

    def features(self, photos: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        rows = np.zeros((len(photos), self.backbone.num_features), np.float32)
        rows[:, :3] = photos.reshape(len(photos), -1, 3).mean(axis=1) if len(photos) else 0
        return rows

    def compute(self, loaders: Sequence[Loader]) -> Iterator[tuple[int, Row | str]]:
        for index, load in enumerate(loaders):
            try:
                yield index, self.features(load()[np.newaxis])[0]
            except ImageError as error:
                yield index, str(error)


@pytest.fixture(scope="session")
def plug_in(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder on the path in which an installed package says that it has an engine called ``colours``."""
    folder = tmp_path_factory.mktemp("plug-in")
    facts = folder / "colours-1.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: colours\nVersion: 1\n")
    (facts / "entry_points.txt").write_text(f"[regraft.engines]\ncolours = {__name__}:Colours\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        yield folder


@pytest.fixture(params=["colours", "jax", "openvino"])
def engine(request: pytest.FixtureRequest, plug_in: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Engine:
    if request.param == "jax":
        pytest.importorskip("jax")
        import keras

        if keras.backend.backend() != "jax":
            pytest.skip("Keras has one backend for each process; test_the_suite_on_jax runs this one")
    return load_engine(LITE, FeatureConfig(engine=request.param, precision="fp32"))


def photos(count: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).integers(0, 256, (count, 64, 64, 3), dtype=np.uint8)


def test_every_engine_is_in_the_suite(plug_in: Path) -> None:
    assert registry.names() == ["colours", "jax", "openvino"]


def test_it_describes_itself(engine: Engine) -> None:
    assert engine.backbone is LITE
    assert engine.precision == "f32"
    assert engine.record["precision"] == "f32"
    assert all(isinstance(value, str) for value in engine.record.values())
    assert len(engine.fingerprint) == 64
    assert not engine.is_new
    assert isinstance(engine.accelerator(), str)


def test_features_are_rows_of_floats(engine: Engine) -> None:
    found = engine.features(photos(3))
    assert (found.shape, found.dtype) == ((3, LITE.num_features), np.float32)
    assert np.isfinite(found).all()
    assert any((a != b).any() for a, b in pairwise(found))
    assert engine.features(photos(0)).shape == (0, LITE.num_features)


def test_one_photo_and_many_have_the_same_features(engine: Engine) -> None:
    many = engine.features(photos(5))
    for photo, row in zip(photos(5), many, strict=True):
        np.testing.assert_allclose(engine.features(photo[np.newaxis])[0], row, rtol=1e-3, atol=1e-3)


def test_compute_gives_each_photo_once_and_names_the_bad_ones(engine: Engine) -> None:
    pixels = photos(130)  # more than two batches

    def damaged() -> Any:
        raise ImageError("it is cut off")

    loaders: list[Loader] = [lambda i=i: pixels[i] for i in range(130)]  # type: ignore[misc]
    loaders[7] = loaders[129] = damaged
    found = list(engine.compute(loaders))
    assert sorted(index for index, _ in found) == list(range(130))
    rows = dict(found)
    assert (rows.pop(7), rows.pop(129)) == ("it is cut off", "it is cut off")
    expected = engine.features(pixels[:2])
    np.testing.assert_allclose(np.stack([np.asarray(rows[0]), np.asarray(rows[1])]), expected, rtol=1e-3, atol=1e-3)
    assert list(engine.compute([])) == []


def test_engines_do_not_share_features(plug_in: Path, cache: Path) -> None:
    keys = {load_engine(LITE, FeatureConfig(engine=name)).fingerprint for name in ("colours", "openvino")}
    assert len(keys) == 2


def test_a_run_is_trained_and_asked_on_a_plug_in(plug_in: Path, photos: Path, cache: Path, tmp_path: Path) -> None:
    trained = train(photos, tmp_path / "run", TrainConfig(engine="colours", resolution=64))
    assert Classifier.load(tmp_path / "run").config.engine == "colours"
    photo = next((photos / "circle").glob("*.jpg"))
    np.testing.assert_allclose(
        Classifier.load(tmp_path / "run").predict_proba([photo]), trained.predict_proba([photo]), atol=1e-5
    )


def test_an_engine_that_refuses_or_is_unknown_is_one_line(plug_in: Path, cache: Path, tmp_path: Path) -> None:
    with pytest.raises(BackboneError, match="EfficientNet-Lite only"):
        load_engine(load_backbone("keras:mobilenet", weights="none"), FeatureConfig(engine="colours"))
    with pytest.raises(BackboneError, match=r"unknown engine 'openvno': did you mean 'openvino'\?"):
        train(tmp_path, config=TrainConfig(engine="openvno"))


@pytest.mark.slow
def test_the_suite_on_jax() -> None:
    pytest.importorskip("jax")
    environment = {**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu", "REGRAFT_TESTS_KERAS": "jax"}
    command = [sys.executable, "-m", "pytest", "-q", "-n0", __file__, "-k", "jax and not suite"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
    assert "4 passed" in done.stdout
