"""``regraft-retrain`` and what it writes, typed as the old tutorials type it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from regraft import TrainConfig, train
from regraft.cli.arguments import UsageError
from regraft.compat._flags import Flag, parse_flags
from regraft.compat._main import entry
from regraft.compat._names import backbone_of_architecture, backbone_of_module, weights_in
from regraft.errors import BackboneError, option
from regraft.features.distorted_views import VIEWS, Distortion, views_of
from regraft.photos.dataset import Dataset
from regraft.photos.images import Transform
from regraft.photos.splitting import split
from tests.compat.conftest import Old
from tests.conftest import SHAPES, draw_folder


def test_flags_are_read_as_tensorflow_read_them() -> None:
    flags = (Flag("on", False, ""), Flag("off", True, ""), Flag("rate", 0.5, ""))
    found = parse_flags("old", "", flags, ["--on=true", "--nooff", "--rate", "2"])
    assert (found.on, found.off, found.rate) == (True, False, 2.0)
    with pytest.raises(UsageError, match=r"unknown flag '--rat': did you mean --rate\?"):
        parse_flags("old", "", flags, ["--rat=1"])
    with pytest.raises(UsageError, match="'maybe' is neither true nor false"):
        parse_flags("old", "", flags, ["--on=maybe"])


def test_old_names_are_networks_of_today(tmp_path: Path) -> None:
    hub = "https://tfhub.dev/google/imagenet"
    assert backbone_of_module(f"{hub}/inception_v3/feature_vector/3") == "keras:inception_v3"
    assert backbone_of_module(f"{hub}/mobilenet_v1_050_160/quantops/feature_vector/1") == "keras:mobilenet_0.50_160"
    assert backbone_of_module(f"{hub}/mobilenet_v2_140_224/feature_vector/4") == "keras:mobilenet_v2_1.40_224"
    assert backbone_of_module(f"{hub}/resnet_v2_50/feature_vector/1") == "keras:resnet50_v2"
    assert backbone_of_module(str(tmp_path)) == f"file:{tmp_path}"
    assert backbone_of_architecture("mobilenet_0.50_224_quantized") == "mobilenet_0.50_224"
    with pytest.raises(BackboneError, match="no network here is known to be"):
        backbone_of_module("https://tfhub.dev/google/bit/m-r50x1/1")


def test_quantised_networks_are_in_floats_and_that_is_said(caplog: pytest.LogCaptureFixture) -> None:
    backbone_of_architecture("mobilenet_0.50_224")
    assert not caplog.text
    backbone_of_architecture("mobilenet_0.50_224_quantized")
    assert "regraft-quantize-graph puts what was learned into 8 bits" in caplog.text


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Keras' own, when its weights become arrays
def test_weights_are_looked_for_in_model_dir(photos: Path, tmp_path: Path, old: Old) -> None:
    import h5py
    import keras
    from keras.src.legacy.saving.legacy_h5_format import save_weights_to_hdf5_group

    model = keras.applications.MobileNet(include_top=False, weights=None, alpha=0.25, input_shape=(128, 128, 3))
    file = tmp_path / "models" / "mobilenet_2_5_128_tf_no_top.h5"
    file.parent.mkdir()
    with h5py.File(file, "w") as h5:  # as Keras' own files are
        save_weights_to_hdf5_group(h5, model)
    assert weights_in(str(tmp_path), "mobilenet_0.25_128") == ""
    assert weights_in(str(tmp_path), "auto") == ""
    assert weights_in(str(file.parent), "mobilenet_0.25_160") == ""
    command = ("--architecture=mobilenet_0.25_128", "--model_dir=models", "--how_many_training_steps=50")
    outputs = ("--output_graph=g.xml", "--output_labels=l.txt", "--summaries_dir=logs", "--checkpoint_path=run")
    assert "Final test accuracy" in old("retrain", "--image_dir", photos, *command, *outputs).stdout
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text(encoding="utf-8"))
    assert Path(manifest["backbone"]["options"]["weights"]).name == file.name


def test_a_module_on_disk_is_given_pixels_as_tensorflow_hub_has_them(photos: Path, tmp_path: Path, old: Old) -> None:
    _feature_vector(tmp_path / "module.xml")
    command = ("--image_dir", photos, "--tfhub_module=module.xml", "--how_many_training_steps=50")
    outputs = ("--output_graph=g.xml", "--output_labels=l.txt", "--summaries_dir=logs", "--checkpoint_path=run")
    failed = old("retrain", *command, *outputs, code=1)
    assert "takes photos of any size; type --image_size PIXELS" in failed.stderr
    old("retrain", *command, *outputs, "--image_size=64")
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["backbone"]["transform"]["size"] == 64
    assert manifest["backbone"]["transform"]["std"] == [255.0, 255.0, 255.0]


def _feature_vector(path: Path) -> None:
    """A network that gives the mean and the largest of each channel, of photos of any size."""
    import openvino as ov
    from openvino import opset13

    photo = opset13.parameter([-1, -1, -1, 3], np.float32, name="inputs")
    rows = [reduce(photo, np.array([1, 2]), keep_dims=False) for reduce in (opset13.reduce_mean, opset13.reduce_max)]
    ov.save_model(ov.Model([opset13.concat(rows, 1)], [photo], "features"), path)


def test_errors_name_the_flags_of_the_command_that_was_typed(capsys: pytest.CaptureFixture[str]) -> None:
    def job(_: object) -> int:
        raise BackboneError(f"it cannot be downloaded; type {option('weights', 'FILE')}")

    assert entry("old", job, {"weights": "--model_dir"})([]) == 1
    assert capsys.readouterr().err == "old: it cannot be downloaded; type --model_dir\n"


def test_the_old_walk(tmp_path: Path, old: Old) -> None:
    photos = draw_folder(tmp_path / "사진", {"circle": 30, "강아지": 30, "고양이": 30})
    logs = tmp_path / "logs"
    logs.mkdir()
    (logs / "mine.txt").write_text("text")
    command = (
        *("--image_dir", photos, "--architecture=efficientnet_lite0", "--how_many_training_steps", "200"),
        *("--output_graph", "graph.xml", "--output_labels", "labels.txt", "--summaries_dir", "logs"),
        *("--checkpoint_path", "run", "--bottleneck_dir", "nowhere", "--eval_step_interval", "100"),
        *("--intermediate_store_frequency", "150", "--intermediate_output_graphs_dir", "early"),
    )
    done = old("retrain", *command, "--print_misclassified_test_images")
    steps = re.findall(r"Step (\d+): Validation accuracy = [\d.]+% \(N=(\d+)\)", done.stdout)
    assert [number for number, _ in steps] == ["1", "100", "200"]
    assert re.search(r"Final test accuracy = [\d.]+% \(N=\d+\)", done.stdout)
    assert "=== MISCLASSIFIED TEST IMAGES ===" in done.stdout
    assert "--bottleneck_dir: features are cached in regraft's own cache" in done.stderr
    assert (tmp_path / "labels.txt").read_text(encoding="utf-8").split() == ["circle", "강아지", "고양이"]
    assert (tmp_path / "early" / "intermediate_150.xml").is_file()
    assert (logs / "mine.txt").read_text() == "text"
    assert not (tmp_path / "nowhere").exists()

    split = (tmp_path / "run" / "split.json").read_text(encoding="utf-8")
    photos = photos.rename(tmp_path / "moved")
    again = old("retrain", "--image_dir", photos, *command[2:], "--logging_verbosity", "ERROR")
    assert "Step" not in again.stdout
    assert again.stdout.splitlines()[-1] == next(x for x in done.stdout.splitlines() if x.startswith("Final"))
    assert len(list((logs / "train").glob("events*"))) == 1
    assert (tmp_path / "run" / "split.json").read_text(encoding="utf-8") == split, "moving the folder moved photos"
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["features"] == {"computed": 0, "cached": 90}

    answer = old("label_image", "--graph", "graph.xml", "--image", photos / "강아지" / "000.jpg").stdout
    assert re.match(r"\s*Evaluation time \(1-image\): [\d.]+s\s+강아지 \(score=0\.\d+\)", answer)
    failed = old("retrain", "--image_dri", photos, code=2)
    assert "did you mean --image_dir?" in failed.stderr
    assert "must set flag --image_dir" in old("retrain", code=2).stderr
    early = old("retrain", "--image_dir", "nowhere", "--output_graph=graph.h5", code=1)
    assert "graph.h5 has the suffix of no format; choose from .tflite, .onnx" in early.stderr
    early = old("retrain", "--image_dir", "nowhere", "--output_graph=labels.xml", "--saved_model_dir=logs", code=1)
    assert "logs is there already and is not a SavedModel" in early.stderr


def test_views_are_the_same_next_time_and_differ_from_each_other(photos: Path) -> None:
    records = Dataset.open(photos).records[:2]
    how, transform = Distortion(True, 20, 20, 30), Transform(64, 1.0, "bilinear", (0.0,) * 3, (1.0,) * 3)
    views = views_of(records, how)
    assert len({view.digest for view in views}) == len(views) == 2 * VIEWS
    looks = [view.look(transform).pixels for view in views]
    for view, look in zip(views_of(records, how), looks, strict=True):
        np.testing.assert_array_equal(view.look(transform).pixels, look)
    assert not np.array_equal(looks[0], looks[1])
    assert views_of(records, Distortion(True))[0].digest != views[0].digest
    assert not Distortion().any
    assert set(SHAPES) >= {record.label for record in records}


def test_brightness_changes_brightness_alone(photos: Path) -> None:
    record, transform = Dataset.open(photos).records[0], Transform(64, 1.0, "bilinear", (0.0,) * 3, (1.0,) * 3)
    plain = record.look(transform).pixels.astype(float)
    for view in views_of([record], Distortion(brightness=50)):
        ratio = view.look(transform).pixels.mean() / plain.mean()
        assert 0.45 < ratio < 1.55


def test_twenty_photos_a_class_leave_no_side_empty(tmp_path: Path) -> None:
    """By hash alone, as retrain.py split, one class in four had no validation or no test photo."""
    dataset = Dataset.open(draw_folder(tmp_path / "photos", dict.fromkeys(SHAPES, 20)))
    for salt in range(200):
        sides = split(dataset, (0.1, 0.1), str(salt), ())
        for side in (sides.train, sides.val, sides.test):
            assert {dataset.records[i].label for i in side} == set(SHAPES)


def test_nobody_elses_run_is_replaced(photos: Path, tmp_path: Path, cache: Path, old: Old) -> None:
    train(photos, tmp_path / "mine", TrainConfig(effort="quick"))
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "monday.txt").touch()
    for folder in ("mine", "notes"):
        command = ("--image_dir", photos, "--architecture=efficientnet_lite0", "--output_graph=g.xml")
        failed = old("retrain", *command, f"--checkpoint_path={folder}", code=1)
        assert f"{folder} is there already and is not a run of regraft-retrain" in failed.stderr


def test_a_reader_that_has_had_enough_is_no_error(photos: Path, tmp_path: Path, cache: Path) -> None:
    """More lines than a pipe holds, of which one is read."""
    flags = "--architecture=efficientnet_lite0 --how_many_training_steps=2000 --eval_step_interval=1"
    outputs = "--output_graph=g.xml --output_labels=l.txt --summaries_dir=logs --checkpoint_path=run"
    old = f"{sys.executable} -m regraft.compat.retrain --image_dir '{photos}' {flags} {outputs}"
    command = ["bash", "-c", f"{old} | head -1; exit ${{PIPESTATUS[0]}}"]
    settings = {**os.environ, "REGRAFT_CACHE": str(cache)}
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, encoding="utf-8", env=settings, check=False)
    assert done.returncode == 0
    assert "Traceback" not in done.stderr
    assert "Step 1: Train accuracy" in done.stdout
    assert not (tmp_path / "run").exists()
