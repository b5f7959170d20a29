from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from regraft.errors import ImageError
from regraft.foundation.files import digest_bytes
from regraft.photos.boxes import Box
from regraft.photos.dataset import Dataset
from regraft.photos.images import Part, cropped_digest, decode, read
from regraft.photos.splitting import split
from tests.conftest import SHAPES, draw_photo


def part_of(path: Path, *box: float) -> Part:
    return Part(path, 0, path.stat().st_size, Box.of(*box))


@pytest.mark.parametrize(
    ("box", "text"),
    [
        ((0.25, 0.5, 0.25, 0.25), "box=0.25,0.5,0.25,0.25"),
        ((0, 0, 1, 1, 4 / 3), "box=0,0,1,1@1.333"),
        ((-0.5, 0.9, 1, 1), "box=0,0.9,0.5,0.1"),
        ((1 / 3, 1 / 3, 1 / 3, 1e-9), None),
        ((1.5, 0, 1, 1), None),
        ((0.5, 0.5, -0.1, 0.1), None),
    ],
)
def test_a_box_is_what_its_text_says(box: tuple[float, ...], text: str | None) -> None:
    found = Box.of(*box)
    assert (found and str(found)) == text
    if text:
        assert Box.parse(text) == found


@pytest.mark.parametrize("text", ["", "box=", "box=1,2,3", "box=0,0,1,1@", "box=0..1,0,1,1", "0,0,1,1", "box=0,0,0,1"])
def test_other_texts_are_no_box(text: str) -> None:
    assert Box.parse(text) is None


def test_a_crop_is_the_area_of_the_upright_photo(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (40, 80, 3), np.uint8)
    whole = Image.fromarray(pixels)
    whole.save(tmp_path / "a.png")
    crop = decode(read(tmp_path / "x", part_of(tmp_path / "a.png", 0.25, 0.5, 0.5, 0.25)))
    assert np.array_equal(np.asarray(crop), pixels[20:30, 20:60])
    turned = Image.Exif()
    turned[0x0112] = 6
    whole.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "b.png", exif=turned)
    again = decode(read(tmp_path / "x", part_of(tmp_path / "b.png", 0.25, 0.5, 0.5, 0.25)))
    assert np.array_equal(np.asarray(again), np.asarray(crop))


def test_a_box_of_another_shape_is_not_guessed(tmp_path: Path) -> None:
    draw_photo(SHAPES["circle"], 1).save(tmp_path / "a.jpg")
    assert read(tmp_path / "a.jpg", part_of(tmp_path / "a.jpg", 0, 0, 0.5, 0.5, 4 / 3))
    with pytest.raises(ImageError, match=r"1\.33 times its height.*0\.75"):
        read(tmp_path / "a.jpg", part_of(tmp_path / "a.jpg", 0, 0, 0.5, 0.5, 3 / 4))


def test_the_digest_is_of_the_content_and_the_box(tmp_path: Path) -> None:
    file = BytesIO()
    draw_photo(SHAPES["circle"], 1).save(file, "JPEG")
    data = file.getvalue()
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).write_bytes(data)
    one, copy = part_of(tmp_path / "a.jpg", 0, 0, 0.5, 0.5), part_of(tmp_path / "b.jpg", 0, 0, 0.5, 0.5)
    other = part_of(tmp_path / "a.jpg", 0, 0, 0.5, 0.6)
    whole = digest_bytes(data)
    assert cropped_digest(whole, one) == cropped_digest(whole, copy)
    digests = {
        cropped_digest(digest_bytes(data + b"x"), one),
        *(cropped_digest(whole, part) for part in (one, other, None)),
    }
    assert len(digests) == 4


def test_a_table_may_name_boxes_whose_photos_stay_on_one_side(tmp_path: Path) -> None:
    rows = ["path,label"]
    for i in range(30):
        draw_photo(SHAPES["circle"], i).save(tmp_path / f"{i}.jpg")
        rows += [f'"{i}.jpg#box=0,0,0.5,1",left', f'"{i}.jpg#box=0.5,0,0.5,1",right']
    (tmp_path / "boxes.csv").write_text("\n".join(rows), encoding="utf-8")
    dataset = Dataset.open(tmp_path / "boxes.csv")
    assert dataset.counts() == {"left": 30, "right": 30}
    assert len({record.digest for record in dataset.records}) == 60
    sides = split(dataset, (0.2, 0.2))
    names = [record.path.name.partition("#")[0] for record in dataset.records]
    photos = [{names[i] for i in side} for side in (sides.train, sides.val, sides.test)]
    assert all(photos)
    assert sum(map(len, photos)) == 30


def test_a_photo_that_changes_is_noticed(tmp_path: Path) -> None:
    draw_photo(SHAPES["circle"], 1).save(tmp_path / "a.jpg")
    (tmp_path / "boxes.csv").write_text('path,label\n"a.jpg#box=0,0,0.5,1",left\n', encoding="utf-8")
    (record,) = Dataset.open(tmp_path / "boxes.csv").records
    assert decode(record.read_unchanged()).size == (80, 120)
    draw_photo(SHAPES["Square"], 2).save(tmp_path / "a.jpg")
    with pytest.raises(ImageError, match="changed"):
        record.read_unchanged()
