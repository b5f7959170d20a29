"""``regraft-make-image-classifier``, frozen and fine-tuned."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.compat.conftest import Old

needs_litert = pytest.mark.skipif(
    not (find_spec("tensorflow") and find_spec("ai_edge_litert")), reason="needs the extra litert"
)
LITE0 = ("--tfhub_module", "efficientnet_lite0", "--image_size=96")


@needs_litert
def test_what_was_asked_for_is_written(photos: Path, tmp_path: Path, old: Old) -> None:
    outputs = ("--labels_output_file=out/labels.txt", "--tflite_output_file=out/a.tflite", "--summaries_dir=out/logs")
    done = old(
        "make_image_classifier", "--image_dir", photos, *LITE0, *outputs, "--do_data_augmentation", "--shear_range=1"
    )
    assert re.search(r"Found accuracy [01]\.\d{4} \(N=\d+\)", done.stdout)
    assert "--shear_range: photos are cropped, enlarged and mirrored" in done.stderr
    assert (tmp_path / "out" / "labels.txt").read_text(encoding="utf-8") == "Square\ncircle\n줄무늬\n"
    assert {path.name for path in (tmp_path / "out" / "logs").iterdir()} == {"train", "validation"}
    labelled = old("label_image", "--graph", "out/a.tflite", "--image", photos / "circle" / "000.jpg").stdout
    assert re.search(r"\n\ncircle \(score", labelled)


def test_below_the_wanted_accuracy_nothing_is_exported(photos: Path, tmp_path: Path, old: Old) -> None:
    command = ("--image_dir", photos, *LITE0, "--assert_accuracy_at_least=1.01", "--labels_output_file=labels.txt")
    failed = old("make_image_classifier", *command, code=1)
    assert re.search(r"accuracy is [\d.]+, wanted at least 1\.01: nothing is exported", failed.stderr)
    assert not (tmp_path / "labels.txt").exists()
    assert "must set flag --image_dir" in old("make_image_classifier", code=2).stderr


@pytest.mark.skipif(find_spec("tensorflow") is None, reason="needs the extra tensorflow")
def test_the_whole_network_is_fine_tuned(photos: Path, tmp_path: Path, old: Old) -> None:
    command = ("--image_dir", photos, *LITE0, "--do_fine_tuning", "--train_epochs=1", "--batch_size=8")
    done = old("make_image_classifier", *command, "--summaries_dir=logs", "--labels_output_file=labels.txt")
    assert "Found accuracy" in done.stdout
    assert (tmp_path / "labels.txt").is_file()
    assert any((tmp_path / "logs" / "train").iterdir())
