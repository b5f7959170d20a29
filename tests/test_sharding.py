from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from regraft.config.sharding import ShardConfig
from regraft.errors import ConfigError, DataError
from regraft.foundation.tfrecord import example, frame
from regraft.photos.dataset import Dataset
from regraft.photos.images import Problem, decode
from regraft.photos.sources.base import SIDES, Side
from regraft.photos.splitting import Split, split
from regraft.sharding import shard
from tests.conftest import Command, draw_folder
from tests.features.test_duplicates import scene


@pytest.fixture
def odd(photos: Path, tmp_path: Path) -> Path:
    """The drawn photos, and some that readers of shards could not show: turned, transparent, deep, broken."""
    root = tmp_path / "odd"
    shutil.copytree(photos, root)
    exif = Image.Exif()
    exif[0x0112] = 6
    scene(1).save(root / "circle" / "turned.jpg", exif=exif)
    scene(2).convert("RGBA").save(root / "circle" / "alpha.webp")
    Image.fromarray(np.linspace(0, 65535, 10000).astype(np.uint16).reshape(100, 100)).save(root / "circle" / "deep.png")
    scene(3).save(root / "circle" / "plain.png")
    scene(4).resize((2000, 1500)).save(root / "줄무늬" / "큰 사진.jpg", quality=90)
    (root / "circle" / "half.jpg").write_bytes((root / "circle" / "000.jpg").read_bytes()[:900])
    (root / "circle" / "text.png").write_text("no photo")
    return root


def contents(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted(folder.iterdir())}


@pytest.mark.parametrize("kind", ["tfrecord", "webdataset"])
def test_what_is_written_is_read_again(kind: str, odd: Path, tmp_path: Path) -> None:
    told = shard(odd, tmp_path / "s", ShardConfig(format=kind, per_shard=20))  # type: ignore[arg-type]
    assert told["photos"] == sum(s["photos"] for s in told["shards"]) == 65
    assert [s["photos"] for s in told["shards"]] == [20, 20, 20, 5]
    assert {Path(p["path"]).name for p in told["problems"]} == {"half.jpg", "text.png"}
    assert told["classes"] == ["Square", "circle", "줄무늬"]
    assert (tmp_path / "s" / "labels.txt").read_text(encoding="utf-8") == "Square\ncircle\n줄무늬\n"
    before, after = Dataset.open(odd), Dataset.open(tmp_path / "s")
    assert after.counts() == {"Square": 20, "circle": 24, "줄무늬": 21}
    kept = {r.digest for r in before.records} & {r.digest for r in after.records}
    assert len(kept) == 62  # all but the three that were encoded anew
    for record in after.records:
        with Image.open(io.BytesIO(record.read())) as image:
            assert image.format in ("JPEG", "PNG")
            assert image.mode in ("RGB", "L")
            assert image.getexif().get(0x0112, 1) == 1


def test_an_encoded_photo_shows_what_the_original_shows(odd: Path, tmp_path: Path) -> None:
    shard(odd, tmp_path / "s")
    known = {r.digest for r in Dataset.open(odd).records}
    new = [decode(r.read()) for r in Dataset.open(tmp_path / "s").records if r.digest not in known]
    originals = [decode((odd / "circle" / name).read_bytes()) for name in ("turned.jpg", "alpha.webp", "deep.png")]
    for original in originals:
        gaps = [np.abs(np.asarray(original, int) - np.asarray(n, int)).mean() for n in new if n.size == original.size]
        assert min(gaps) < 3


@pytest.mark.parametrize("kind", ["tfrecord", "webdataset"])
def test_the_bytes_do_not_depend_on_the_workers(kind: str, odd: Path, tmp_path: Path) -> None:
    for name, workers in (("one", 1), ("seven", 7)):
        shard(odd, tmp_path / name, ShardConfig(format=kind, shards=3, workers=workers))  # type: ignore[arg-type]
    assert contents(tmp_path / "one") == contents(tmp_path / "seven")
    assert len(contents(tmp_path / "one")) == 5


