"""What is done with a graph afterwards: labelling, measuring, making it smaller."""

from __future__ import annotations

import re
import shutil
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from regraft import TrainConfig, train
from regraft.compat._outputs import write_output
from tests.compat.conftest import Old
from tests.conftest import SHAPES, draw_folder


@pytest.fixture
def graph(photos: Path, tmp_path: Path, cache: Path) -> Path:
    """An export of the run in ``run``."""
    run = train(photos, tmp_path / "run", TrainConfig(effort="quick"))
    write_output(run, tmp_path / "graph.xml")
    return tmp_path / "graph.xml"


def test_label_image_reads_a_graph_of_somebody_else(tmp_path: Path, old: Old) -> None:
    _colours(tmp_path)
    Image.new("RGB", (90, 60), (200, 90, 30)).save(tmp_path / "rust.png")
    options = ("--graph", "colours.xml", "--labels", "colours.txt", "--image", "rust.png")
    lines = old("label_image", *options).stdout.split("\n")
    labels = [line.partition(" ")[0] for line in lines if "score" in line]
    assert labels[0] == "deep"
    assert sorted(labels) == ["blue", "deep", "green"]
    assert (
        "there is no run folder nothing.xml"
        in old("label_image", "--graph", "nothing.xml", "--image", "x", code=1).stderr
    )
    wrong = old("label_image", *options, "--input_layer", "Mul", code=1)
    assert "there is no input 'Mul'" in wrong.stderr


def test_a_graph_is_measured_on_a_folder(graph: Path, tmp_path: Path, old: Old) -> None:
    others = draw_folder(tmp_path / "others", dict.fromkeys(SHAPES, 8), seed=700)
    (others / "circle" / "note.txt").write_text("no photo")
    done = old("evaluate_graph", graph, "--image_dir", others)
    accuracy = re.search(r"Accuracy: ([\d.]+) \(N=24, 95 % interval", done.stdout)
    assert accuracy
    assert float(accuracy[1]) > 0.8
    assert re.search(r"Cross Entropy: 0\.\d+", done.stdout)
    assert "note.txt" in done.stderr
    (others / "circle").rename(others / "triangle")
    assert "does not know: triangle" in old("evaluate_graph", graph, "--image_dir", others, code=1).stderr


def test_a_graph_of_somebody_else_is_measured_by_the_labels_that_retrain_wrote(tmp_path: Path, old: Old) -> None:
    _colours(tmp_path)
    for name, colour in (("Deep_Red", (200, 20, 30)), ("green", (20, 200, 30)), ("Blue!", (20, 30, 200))):
        (tmp_path / "photos" / name).mkdir(parents=True)
        Image.new("RGB", (90, 60), colour).save(tmp_path / "photos" / name / "1.png")
    (tmp_path / "colours.txt").rename(tmp_path / "retrained_labels.txt")
    done = old("evaluate_graph", "colours.xml", "--image_dir", "photos")
    assert "Accuracy: 1.0000 (N=3" in done.stdout
    for photo in (tmp_path / "photos").rglob("*.png"):
        photo.write_bytes(photo.read_bytes()[:60])
    assert "no photo of photos can be read" in old("evaluate_graph", "colours.xml", "--image_dir=photos", code=1).stderr


@pytest.mark.skipif(not (find_spec("tensorflow") and find_spec("ai_edge_litert")), reason="needs the extra litert")
def test_a_graph_is_made_smaller_from_the_run_behind_it(graph: Path, tmp_path: Path, old: Old) -> None:
    command = ("--input", graph, "--output", "small.tflite", "--mode", "weights", "--output_node_names=final_result")
    done = old("quantize_graph", *command, "--checkpoint_path", "run")
    assert "--output_node_names: a .tflite has no such nodes" in done.stderr
    assert (tmp_path / "small.tflite").stat().st_size < 6e6
    labelled = old("label_image", "--graph", "small.tflite", "--image", _one_photo(tmp_path)).stdout
    assert re.search(r"circle \(score=0\.[5-9]", labelled)
    assert "was not written from a run in /tmp/_retrain_checkpoint" in old("quantize_graph", *command, code=1).stderr


def test_what_cannot_be_quantised_is_told(tmp_path: Path, old: Old) -> None:
    command = ("--input", "a", "--output", "b")
    assert "must set flags --input and --output" in old("quantize_graph", code=2).stderr
    assert (
        "unknown mode 'tiny'; there is round, weights" in old("quantize_graph", *command, "--mode=tiny", code=2).stderr
    )
    assert "bitdepth is 4; there is 8" in old("quantize_graph", *command, "--bitdepth=4", code=2).stderr


def _colours(folder: Path) -> None:
    """A network that answers with the channel that is brightest, and its labels."""
    import openvino as ov
    from openvino import opset13

    photo = opset13.parameter([-1, 32, 48, 3], np.float32, name="input")
    means = opset13.reduce_mean(photo, np.array([1, 2]), keep_dims=False)  # the mean of each channel, in -1..1
    ov.save_model(ov.Model([opset13.softmax(means, 1)], [photo], "colours"), folder / "colours.xml")
    (folder / "colours.txt").write_text("deep red\ngreen\nblue \n")


def _one_photo(folder: Path) -> Path:
    drawn = draw_folder(folder / "one", {"circle": 1}, seed=901)
    return Path(shutil.copy(drawn / "circle" / "000.jpg", folder / "circle.jpg"))
