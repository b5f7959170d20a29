"""``regraft-retrain`` and ``regraft-label-image``, typed as the old tutorials type them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from regraft._arguments import UsageError
from regraft.compat import label_image, retrain
from regraft.compat._flags import Flag, parse_flags
from regraft.compat._names import backbone_of_architecture, backbone_of_module
from regraft.dataset import Dataset
from regraft.distortion import VIEWS, Distortion, views_of
from regraft.errors import BackboneError
from regraft.images import Transform
from tests.conftest import SHAPES, draw_folder

Old = Callable[..., "subprocess.CompletedProcess[str]"]

HUB_AND_POETS = {
    "architecture",
    "bottleneck_dir",
    "checkpoint_path",
    "eval_step_interval",
    "final_tensor_name",
    "flip_left_right",
    "how_many_training_steps",
    "image_dir",
    "intermediate_output_graphs_dir",
    "intermediate_store_frequency",
    "learning_rate",
    "logging_verbosity",
    "model_dir",
    "output_graph",
    "output_labels",
    "print_misclassified_test_images",
    "random_brightness",
    "random_crop",
    "random_scale",
    "saved_model_dir",
    "summaries_dir",
    "test_batch_size",
    "testing_percentage",
    "tfhub_module",
    "train_batch_size",
    "validation_batch_size",
    "validation_percentage",
}


@pytest.fixture
def old(tmp_path: Path, cache: Path) -> Old:
    """Run an old command as a process, in the test's folder."""

    def run(name: str, *arguments: str | Path, code: int = 0) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", f"regraft.compat.{name}", *map(str, arguments)]
        settings = {**os.environ, "REGRAFT_CACHE": str(cache)}
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, encoding="utf-8", env=settings, check=False)
        assert done.returncode == code, done.stderr
        assert "Traceback" not in done.stderr
        return done

    return run


def test_it_has_every_flag_of_both_programs() -> None:
    assert {flag.name for flag in retrain.FLAGS} == HUB_AND_POETS


@pytest.mark.parametrize("flag", [*retrain.FLAGS, *label_image.FLAGS], ids=lambda flag: flag.name)
def test_each_flag_is_accepted_and_says_what_it_does(flag: Flag, caplog: pytest.LogCaptureFixture) -> None:
    value = "" if isinstance(flag.default, bool) else f"={flag.default}"
    found = parse_flags("old", "", [flag], [f"--{flag.name}{value}"])
    assert getattr(found, flag.name) == (True if isinstance(flag.default, bool) else flag.default)
    assert flag.does != "nothing" or flag.changed, "a flag without an effect must say so"
    assert (flag.changed in caplog.text) if flag.changed else not caplog.text


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
    assert "--bottleneck_dir: features are cached by content" in done.stderr
    assert (tmp_path / "labels.txt").read_text(encoding="utf-8").split() == ["circle", "강아지", "고양이"]
    assert (tmp_path / "early" / "intermediate_150.xml").is_file()
    assert (logs / "mine.txt").read_text() == "text"
    assert not (tmp_path / "nowhere").exists()

    photos = photos.rename(tmp_path / "moved")
    again = old("retrain", "--image_dir", photos, *command[2:], "--logging_verbosity", "ERROR")
    assert "Step" not in again.stdout
    assert again.stdout.splitlines()[-1] == next(x for x in done.stdout.splitlines() if x.startswith("Final"))
    assert len(list((logs / "train").glob("events*"))) == 1

    answer = old("label_image", "--graph", "graph.xml", "--image", photos / "강아지" / "000.jpg").stdout
    assert re.match(r"\s*Evaluation time \(1-image\): [\d.]+s\s+강아지 \(score=0\.\d+\)", answer)
    failed = old("retrain", "--image_dri", photos, code=2)
    assert "did you mean --image_dir?" in failed.stderr
    assert "must set flag --image_dir" in old("retrain", code=2).stderr


def test_label_image_reads_a_graph_of_somebody_else(tmp_path: Path, old: Old) -> None:
    import openvino as ov
    from openvino import opset13

    photo = opset13.parameter([-1, 32, 48, 3], np.float32, name="input")
    means = opset13.reduce_mean(photo, np.array([1, 2]), keep_dims=False)  # the mean of each channel, in -1..1
    ov.save_model(ov.Model([opset13.softmax(means, 1)], [photo], "colours"), tmp_path / "colours.xml")
    (tmp_path / "colours.txt").write_text("red\ngreen\nblue\n")
    Image.new("RGB", (90, 60), (200, 90, 30)).save(tmp_path / "rust.png")
    options = ("--graph", "colours.xml", "--labels", "colours.txt", "--image", "rust.png")
    lines = old("label_image", *options).stdout.split("\n")
    labels = [line.partition(" ")[0] for line in lines if "score" in line]
    assert labels[0] == "red"
    assert sorted(labels) == ["blue", "green", "red"]
    assert (
        "there is no run folder nothing.xml"
        in old("label_image", "--graph", "nothing.xml", "--image", "x", code=1).stderr
    )
    wrong = old("label_image", *options, "--input_layer", "Mul", code=1)
    assert "there is no input 'Mul'" in wrong.stderr


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