def test_given_sides_have_shards_of_their_own(photos: Path, tmp_path: Path) -> None:
    for side in ("train", "val"):
        shutil.copytree(photos, tmp_path / "p" / side)
    (tmp_path / "p" / "val" / "circle" / "000.jpg").unlink()
    told = shard(tmp_path / "p", tmp_path / "s", ShardConfig(shards=2))
    assert {s["file"]: s["photos"] for s in told["shards"]} == {
        "train-00000-of-00002": 30,
        "train-00001-of-00002": 30,
        "validation-00000-of-00002": 30,
        "validation-00001-of-00002": 29,
    }
    sides = [r.split for r in Dataset.open(tmp_path / "s").records]
    assert (sides.count("train"), sides.count("val")) == (60, 59)


def test_the_background_class_and_given_labels(tmp_path: Path) -> None:
    draw_folder(tmp_path / "p", {"a": 2, "b": 2})
    (tmp_path / "names.txt").write_text("b\nz\na\n")
    config = ShardConfig(format="webdataset", background=True, labels=tmp_path / "names.txt")
    assert shard(tmp_path / "p", tmp_path / "s", config)["classes"] == ["background", "b", "z", "a"]
    with tarfile.open(tmp_path / "s" / "photos-000000.tar") as file:
        numbers = {file.extractfile(m).read() for m in file if m.name.endswith(".cls")}  # type: ignore[union-attr]
    assert numbers == {b"1", b"3"}
    (tmp_path / "names.txt").write_text("b\n")
    with pytest.raises(DataError, match="lacks the classes a"):
        shard(tmp_path / "p", tmp_path / "s", config)


