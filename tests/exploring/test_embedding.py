from __future__ import annotations

import json
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pyarrow import parquet

from regraft import Classifier, Dataset, FeatureConfig, embed, train
from regraft.backbones.base import load_backbone
from regraft.errors import ConfigError, DataError, RunError
from regraft.exploring import embedding
from regraft.foundation.files import digest_file
from tests.conftest import SHAPES, Command, draw_folder

QUICK = {"resolution": 96}


def rows_of(path: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = parquet.read_table(path).to_pylist()
    return rows


def features_in(path: Path) -> NDArray[np.float32]:
    column = parquet.read_table(path)["features"].combine_chunks()
    return np.asarray(column.flatten()).reshape(len(column), -1)


@pytest.fixture
def few(tmp_path: Path) -> Path:
    return draw_folder(tmp_path / "few", dict.fromkeys(SHAPES, 3))


def test_the_file_has_a_row_for_each_photo_that_can_be_read(
    few: Path, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedding, "_GROUP", 4)  # several row groups
    shutil.copy(few / "circle" / "000.jpg", few / "circle" / "copy.jpg")
    (few / "circle" / "half.jpg").write_bytes((few / "circle" / "001.jpg").read_bytes()[:700])
    (few / "circle" / "text.png").write_text("no photo")
    found = embed(few, tmp_path / "new" / "f.parquet", QUICK)
    backbone = load_backbone("efficientnet_lite0", 96)
    assert {Path(problem["path"]).name for problem in found.pop("problems")} == {"half.jpg", "text.png"}
    counts = {"photos": 10, "features": backbone.num_features, "computed": 9, "cached": 1}
    assert found == {"out": str(tmp_path / "new" / "f.parquet"), "backbone": backbone.name, **counts}
    rows = rows_of(tmp_path / "new" / "f.parquet")
    records = [r for r in Dataset.open(few).records if r.path.name != "half.jpg"]
    assert [(row["path"], row["label"], row["digest"]) for row in rows] == [
        (str(r.path), r.label, digest_file(r.path)) for r in records
    ]
    assert {row["split"] for row in rows} == {None}
    assert rows[3]["features"] == rows[6]["features"]  # the copy is the last photo of its class
    again = embed(few, tmp_path / "new" / "f.parquet", FeatureConfig(resolution=96))
    assert (again["computed"], again["cached"]) == (0, 10)
    assert rows_of(tmp_path / "new" / "f.parquet") == rows


def test_the_metadata_tell_the_columns(few: Path, tmp_path: Path, cache: Path) -> None:
    embed(few, tmp_path / "f.parquet", {"resolution": "64+96"})
    facts = {
        key.decode(): value.decode() for key, value in parquet.read_schema(tmp_path / "f.parquet").metadata.items()
    }
    assert facts["regraft.version"] == version("regraft")
    assert facts["regraft.backbone"] == "embedded:efficientnet_lite0+embedded:efficientnet_lite0"
    assert facts["regraft.precision"] in ("bf16", "f32")
    assert len(facts["regraft.fingerprint"]) == 64
    stages = json.loads(facts["regraft.stages"])
    parts = [load_backbone("efficientnet_lite0", size) for size in (64, 96)]
    assert [(stage["name"], stage["width"], stage["size"]) for stage in stages] == [
        (name, width, part.transform.size)
        for part in parts
        for name, width in zip(part.stages, part.widths, strict=True)
    ]
    assert features_in(tmp_path / "f.parquet").shape == (9, sum(stage["width"] for stage in stages))


def test_pandas_reads_the_file_as_the_page_shows(few: Path, tmp_path: Path, cache: Path) -> None:
    pandas = pytest.importorskip("pandas", reason="needs pandas")
    embed(few, tmp_path / "features.parquet", QUICK)
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "similar-photos.md").read_text(encoding="utf-8")
    assert 'table = pd.read_parquet("features.parquet")\nfeatures = np.stack(table["features"])' in page
    table = pandas.read_parquet(tmp_path / "features.parquet")
    features = np.stack(table["features"])
    assert features.dtype == np.float32
    np.testing.assert_array_equal(features, features_in(tmp_path / "features.parquet"))
    assert list(table["label"]) == [row["label"] for row in rows_of(tmp_path / "features.parquet")]


