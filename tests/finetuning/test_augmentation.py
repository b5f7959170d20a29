from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from regraft.config.finetuning import FinetuneConfig
from regraft.features.features import Features
from regraft.finetuning.activations import Activations
from regraft.finetuning.augmentation import _RANDAUGMENT, Augmented
from regraft.foundation.files import digest_bytes

COUNT, SIDE = 12, 10


@pytest.fixture
def made(tmp_path: Path) -> tuple[Activations, Features]:
    """Twelve photos of two classes; photo i has the value i everywhere, but for its first column, which has 100 + i."""
    digests = [digest_bytes(bytes([i])) for i in range(COUNT)]
    maps = np.stack([np.full((SIDE + 2, SIDE + 2, 3), i, np.uint8) for i in range(COUNT)])
    maps[:, :, 0] += 100
    Activations(tmp_path).write(digests, list(maps))
    y = np.array([0, 0, 0] + [1] * (COUNT - 3))
    x = np.arange(COUNT, dtype=np.float32)[:, np.newaxis]
    return Activations(tmp_path), Features(x, y, ("a", "b"), tuple(digests), "drawn")


def augmented(made: tuple[Activations, Features], multiple: int = 1, **options: Any) -> Augmented:
    maps, features = made
    config = FinetuneConfig.from_dict({"batch_size": 5, "mixup": 0.0, **options})

    def inputs(views: Any, rows: Any) -> list[Any]:
        return [views.astype(np.float32), features.x[rows]]

    return Augmented([maps], features, tuple(range(COUNT)), SIDE, inputs, config, multiple)


def test_an_epoch_has_every_photo_at_most_once_and_the_same_each_time(made: tuple[Activations, Features]) -> None:
    batches = augmented(made)
    assert len(batches) == 2
    seen = np.concatenate([batches.batch(0, number)[0][1][:, 0] for number in range(2)])
    assert len(set(seen)) == 10
    again, later = batches.batch(0, 1), batches.batch(1, 1)
    np.testing.assert_array_equal(batches.batch(0, 1)[0][0], again[0][0])
    assert not np.array_equal(again[0][1], later[0][1])


def test_targets_are_the_probabilities_of_the_labels(made: tuple[Activations, Features]) -> None:
    maps, features = made
    certainty = np.linspace(0.5, 1, COUNT, dtype=np.float32)
    (views, pooled), targets = augmented((maps, replace(features, certainty=certainty))).batch(0, 0)
    rows = pooled[:, 0].astype(int)
    assert len(views) == len(targets) == 5
    np.testing.assert_allclose(targets[np.arange(5), features.y[rows]], certainty[rows])
    np.testing.assert_allclose(targets.sum(axis=1), 1.0)


def test_crops_move_and_are_mirrored(made: tuple[Activations, Features]) -> None:
    views = np.concatenate([augmented(made).batch(epoch, 0)[0][0] for epoch in range(20)])
    assert views.shape[1:] == (9, 9, 3)
    left, right = ((views[:, 0, column, 0] >= 100).mean() for column in (0, -1))
    assert 0.02 < left < 0.3  # one of four places has the first column, on either side
    assert 0.02 < right < 0.3


@pytest.mark.parametrize(("symmetry", "expected"), [("none", 1), ("mirror", 2), ("all", 8)])
def test_crops_are_symmetric_images_of_the_photo(tmp_path: Path, symmetry: str, expected: int) -> None:
    photo = np.arange(10 * 10 * 3, dtype=np.uint8).reshape(10, 10, 3)
    digest = digest_bytes(photo.tobytes())
    Activations(tmp_path).write([digest], [photo])
    features = Features(np.zeros((1, 1), np.float32), np.zeros(1, np.int64), ("a", "b"), (digest,), "drawn")
    config = FinetuneConfig.from_dict({"symmetry": symmetry, "mixup": 0.0})
    batches = Augmented([Activations(tmp_path)], features, (0,), 11, lambda x, _: [x], config)
    found = {batches.batch(epoch, 0)[0][0].tobytes() for epoch in range(100)}
    turned = [np.rot90(photo, turns) for turns in range(4)]
    assert found <= {view.tobytes() for one in turned for view in (one[np.newaxis], one[np.newaxis, :, ::-1])}
    assert len(found) == expected


def test_one_of_the_views_is_drawn_each_time(made: tuple[Activations, Features], tmp_path: Path) -> None:
    maps, features = made
    larger = Activations(tmp_path / "larger")
    larger.write(features.digests, list(np.full((COUNT, SIDE + 6, SIDE + 6, 3), 200, np.uint8)))
    config = FinetuneConfig(mixup=0.0)
    both = [maps, larger]
    views = Augmented(both, features, tuple(range(COUNT)), SIDE, lambda x, _: [x], config).batch(0, 0)[0][0]
    assert views.shape == (COUNT, 9, 9, 3)
    assert 0 < (views[:, 4, 4, 0] == 200).sum() < COUNT


def test_targets_follow_what_is_blended(made: tuple[Activations, Features]) -> None:
    for name in ("mixup", "cutmix"):
        options: dict[str, Any] = {name: 1.0}
        (views, rows), targets = augmented(made, **options).batch(0, 0)
        np.testing.assert_allclose(targets.sum(axis=1), 1, atol=1e-6)
        assert np.isfinite(views).all()
        assert len(set(np.round(targets[:, 0], 3))) > 2 or (np.round(rows) != rows).any()


def test_cutmix_pastes_as_much_as_it_says(made: tuple[Activations, Features]) -> None:
    for epoch in range(10):
        (views, rows), targets = augmented(made, cutmix=1.0).batch(epoch, 0)
        for view, row, target in zip(views % 100, rows[:, 0], targets, strict=True):
            values, counts = np.unique(view[..., 0], return_counts=True)
            assert len(values) <= 2
            assert row == pytest.approx(float((values * counts).sum() / counts.sum()), abs=1e-4)
            expected = counts[values < 3].sum() / counts.sum()
            assert target[0] == pytest.approx(float(expected), abs=1e-5)


def test_balanced_classes_weigh_alike(made: tuple[Activations, Features]) -> None:
    batches = augmented(made, class_weight="balanced", batch_size=12)
    _, targets = batches.batch(0, 0)
    np.testing.assert_allclose(targets.sum(axis=0), [6, 6])


def test_batches_share_among_devices(made: tuple[Activations, Features]) -> None:
    assert augmented(made, 2).batch(0, 0)[1].shape == (4, 2)
    assert augmented(made, 8).batch(0, 0)[1].shape == (8, 2)


@pytest.mark.parametrize("augment", ["colour", "randaugment"])
def test_pixels_change_and_stay_pixels(made: tuple[Activations, Features], augment: str) -> None:
    one, two = (augmented(made, augment=augment).batch(epoch, 0)[0][0] for epoch in (0, 1))
    assert one.shape == (5, 9, 9, 3)
    assert 0 <= one.min() <= one.max() <= 255
    assert not np.array_equal(one, two)
    np.testing.assert_array_equal(one, augmented(made, augment=augment).batch(0, 0)[0][0])


def test_each_of_randaugments_ways_keeps_the_size() -> None:
    from PIL import Image

    photo = Image.fromarray(np.random.default_rng(0).integers(50, 200, (20, 30, 3), dtype=np.uint8))
    changed = [way(photo, strength) for way in _RANDAUGMENT for strength in (-0.3, 0.3)]
    assert {image.size for image in changed} == {(30, 20)}
    assert sum(image.tobytes() != photo.tobytes() for image in changed) == 2 * (len(_RANDAUGMENT) - 1)
