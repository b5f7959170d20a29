from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from regraft import Classifier, TrainConfig, train
from regraft.backbones.base import load_backbone
from regraft.backbones.side_by_side import SideBySide, has_one_geometry, names_in, parts_of
from regraft.errors import BackboneError, ConfigError, DataError, RegraftError
from regraft.features.backbone_choice import choose_backbone
from tests.conftest import Command

SMALL = ("--backbone", "keras:mobilenet_0.25_128+keras:mobilenet_0.5_128", "--weights", "none")


def test_a_plus_separates_names_but_not_the_path_of_a_file(tmp_path: Path) -> None:
    assert names_in("keras:a+embedded:b") == ("keras:a", "embedded:b")
    assert names_in("keras:a") == ("keras:a",)
    path = tmp_path / "a+b.onnx"
    path.write_bytes(b"")
    assert names_in(f"file:{path}") == (f"file:{path}",)


def test_two_backbones_describe_themselves_as_one() -> None:
    parts = [load_backbone("efficientnet_lite0", size) for size in (96, 128)]
    both = SideBySide(parts)
    assert both.name == "embedded:efficientnet_lite0+embedded:efficientnet_lite0"
    assert both.num_features == 2 * parts[0].num_features == sum(both.widths)
    assert both.licence == "Apache-2.0"
    assert both.fingerprint not in {part.fingerprint for part in parts}
    assert both.fingerprint != SideBySide(parts[::-1]).fingerprint
    assert parts_of(both) == tuple(parts)
    assert parts_of(parts[0]) == (parts[0],)
    assert not has_one_geometry(both)
    assert has_one_geometry(SideBySide([parts[0], parts[0]]))


@pytest.mark.parametrize(
    ("values", "sizes"),
    [
        ({"resolution": "96+128"}, [("embedded:efficientnet_lite0", 96), ("embedded:efficientnet_lite0", 128)]),
        (
            {"backbone": "efficientnet_lite0+keras:resnet50", "resolution": 96},
            [("embedded:efficientnet_lite0", 96), ("keras:resnet50", 96)],
        ),
        (
            {"backbone": "efficientnet_lite0+keras:resnet50", "resolution": "96+128"},
            [("embedded:efficientnet_lite0", 96), ("keras:resnet50", 128)],
        ),
        ({"effort": "thorough"}, [("embedded:efficientnet_lite0", 288), ("embedded:efficientnet_lite0", 416)]),
        ({"effort": "thorough", "resolution": "96"}, [("embedded:efficientnet_lite0", 96)]),
    ],
)
def test_names_and_sizes_pair_up(values: dict[str, str | int], sizes: list[tuple[str, int]]) -> None:
    config = TrainConfig(**values)  # type: ignore[arg-type]
    backbone = choose_backbone(config, ())
    assert [(part.name, part.transform.size) for part in parts_of(backbone)] == sizes


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"backbone": "efficientnet_lite0+keras:resnet50", "resolution": "96+128+160"}, "2 backbones and 3 resolu"),
        ({"resolution": "96+96"}, "the same features twice"),
        ({"backbone": "efficientnet_lite0+embedded:efficientnet_lite0", "resolution": 96}, "the same features twice"),
        ({"backbone": "efficientnet_lite0+efficientnet_lite0"}, "the same features twice"),
        ({"backbone": "auto+efficientnet_lite0"}, "wanted the names of networks"),
        ({"backbone": "efficientnet_lite0+"}, "wanted the names of networks"),
        ({"backbone": "efficientnet_lite0+keras:resnet50", "weights": "w.h5"}, "those of one network"),
        ({"resolution": "96+128", "precision": "int8"}, "int8 works with one backbone"),
        ({"resolution": "96+"}, "wanted pixels, such as 288"),
        ({"resolution": "96+2000"}, "not between 32 and 1024"),
    ],
)
def test_what_does_not_fit_together_is_said_before_a_photo_is_read(values: dict[str, str], said: str) -> None:
    with pytest.raises(ConfigError, match=said.replace("+", r"\+")):
        train("nowhere", config=values)
    with pytest.raises(BackboneError, match="unknown backbone 'no'"):
        train("nowhere", config={"backbone": "efficientnet_lite0+no"})
    with pytest.raises(DataError, match="nowhere"):
        train("nowhere", config={"resolution": "96+128"})