def test_another_folder_is_never_replaced(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    with pytest.raises(ConfigError, match="is not a folder of shards, so it is not overwritten"):
        shard(photos, tmp_path / "mine")
    for config in (ShardConfig(shards=5), ShardConfig(per_shard=100)):
        shard(photos, tmp_path / "s", config)
    assert set(contents(tmp_path / "s")) == {"labels.txt", "shards.json", "photos-00000-of-00001"}
    with pytest.raises(ConfigError, match="same thing twice"):
        ShardConfig(shards=1, per_shard=2)


def test_shards_train_as_their_photos_do(photos: Path, regraft: Command) -> None:
    regraft("shard", photos, "--out", "shards", "--format", "webdataset")
    one = json.loads(regraft("train", photos, "--effort", "quick", "--json").stdout)
    two = json.loads(regraft("train", "shards", "--effort", "quick", "--json").stdout)
    assert two["features"] == {"computed": 0, "cached": 60}
    assert len(one["folds"].pop("mistakes")) == len(two["folds"].pop("mistakes"))
    assert one["folds"] == two["folds"]
    answers = regraft("predict", "runs/shards", "shards").stdout
    assert answers.count("\n") == 60


@pytest.mark.parametrize("kind", ["tfrecord", "webdataset"])
def test_shards_split_as_their_photos_do(kind: str, odd: Path, tmp_path: Path) -> None:
    (tmp_path / "all.csv").write_text(
        "path,label,group\n"
        + "".join(
            f"odd/{path.parent.name}/{path.name},{path.parent.name},{'burst 1' if path.name < '004' else ''}\n"
            for path in sorted(odd.rglob("*.*"))
        ),
        encoding="utf-8",
    )
    before = Dataset.open(tmp_path / "all.csv")
    shard(before, tmp_path / "s", ShardConfig(format=kind, shards=2))  # type: ignore[arg-type]
    after = Dataset.open(tmp_path / "s")
    before = before.without([Problem(path, "") for path in (odd / "circle" / "half.jpg",)])
    there, here = ({side: identities(d, split(d), side) for side in SIDES} for d in (after, before))
    assert there == here
    assert {r.group for r in after.records} == {None, "burst 1"}
    assert sum(r.identity != r.digest for r in after.records) == 3  # encoded anew
    shard(after, tmp_path / "again", ShardConfig(format=kind))  # type: ignore[arg-type]
    again = Dataset.open(tmp_path / "again")
    assert {r.identity for r in again.records} == {r.identity for r in after.records}


def identities(dataset: Dataset, sides: Split, side: Side) -> list[tuple[str, str]]:
    return [(dataset.records[i].identity, dataset.records[i].label) for i in getattr(sides, side)]


@pytest.mark.parametrize("kind", ["tfrecord", "webdataset"])
def test_shards_keep_the_probabilities_of_labels(kind: str, tmp_path: Path) -> None:
    draw_folder(tmp_path, {"a": 4})
    rows = [f"a/{i:03}.jpg,{p}" for i, p in enumerate((0, 1 / 3, 0.5, 1))]
    (tmp_path / "p.csv").write_text("\n".join(["path,label", *rows]))
    shard(tmp_path / "p.csv", tmp_path / "s", ShardConfig(format=kind))  # type: ignore[arg-type]
    before, after = Dataset.open(tmp_path / "p.csv"), Dataset.open(tmp_path / "s")
    assert {r.probability for r in before.records} == {0.5, 1 - 1 / 3, 1.0}
    assert after.digest == before.digest


@pytest.mark.parametrize("told", ["0.4", "1.1", "nan", "", "much"])
def test_a_probability_that_is_none_is_passed_over(told: str, photos: Path, tmp_path: Path) -> None:
    data = next(photos.rglob("*.jpg")).read_bytes()
    features = {"image/class/text": "a", "image/regraft/probability": told}
    (tmp_path / "one.tfrecord").write_bytes(frame(example({"image/encoded": data, **features})))
    (record,) = Dataset.open(tmp_path / "one.tfrecord").records
    assert record.probability == 1.0


def test_a_manifest_of_photos_in_shards_keeps_their_identity(odd: Path, tmp_path: Path) -> None:
    shard(odd, tmp_path / "s", ShardConfig(format="webdataset"))
    direct = Dataset.open(tmp_path / "s")
    rows = [f"{r.path.relative_to(tmp_path)},{r.label}" for r in direct.records]
    (tmp_path / "m.csv").write_text("path,label\n" + "\n".join(rows), encoding="utf-8")
    assert [r.identity for r in Dataset.open(tmp_path / "m.csv").records] == [r.identity for r in direct.records]


@pytest.mark.parametrize("told", ["", "x" * 64, "a" * 63, "A" * 64, 7, None, ["a" * 64]])
def test_a_digest_that_is_none_is_passed_over(told: object, photos: Path, tmp_path: Path) -> None:
    data = (photos / "circle" / "000.jpg").read_bytes()
    facts = json.dumps({"label": "a", "regraft": {"digest": told, "group": told}}).encode()
    with tarfile.open(tmp_path / "x.tar", "w") as file:
        for kind, member in (("jpg", data), ("json", facts)):
            info = tarfile.TarInfo(f"0.{kind}")
            info.size = len(member)
            file.addfile(info, io.BytesIO(member))
    assert [r.origin for r in Dataset.open(tmp_path / "x.tar").records] == [None]
    values: dict[str, bytes | str | int] = {"image/encoded": data, "image/class/text": "a"}
    values["image/regraft/digest"] = told if isinstance(told, str | int) else ""
    (tmp_path / "x.tfrecord").write_bytes(frame(example(values)))
    assert [r.origin for r in Dataset.open(tmp_path / "x.tfrecord").records] == [None]


STREAM = """
import json, sys
import webdataset
rows = webdataset.WebDataset(sys.argv[1:], shardshuffle=False, empty_check=False).decode("pil")
print(json.dumps([[row["cls"], row["json"], (row.get("jpg") or row["png"]).size] for row in rows]))
"""


def test_webdatasets_own_reader_takes_them(odd: Path, tmp_path: Path) -> None:
    pytest.importorskip("webdataset", reason="needs the extra test")
    told = shard(odd, tmp_path / "s", ShardConfig(format="webdataset", shards=2))
    files = [str(tmp_path / "s" / s["file"]) for s in told["shards"]]
    # In a process of its own, as it leaves its files open.
    done = subprocess.run([sys.executable, "-c", STREAM, *files], capture_output=True, encoding="utf-8", check=True)
    rows = json.loads(done.stdout)
    assert len(rows) == 65
    for label, facts, size in rows:
        assert told["classes"][label] == facts["label"]
        assert size == [facts["width"], facts["height"]]
        assert len(facts["regraft"]["digest"]) == 64


READ = """
import json, sys
import tensorflow as tf
schema = {name: tf.io.FixedLenFeature([], kind) for name, kind in (
    ("image/encoded", tf.string), ("image/format", tf.string), ("image/class/label", tf.int64),
    ("image/class/text", tf.string), ("image/height", tf.int64), ("image/width", tf.int64),
    ("image/filename", tf.string))}
rows = []
for raw in tf.data.TFRecordDataset(sys.argv[1:]):
    row = tf.io.parse_single_example(raw, schema)
    image = tf.io.decode_image(row["image/encoded"], channels=3)
    assert image.shape[:2] == (row["image/height"], row["image/width"])
    rows.append([row["image/class/text"].numpy().decode(), int(row["image/class/label"]),
                 row["image/filename"].numpy().decode(), float(tf.reduce_mean(tf.cast(image, tf.float32)))])
print(json.dumps(rows))
"""

WRITE = """
import sys
from pathlib import Path
import tensorflow as tf
def bytes_feature(value): return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
paths = sorted(Path(sys.argv[1]).rglob("*.jpg"))
names = sorted({p.parent.name for p in paths})
with tf.io.TFRecordWriter(sys.argv[2]) as writer:
    for path in paths:
        label = tf.train.Feature(int64_list=tf.train.Int64List(value=[names.index(path.parent.name)]))
        writer.write(tf.train.Example(features=tf.train.Features(feature={
            "image/encoded": bytes_feature(path.read_bytes()), "image/class/label": label,
            "image/class/text": bytes_feature(path.parent.name.encode()),
            "image/object/bbox/xmin": tf.train.Feature(float_list=tf.train.FloatList(value=[0.1, 0.2])),
        })).SerializeToString())
"""


def tensorflow(script: str, *arguments: Path | str) -> str:
    """Run a script with TensorFlow, in a process of its own."""
    if subprocess.run([sys.executable, "-c", "import tensorflow"], capture_output=True, check=False).returncode:
        pytest.skip("needs the extra tensorflow")
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, encoding="utf-8", check=True).stdout


def test_tensorflows_own_reader_takes_them(odd: Path, tmp_path: Path) -> None:
    told = shard(odd, tmp_path / "s", ShardConfig(shards=2))
    rows = json.loads(tensorflow(READ, *(tmp_path / "s" / s["file"] for s in told["shards"])))
    assert len(rows) == 65
    ours = {decode(r.read()).size: r for r in Dataset.open(tmp_path / "s").records}
    assert ours
    for text, label, name, mean in rows:
        assert told["classes"][label] == text
        if name == "turned.jpg":
            assert abs(mean - np.asarray(decode((odd / "circle" / name).read_bytes())).mean()) < 3


def test_shards_that_tensorflow_wrote_are_read(photos: Path, tmp_path: Path) -> None:
    tensorflow(WRITE, photos, tmp_path / "x.tfrecord")
    assert Dataset.open(tmp_path / "x.tfrecord").digest == Dataset.open(photos).digest
