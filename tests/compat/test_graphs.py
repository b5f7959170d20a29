"""What is done with a graph afterwards: labelling, measuring, making it smaller."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from regraft import Classifier, TrainConfig, train
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
    (tmp_path / "note.txt").write_text("text")
    assert "note.txt cannot be read" in old("label_image", "--graph", "note.txt", "--image", "x", code=1).stderr
    (tmp_path / "half.pb").write_text("text")
    damaged = old("label_image", "--graph", "half.pb", "--image", "x", code=1).stderr
    assert damaged.startswith("regraft-label-image: half.pb cannot be read")
    assert "there is no nothing.xml" in old("label_image", "--graph", "nothing.xml", "--image", "x", code=1).stderr
    wrong = old("label_image", *options, "--input_layer", "Mul", code=1)
    assert "there is no input 'Mul'" in wrong.stderr


def test_retrained_inception_is_fed_behind_what_decodes(tmp_path: Path, old: Old) -> None:
    _old_inception(tmp_path / "retrained_graph.pb")
    (tmp_path / "retrained_labels.txt").write_text("red\ngreen\nblue\n")
    Image.new("RGB", (90, 60), (30, 90, 200)).save(tmp_path / "sea.png")
    typed = ("--graph", "retrained_graph.pb", "--image", "sea.png")
    inside = (*typed, "--input_layer=Mul")
    size = ("--input_height=299", "--input_width=299")
    assert re.search(r"s\n\nblue \(score=0\.[5-9]", old("label_image", *inside, *size).stdout)
    named = old("label_image", *inside, *size, "--output_layer=final_result", "--input_mean=128", "--input_std=128")
    assert "\nblue (score" in named.stdout
    assert (
        "begins with what decodes photos (DecodeJpeg); type --input_layer" in old("label_image", *typed, code=1).stderr
    )
    assert "does not take photos of 224 x 224 pixels" in old("label_image", *inside, code=1).stderr
    assert "there is no input 'Mud'" in old("label_image", *typed, "--input_layer=Mud", code=1).stderr


def test_a_graph_is_measured_on_a_folder(graph: Path, photos: Path, tmp_path: Path, old: Old) -> None:
    others = draw_folder(tmp_path / "others", dict.fromkeys(SHAPES, 8), seed=700)
    (others / "circle" / "note.txt").write_text("no photo")
    done = old("evaluate_graph", graph, "--image_dir", others)
    accuracy = re.search(r"Accuracy: ([\d.]+) \(N=24, 95 % interval", done.stdout)
    assert accuracy
    assert float(accuracy[1]) > 0.8
    assert re.search(r"Cross Entropy: 0\.\d+", done.stdout)
    assert "note.txt" in done.stderr
    met = old("evaluate_graph", graph, "--image_dir", photos, "--checkpoint_path=run").stderr
    assert re.search(r"warning: 60 of the 60 photos were trained on, so the figures are too good", met)
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
    classifier = Classifier.load(tmp_path / "run")
    write_output(classifier, tmp_path / "graph.pb", "final_result")
    photo = _one_photo(tmp_path)
    plain = old("label_image", "--graph", "graph.pb", "--image", photo)  # by OpenVINO: TensorFlow takes six seconds
    assert plain.stderr == ""
    (score,) = re.findall(r"circle \(score=([\d.]+)\)", plain.stdout)
    precise = replace(classifier, config=replace(classifier.config, precision="fp32"))
    assert float(score) == pytest.approx(precise.predict_proba([photo]).max(), abs=1e-3)
    command = ("--input=graph.pb", "--output", "small.tflite", "--mode", "weights", "--output_node_names=final_result")
    done = old("quantize_graph", *command, "--checkpoint_path", "run")
    assert "--output_node_names: a .tflite has no such nodes" in done.stderr
    assert (tmp_path / "small.tflite").stat().st_size < 6e6
    labelled = old("label_image", "--graph", "small.tflite", "--image", photo).stdout
    assert re.search(r"circle \(score=0\.[5-9]", labelled)
    assert "was not written from a run in /tmp/_retrain_checkpoint" in old("quantize_graph", *command, code=1).stderr


def test_what_cannot_be_quantised_is_told(tmp_path: Path, old: Old) -> None:
    command = ("--input", "a", "--output", "b.tflite")
    assert "must set flags --input and --output" in old("quantize_graph", code=2).stderr
    assert (
        "unknown mode 'tiny'; choose from round, weights"
        in old("quantize_graph", *command, "--mode=tiny", code=2).stderr
    )
    as_it_was = old("quantize_graph", "--input=a.pb", "--output=rounded.pb", "--mode=quantize", code=1).stderr
    assert (
        "--output is rounded.pb, and --mode quantize needs .tflite or .xml; type --output rounded.tflite" in as_it_was
    )
    assert "bitdepth is 4; wanted 8" in old("quantize_graph", *command, "--bitdepth=4", code=2).stderr


def _colours(folder: Path) -> None:
    """A network that answers with the channel that is brightest, and its labels."""
    import openvino as ov
    from openvino import opset13

    photo = opset13.parameter([-1, 32, 48, 3], np.float32, name="input")
    means = opset13.reduce_mean(photo, np.array([1, 2]), keep_dims=False)  # the mean of each channel, in -1..1
    ov.save_model(ov.Model([opset13.softmax(means, 1)], [photo], "colours"), folder / "colours.xml")
    (folder / "colours.txt").write_text("deep red\ngreen\nblue \n")


def _old_inception(path: Path) -> None:
    """A frozen graph with the head and tail of those that retrain.py made of Inception-v3, and nothing between."""
    from tensorboard.compat.proto.graph_pb2 import GraphDef
    from tensorboard.compat.proto.types_pb2 import DT_FLOAT, DT_INT32, DT_STRING, DT_UINT8

    graph = GraphDef()

    def node(name: str, op: str, *inputs: str, **types: int) -> None:
        added = graph.node.add(name=name, op=op, input=inputs)
        for key, value in types.items():
            added.attr[key].type = value

    def constant(name: str, values: list[float], kind: int) -> None:
        node(name, "Const", dtype=kind)
        tensor = graph.node[-1].attr["value"].tensor
        tensor.dtype = kind
        tensor.tensor_shape.dim.add(size=len(values))
        (tensor.float_val if kind == DT_FLOAT else tensor.int_val).extend(values)

    node("DecodeJpeg/contents", "Placeholder", dtype=DT_STRING)
    node("DecodeJpeg", "DecodeJpeg", "DecodeJpeg/contents")
    graph.node[-1].attr["channels"].i = 3
    node("Cast", "Cast", "DecodeJpeg", SrcT=DT_UINT8, DstT=DT_FLOAT)
    constant("scale", [1 / 128], DT_FLOAT)
    node("Mul", "Mul", "Cast", "scale", T=DT_FLOAT)
    constant("kept", [-1, 299 * 299, 3], DT_INT32)
    node("pixels", "Reshape", "Mul", "kept", T=DT_FLOAT, Tshape=DT_INT32)
    constant("axis", [1], DT_INT32)
    node("pool_3/_reshape", "Mean", "pixels", "axis", T=DT_FLOAT, Tidx=DT_INT32)
    node("final_result", "Softmax", "pool_3/_reshape", T=DT_FLOAT)
    path.write_bytes(graph.SerializeToString())


def _one_photo(folder: Path) -> Path:
    drawn = draw_folder(folder / "one", {"circle": 1}, seed=901)
    return Path(shutil.copy(drawn / "circle" / "000.jpg", folder / "circle.jpg"))