def test_each_is_cached_by_itself_and_the_run_answers_as_it_was_measured(
    photos: Path, tmp_path: Path, cache: Path
) -> None:
    one = train(photos, tmp_path / "one", {"resolution": 96, "folds": 0})
    both = train(photos, tmp_path / "both", {"resolution": "96+128", "folds": 0})
    assert one.metrics["features"] == {"computed": 60, "cached": 0}
    assert both.metrics["features"] == {"computed": 60, "cached": 0}
    again = train(photos, tmp_path / "again", {"resolution": "128+96", "folds": 0})
    assert again.metrics["features"] == {"computed": 0, "cached": 60}
    loaded = Classifier.load(tmp_path / "both")
    paths = sorted(photos.rglob("*.jpg"))
    x, problems = loaded.features(paths)
    assert x.shape == (60, 2 * one.backbone.num_features)
    assert not problems
    np.testing.assert_allclose(x[:, : one.backbone.num_features], one.features(paths)[0], rtol=0.05, atol=0.05)
    cached = loaded.features(photos)[0]
    np.testing.assert_allclose(np.sort(x[:, 0]), np.sort(cached[:, 0]), rtol=0.05, atol=0.05)
    np.testing.assert_allclose(loaded.predict_proba(paths).sum(1), 1, rtol=1e-5)
    (tmp_path / "bad.jpg").write_bytes(b"bad")
    x, problems = loaded.features([paths[0], tmp_path / "bad.jpg"])
    assert np.isnan(x[1]).all()
    assert not np.isnan(x[0]).any()
    assert len(problems) == 1
    manifest = json.loads((tmp_path / "both" / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["schema"] == 3
    assert [part["transform"]["size"] for part in manifest["backbone"]["parts"]] == [96, 128]
    assert "at 96+128 px" in (tmp_path / "both" / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert json.loads((tmp_path / "one" / "manifest.json").read_text(encoding="utf-8"))["schema"] == 2


def test_a_run_of_two_sizes_is_neither_exported_nor_fine_tuned(photos: Path, regraft: Command) -> None:
    regraft("train", photos, "--resolution", "96+128", "--effort", "quick", "--out", "run", "-q")
    assert json.loads(regraft("info", "run", "--json").stdout)["sizes"] == [96, 128]
    told = regraft("export", "run", "--format", "openvino", code=1).stderr
    assert "(96+128 px), and an export takes photos that are scaled in one" in told
    assert "cannot be fine-tuned" in regraft("finetune", "run", code=1).stderr


def test_two_networks_of_one_size_are_exported(photos: Path, tmp_path: Path, regraft: Command) -> None:
    regraft("train", photos, *SMALL, "--out", "run", "-q")
    report = json.loads(regraft("export", "run", "--format", "openvino", "--out", "e", "--json").stdout)
    assert report["comparison"]["agreement"] == 1
    assert report["comparison"]["difference"] < 1e-4
    whole = regraft("predict", "run", photos / "circle" / "000.jpg", "--json").stdout
    exported = regraft("predict", "e", photos / "circle" / "000.jpg", "--json").stdout
    one, other = (json.loads(text)[0]["top"][0]["probability"] for text in (whole, exported))
    assert abs(one - other) < 0.02  # the run computes in bf16, the export in f32


def test_a_manifest_with_parts_that_do_not_fit_is_damaged(photos: Path, tmp_path: Path, cache: Path) -> None:
    train(photos, tmp_path / "run", {"resolution": "96+128", "folds": 0})
    path = tmp_path / "run" / "manifest.json"
    manifest = json.loads(path.read_text(encoding="utf-8"))
    manifest["backbone"]["parts"].pop()
    path.write_text(json.dumps(manifest), encoding="utf-8")
    with pytest.raises(RegraftError, match=r"parts is .*wanted several backbones"):
        Classifier.load(tmp_path / "run")
