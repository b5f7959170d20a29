"""The whole command line on drawn photos, as a user would walk it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from tests.conftest import Command, draw_folder


def test_the_walk(photos: Path, tmp_path: Path, regraft: Command) -> None:
    shutil.copytree(photos, tmp_path / "사진")
    bad = tmp_path / "사진" / "circle" / "bad.jpg"
    bad.write_bytes(b"\xff\xd8\xff\xe0 half a photo")

    done = regraft("train", "사진", "--effort", "quick", "--json")
    document = json.loads(done.stdout)
    expected = {
        "run",
        "classes",
        "counts",
        "problems",
        "val",
        "test",
        "folds",
        "seconds",
        "features",
        "duplicate_groups",
        "groups",
    }
    assert set(document) == expected
    assert document["classes"] == ["Square", "circle", "줄무늬"]
    assert [Path(p["path"]).name for p in document["problems"]] == ["bad.jpg"]
    assert document["run"] == str(Path("runs") / "사진")
    assert document["test"] is None
    low, high = document["folds"]["interval"]
    assert low <= document["folds"]["accuracy"] <= high + 1e-9
    assert (document["folds"]["k"], document["folds"]["n"]) == (5, 60)
    assert document["features"] == {"computed": 60, "cached": 0}

    again = json.loads(regraft("train", "사진", "--effort", "quick", "--json").stdout)
    assert again["run"] == str(Path("runs") / "사진-2")
    assert again["features"] == {"computed": 0, "cached": 60}
    assert again["folds"] == document["folds"]

    text = regraft("train", "사진", "--effort", "quick", "--out", "runs/other").stdout
    assert "60 photos of 3 classes" in text
    assert "줄무늬" in text
    assert "95 % interval" in text

    draw_folder(tmp_path / "new", {"줄무늬": 4, "circle": 4}, seed=5000)
    measured = json.loads(regraft("evaluate", "runs/사진", "new", "--json").stdout)
    assert measured["n"] == 8
    assert {c["label"] for c in measured["per_class"]} == {"Square", "circle", "줄무늬"}
    assert "accuracy" in regraft("evaluate", "runs/사진", "new").stdout

    lines = regraft("predict", "runs/사진", "new/줄무늬", "--top", "2").stdout.splitlines()
    assert len(lines) == 4
    path, label, probability, rejected, _, next_probability = lines[0].split("\t")
    assert path == str(Path("new") / "줄무늬" / "000.jpg")
    assert label in ("Square", "circle", "줄무늬")
    assert rejected in ("true", "false")
    assert float(probability) >= float(next_probability)

    mixed = regraft("predict", "runs/사진", "new/circle/000.jpg", bad, "none.jpg", "--json", code=1)
    first, damaged, missing = json.loads(mixed.stdout)
    assert set(first) == {"path", "none_of_these", "novelty", "top"}
    assert set(first["top"][0]) == {"label", "probability"}
    assert damaged["error"].startswith("damaged")
    assert missing["error"] == "there is no such file"

    exported = json.loads(regraft("export", "runs/사진", "--format", "openvino", "--json").stdout)
    assert exported["comparison"]["agreement"] == 1.0
    assert "줄무늬" in regraft("predict", exported["folder"], "new/줄무늬").stdout


def test_real_photos(bench_data: Path, tmp_path: Path, regraft: Command) -> None:
    """Ants and bees: real JPEGs up to 2592 px, a split of their own, a stray GIF."""
    done = regraft("train", bench_data / "photos" / "ants_bees", "--effort", "quick", "--json")
    document = json.loads(done.stdout)
    assert document["val"]["n"] == document["counts"]["val"] == 153
    assert document["val"]["accuracy"] >= 0.93
    assert document["counts"]["test"] == 0
    assert document["test"]["accuracy"] is None