def test_photos_need_no_labels(few: Path, tmp_path: Path, cache: Path) -> None:
    (few / "circle" / "text.txt").write_text("beside the photos")
    assert embed(few / "circle", tmp_path / "f.parquet", QUICK)["photos"] == 3
    rows = rows_of(tmp_path / "f.parquet")
    assert [(Path(row["path"]).name, row["label"]) for row in rows] == [(f"00{i}.jpg", None) for i in range(3)]
    assert embed(few / "circle" / "001.jpg", tmp_path / "one.parquet", QUICK)["cached"] == 1
    assert rows_of(tmp_path / "one.parquet") == rows[1:2]


def test_a_table_tells_splits_and_labels(few: Path, tmp_path: Path, cache: Path) -> None:
    (tmp_path / "t.csv").write_text("path,label,split\nfew/circle/000.jpg,round,train\nfew/Square/000.jpg,square,\n")
    embed(tmp_path / "t.csv", tmp_path / "f.parquet", QUICK)
    assert [(row["label"], row["split"]) for row in rows_of(tmp_path / "f.parquet")] == [
        ("round", "train"),
        ("square", None),
    ]


def test_the_backbone_of_a_run(photos: Path, few: Path, tmp_path: Path, cache: Path) -> None:
    train(photos, tmp_path / "run", {"resolution": 64})
    found = embed(few, tmp_path / "f.parquet", run=tmp_path / "run")
    classifier = Classifier.load(tmp_path / "run")
    assert found["features"] == classifier.backbone.num_features
    wanted, _ = classifier.features(Dataset.open(few).records)
    np.testing.assert_array_equal(features_in(tmp_path / "f.parquet"), wanted)
    assert embed(few, tmp_path / "f.parquet", {"label_from": "last"}, classifier)["cached"] == 9
    with pytest.raises(ConfigError, match="the run decides on resolution; leave resolution or the run out"):
        embed(few, tmp_path / "f.parquet", QUICK, tmp_path / "run")
    with pytest.raises(RunError, match="there is no run folder"):
        embed(few, tmp_path / "f.parquet", run=tmp_path / "none")


def test_nothing_of_somebody_else_is_replaced(few: Path, tmp_path: Path, cache: Path) -> None:
    (tmp_path / "mine.parquet").write_text("mine")
    with pytest.raises(ConfigError, match="is there already and is not a file of features"):
        embed(few, tmp_path / "mine.parquet", QUICK)
    assert (tmp_path / "mine.parquet").read_text() == "mine"
    with pytest.raises(ConfigError, match=r"wanted a name that ends in \.parquet"):
        embed(few, tmp_path / "features.csv", QUICK)
    with pytest.raises(DataError, match="there is no"):
        embed(tmp_path / "none", tmp_path / "f.parquet", QUICK)
    for photo in (few / "circle").iterdir():
        photo.write_bytes(photo.read_bytes()[:300])
    with pytest.raises(DataError, match="none of the 3 photos can be read"):
        embed(few / "circle", tmp_path / "f.parquet", QUICK)
    assert {path.name for path in tmp_path.iterdir()} == {"few", "cache", "mine.parquet"}


def test_the_command_says_what_it_wrote(few: Path, tmp_path: Path, regraft: Command) -> None:
    (few / "circle" / "bad.jpg").write_text("no photo")
    done = regraft("embed", "few", "--resolution", "96")
    assert "9 photos with 1704 features each, of embedded:efficientnet_lite0, in features.parquet" in done.stdout
    assert "features: 9 computed, 0 cached" in done.stdout
    assert "bad.jpg: not an image" in done.stdout
    assert regraft("embed", "few", "--run", "run", "--effort", "quick", code=1).stderr == (
        "regraft: the run decides on effort; leave --effort or the run out\n"
    )
