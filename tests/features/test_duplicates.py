from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageOps

from regraft.backbones.base import load_backbone
from regraft.engines.openvino import OpenVinoEngine
from regraft.features.duplicates import duplicate_groups, near_duplicates
from regraft.features.features import extract
from regraft.foundation.files import cache_folder
from regraft.photos.dataset import Dataset

COUNT = 40


def scene(seed: int) -> Image.Image:
    """A picture full of things, unlike any other."""
    dice = random.Random(seed)
    image = Image.new("RGB", (320, 240), tuple(dice.randrange(256) for _ in range(3)))
    draw = ImageDraw.Draw(image)
    for _ in range(25):
        x, y, w, h = dice.randrange(320), dice.randrange(240), dice.randint(10, 110), dice.randint(10, 110)
        colour = tuple(dice.randrange(256) for _ in range(3))
        kind = dice.choice((draw.ellipse, draw.rectangle))
        kind((x - w, y - h, x + w // 2, y + h // 2), fill=colour)
    return image


def cut(image: Image.Image) -> Image.Image:
    width, height = image.size
    return image.crop((width // 40, height // 60, width - width // 40, height - height // 30))


CHANGES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "resized": lambda image: image.resize((image.width // 2, image.height // 2)),
    "mirrored": ImageOps.mirror,
    "recompressed": lambda image: image,
    "cut": cut,
}


@pytest.mark.parametrize("change", ["mirrored", "recompressed", "resized"])
def test_copies_are_found_and_nothing_else(change: str, tmp_path: Path, cache: Path) -> None:
    for label in "ab":
        (tmp_path / "p" / label).mkdir(parents=True)
    for i in range(COUNT):
        scene(i).save(tmp_path / "p" / "ab"[i % 2] / f"{i}.png")
        if i % 4 == 0:
            CHANGES[change](scene(i)).save(
                tmp_path / "p" / "b" / f"{i} copy.jpg", quality=40 if change == "recompressed" else 90
            )
    records = Dataset.open(tmp_path / "p").records
    extraction = extract(records, OpenVinoEngine(load_backbone("efficientnet_lite0")))
    groups = duplicate_groups([r.digest for r in records], extraction.x, extraction.looks["thumbnail"])
    found = {frozenset(records[i].path.stem for i in group) for group in groups}
    planted = {frozenset({f"{i}", f"{i} copy"}) for i in range(0, COUNT, 4)}
    assert found <= planted
    assert len(found) >= len(planted) - 1


def random_photos(count: int, dice: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    x = np.maximum(dice.standard_normal((count, 64)), 0).astype(np.float32)
    return x, dice.integers(0, 256, (count, 16, 16)).astype(np.uint8)


def test_byte_equal_photos_are_a_group_whatever_they_show() -> None:
    x, looks = random_photos(6, np.random.default_rng(0))
    x[3], looks[3] = x[1], looks[1]
    assert duplicate_groups(["a", "b", "c", "b", "d", "b"], x, looks) == [[1, 3, 5]]
    assert duplicate_groups([], x[:0], looks[:0]) == []
    assert duplicate_groups(["a"], x[:1], looks[:1]) == []


def test_a_cut_photo_is_found_by_its_features_and_its_blurred_look() -> None:
    dice = np.random.default_rng(0)
    x, looks = random_photos(60, dice)
    smooth = np.stack(
        [np.asarray(Image.fromarray(t[:4, :4]).resize((17, 16), Image.Resampling.BICUBIC)) for t in looks]
    )
    looks = np.concatenate([smooth[:, :, :16], smooth[:20, :, 1:]])  # the last 20 are moved by a sixteenth
    far = np.concatenate([x, dice.permuted(x[:20], axis=1)])
    near = np.concatenate([x, x[:20] + dice.normal(0, 0.1, (20, 64)).astype(np.float32)])
    assert near_duplicates(far, looks).size == 0
    found = near_duplicates(near, looks).tolist()
    assert all(j == i + 60 for i, j in found)
    assert len(found) >= 18


def test_the_answer_is_cached_for_the_same_photos_in_any_order() -> None:
    dice = np.random.default_rng(0)
    x, looks = random_photos(50, dice)
    x[49], looks[49] = x[7], looks[7, :, ::-1]
    names = [f"{i:02}" for i in range(50)]
    assert duplicate_groups(names, x, looks, "engine") == [[7, 49]]
    nothing = np.zeros_like(x)
    assert duplicate_groups(names[::-1], nothing, looks[::-1], "engine") == [[0, 42]]
    assert duplicate_groups(names[:49], x[:49], looks[:49], "engine") == []
    (file,) = [p for p in cache_folder("duplicates").iterdir() if json.loads(p.read_text())["value"]]
    file.write_text("[")
    assert duplicate_groups(names, x, looks, "engine") == [[7, 49]]


def test_known_pairs_are_not_searched_again() -> None:
    x, looks = random_photos(60, np.random.default_rng(0))
    names = [f"{i:02}" for i in range(60)]
    assert duplicate_groups(names[:50], x[:50], looks[:50], "engine") == []
    x[10], looks[10] = x[11], looks[11]  # features of a digest never change: this shows that they are not compared
    x[55], looks[55] = x[20], looks[20]
    x[57], looks[57] = x[58], looks[58]
    assert duplicate_groups(names, x, looks, "engine", names[:50]) == [[20, 55], [57, 58]]
    assert duplicate_groups(names, x, looks, "other engine", names[:50]) == [[10, 11], [20, 55], [57, 58]]


def test_blank_photos_are_not_copies_of_each_other() -> None:
    x, looks = random_photos(30, np.random.default_rng(0))
    looks[:5] = np.random.default_rng(1).integers(100, 102, (5, 16, 16))
    assert near_duplicates(x, looks).size == 0


def test_a_large_set_goes_through_the_index_of_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    from regraft.features import duplicates

    monkeypatch.setattr(duplicates, "_EXACT_DISTANCES", 1000**2)
    dice = np.random.default_rng(0)
    x, looks = random_photos(3000, dice)
    x[2900:], looks[2900:] = x[:100] + dice.normal(0, 0.01, (100, 64)), looks[:100, :, ::-1]
    groups = duplicate_groups([str(i) for i in range(3000)], x, looks)
    assert len(groups) >= 95
    assert all(group[1] == group[0] + 2900 for group in groups)


def test_planted_copies_among_flowers(bench_data: Path, tmp_path: Path, cache: Path) -> None:
    """At least 95 % of 4 kinds of copies of 60 flowers are grouped with their originals, and few others."""
    paths = sorted((bench_data / "photos" / "flowers").rglob("*.jpg"))[::5]
    for label in "ab":
        (tmp_path / "p" / label).mkdir(parents=True)
    for i, path in enumerate(paths):
        image = Image.open(path).convert("RGB")
        image.save(tmp_path / "p" / "a" / f"{i}.jpg", quality=95)
        if i % 8 == 0:
            for name, change in CHANGES.items():
                change(image).save(
                    tmp_path / "p" / "b" / f"{i} {name}.jpg", quality=40 if name == "recompressed" else 90
                )
    records = Dataset.open(tmp_path / "p").records
    extraction = extract(records, OpenVinoEngine(load_backbone("efficientnet_lite0")))
    groups = duplicate_groups([r.digest for r in records], extraction.x, extraction.looks["thumbnail"])
    group_of = {records[i].path.stem: number for number, group in enumerate(groups) for i in group}
    planted = [r.path.stem for r in records if " " in r.path.stem]
    right = [name for name in planted if group_of.get(name, -1) == group_of.get(name.split()[0], -2)]
    assert len(right) >= 0.95 * len(planted)
    with_copies = {name.split()[0] for name in planted}
    others = [r for r in records if r.path.stem in group_of and r.path.stem.split()[0] not in with_copies]
    assert len(others) <= 6  # 11 pairs among all 2,362 are copies indeed
