"""A predictor takes photos in many shapes, and several threads may ask it at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from regraft import TrainConfig, load_predictor, train
from regraft.classifiers.predictor import Predictor
from regraft.errors import DataError, ImageError
from regraft.photos.images import Problem

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.fixture(params=["run", "openvino"])
def predictor(request: pytest.FixtureRequest, photos: Path, cache: Path, tmp_path: Path) -> Predictor:
    if request.param == "run":
        return train(photos, tmp_path / "run", TrainConfig(effort="quick"))
    return load_predictor(GOLDEN / "exports" / request.param)


def test_paths_bytes_images_and_pixels_have_the_same_answer(predictor: Predictor, tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    Image.effect_noise((120, 90), 80).convert("RGB").save(path)
    with Image.open(path) as image:
        image.load()
    found = predictor.predict_proba([path, str(path), path.read_bytes(), image, np.asarray(image)])
    assert found.shape == (5, len(predictor.classes))
    for row in found[1:]:
        np.testing.assert_allclose(row, found[0], atol=1e-5)
    np.testing.assert_allclose(predictor.predict_proba(path), found[:1], atol=1e-5)


def test_a_photo_that_cannot_be_read_has_a_row_or_is_an_error(predictor: Predictor, tmp_path: Path) -> None:
    bad, good = tmp_path / "bad.jpg", tmp_path / "good.png"
    bad.write_text("text")
    Image.new("RGB", (50, 50), "red").save(good)
    problems: list[Problem] = []
    found = predictor.answers([bad, good, b"text"], problems.append)
    assert [problem.path.name for problem in problems] == ["bad.jpg", "<photo 2>"]
    assert np.isnan(found.probabilities[[0, 2]]).all()
    assert np.isfinite(found.probabilities[1]).all()
    with pytest.raises(ImageError, match=r"bad\.jpg: "):
        predictor.predict_proba([good, bad])
    with pytest.raises(DataError, match="photos are an int"):
        predictor.predict_proba(3)


def test_several_threads_may_ask_at_once(predictor: Predictor) -> None:
    photos = sorted((GOLDEN / "photos").rglob("*.jpg"))
    alone = [predictor.predict_proba([photo]) for photo in photos]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda photo: predictor.predict_proba([photo]), photos * 3))
    for found, expected in zip(together, alone * 3, strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-5)
