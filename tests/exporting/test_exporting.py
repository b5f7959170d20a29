"""Verification refuses what answers differently; foreign files are refused; int8, other heads, the command line."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from regraft import Classifier, ExportConfig, TrainConfig, export, load_predictor, train
from regraft.errors import DataError, ExportError, RunError
from regraft.exporting.companions import Export
from regraft.exporting.example_program import example
from regraft.exporting.export_trial import plain_pixels
from regraft.exporting.formats import openvino
from regraft.exporting.formats.base import Facts, text_in_archive
from regraft.exporting.unknown_photos import draw_strangers
from regraft.foundation.files import digest_bytes
from regraft.photos.images import Transform
from tests.conftest import SHAPES, Command, draw_folder, draw_photo, sampled

NEEDS_LITERT = pytest.mark.skipif(
    any(find_spec(module) is None for module in ("tensorflow", "ai_edge_litert")), reason="needs the extra litert"
)
NEEDS_ONNX = pytest.mark.skipif(
    any(find_spec(module) is None for module in ("onnx", "onnxruntime")), reason="needs the extra onnx"
)


@pytest.fixture(scope="module")
def run(warm_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REGRAFT_CACHE", str(warm_cache))
        folder = tmp_path_factory.mktemp("exporting")
        photos = draw_folder(folder / "photos", dict.fromkeys(SHAPES, 30), seed=77)
        train(photos, folder / "run", TrainConfig(effort="quick", val=0.2))
        yield folder / "run"


@pytest.fixture(scope="module")
def made(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Export:
    return export(run, tmp_path_factory.mktemp("made") / "out", ExportConfig("openvino"))


def swap_channels(model: Any) -> Any:
    from openvino import Layout
    from openvino.preprocess import PrePostProcessor

    steps = PrePostProcessor(model)
    steps.input().tensor().set_layout(Layout("NHWC"))
    steps.input().model().set_layout(Layout("NHWC"))
    steps.input().preprocess().reverse_channels()
    return steps.build()


def shift_mean(model: Any) -> Any:
    from openvino import Layout, Type
    from openvino.preprocess import PrePostProcessor

    steps = PrePostProcessor(model)
    steps.input().tensor().set_layout(Layout("NHWC"))
    steps.input().model().set_layout(Layout("NHWC"))
    steps.input().preprocess().convert_element_type(Type.f32).mean([3.0, 3.0, 3.0]).convert_element_type(Type.u8)
    return steps.build()


def shuffle_probabilities(model: Any) -> Any:
    import openvino as ov
    from openvino import opset13

    old = model.outputs[0].get_node().input_value(0)
    turned = opset13.gather(old, np.array([1, 2, 0], np.int64), np.array(1, np.int64))
    model.outputs[0].get_node().input(0).replace_source_output(turned.output(0))
    assert isinstance(model, ov.Model)
    return model


@pytest.mark.parametrize("spoil", sampled([shuffle_probabilities, shift_mean, swap_channels], 3))
def test_a_spoiled_export_is_refused(
    spoil: Callable[[Any], Any], run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = openvino.whole_graph
    monkeypatch.setattr(openvino, "whole_graph", lambda *arguments: spoil(whole(*arguments)))
    with pytest.raises(ExportError, match=r"does not answer as the run does: .* it is not kept"):
        export(run, tmp_path / "out", ExportConfig("openvino"))
    assert not (tmp_path / "out").exists()


def test_shuffled_labels_are_refused(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    of = Facts.of

    def shuffled(classifier: Classifier) -> Facts:
        facts = of(classifier)
        return Facts(facts.classes[::-1], *(getattr(facts, name) for name in list(Facts.__slots__)[1:]))

    monkeypatch.setattr(Facts, "of", shuffled)
    with pytest.raises(ExportError, match="has other class names than the run"):
        export(run, tmp_path / "out", ExportConfig("openvino"))
    assert not (tmp_path / "out").exists()


def test_one_that_loses_the_novelty_is_refused(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import openvino as ov

    whole = openvino.whole_graph

    def without(*arguments: Any) -> Any:
        model = whole(*arguments)
        return ov.Model([model.get_results()[0]], model.get_parameters())

    monkeypatch.setattr(openvino, "whole_graph", without)
    with pytest.raises(ExportError, match=r"cannot be asked in OpenVINO: .* gives no novelty of its photos"):
        export(run, tmp_path / "out", ExportConfig("openvino"))


def end_novelty(limit: float) -> Callable[..., Any]:
    """A `whole_graph` whose novelty never rises above ``limit``, as that of our first int8 export did."""
    whole = openvino.whole_graph

    def saturated(*arguments: Any) -> Any:
        from openvino import opset13

        model = whole(*arguments)
        result = model.outputs[1].get_node()
        ended = opset13.minimum(result.input_value(0), np.array([limit], np.float32))
        result.input(0).replace_source_output(ended.output(0))
        return model

    return saturated


@pytest.mark.parametrize(
    ("quantize", "error"),
    [
        ("", r"probabilities differ by up to \d.*, on photos of none of the classes by \d"),
        pytest.param(
            "fp16",
            r"fp16 export does not recognise photos of none of the classes as the run does: its novelty differs by .*",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_novelty_that_ends_too_soon_is_refused(
    quantize: str, error: str, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On val such an export looks flawless: hardly any of its photos is answered with none of these."""
    threshold = Classifier.load(run).threshold
    assert threshold is not None
    monkeypatch.setattr(openvino, "whole_graph", end_novelty(threshold))
    with pytest.raises(ExportError, match=error):
        export(run, tmp_path / "out", ExportConfig("openvino", quantize))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("quantize", sampled(["", "fp16"], 2))
def test_strangers_are_refused_as_the_run_refuses_them(quantize: str, run: Path, tmp_path: Path) -> None:
    found = export(run, tmp_path / "out", ExportConfig("openvino", quantize)).comparison
    assert found.known is not None
    assert found.strangers is not None
    assert found.known.n == found.n
    assert found.strangers.n >= 51
    assert (found.strangers.run_rejected, found.strangers.rejected, found.strangers.same) == (1.0, 1.0, 1.0)
    card = (tmp_path / "out" / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert "both decide alike on 100.0%" in card


def test_strangers_are_the_same_each_time_and_none_of_the_runs_own(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("one", "two", "three")]
    for folder in folders:
        folder.mkdir()
    first, second = (draw_strangers(folder, frozenset()) for folder in folders[:2])
    assert [photo.path.name for photo in first] == [photo.path.name for photo in second]
    pixels = [[np.asarray(Image.open(photo.path)) for photo in photos] for photos in (first, second)]
    assert all(np.array_equal(*pair) for pair in zip(*pixels, strict=True))
    known = {digest_bytes(photo.path.read_bytes()) for photo in first}
    assert len(draw_strangers(folders[2], known)) == 51  # noise and flat colours are nobody's photos


def test_a_run_that_never_refuses_is_compared_without_strangers(run: Path, tmp_path: Path) -> None:
    photos = draw_folder(tmp_path / "photos", {"circle": 6, "Square": 6})
    train(photos, tmp_path / "run", TrainConfig(effort="quick", folds=0))
    found = export(tmp_path / "run", config=ExportConfig("openvino")).comparison
    assert (found.known, found.strangers, found.rejected, found.novelty_difference) == (None, None, None, None)


@NEEDS_LITERT
def test_int8_is_calibrated_measured_and_small(run: Path, tmp_path: Path) -> None:
    made = export(run, tmp_path / "int8", ExportConfig("litert", "int8", min_agreement=0.9))
    assert made.bytes < 5e6
    assert made.comparison.agreement >= 0.9
    strangers = made.comparison.strangers
    assert strangers is not None
    assert strangers.same is not None
    assert strangers.same > 0.9
    assert strangers.difference < 0.3
    assert load_predictor(made.folder).classes == ("Square", "circle", "줄무늬")


def test_a_quantised_export_that_agrees_too_little_is_refused(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = openvino.whole_graph
    monkeypatch.setattr(openvino, "whole_graph", lambda *arguments: shuffle_probabilities(whole(*arguments)))
    with pytest.raises(ExportError, match=r"the fp16 export gives the run's answer to 0\.0% of .* wanted 98\.0%"):
        export(run, tmp_path / "out", ExportConfig("openvino", "fp16"))


@NEEDS_ONNX
@pytest.mark.parametrize("head", ["knn", "prototype", "kernel"])
def test_every_head_goes_along(head: str, run: Path, tmp_path: Path) -> None:
    photos = Classifier.load(run).source
    train(photos, tmp_path / "run", TrainConfig(effort="quick", val=0.2, head=head))
    made = export(tmp_path / "run", config=ExportConfig("onnx"))
    assert made.comparison.difference < 1e-3


def test_a_run_with_too_few_photos_is_compared_on_what_there_is(run: Path, tmp_path: Path) -> None:
    photos = draw_folder(tmp_path / "photos", {"circle": 4, "Square": 4})
    train(photos, tmp_path / "run", TrainConfig(effort="quick", val=0.0, test=0.0))
    made = export(tmp_path / "run", config=ExportConfig("openvino"))
    assert (made.comparison.side, made.comparison.n, made.comparison.rejected) == ("train", 8, None)
    shutil.move(photos, tmp_path / "moved")
    with pytest.raises(DataError):
        export(tmp_path / "run", tmp_path / "again", ExportConfig("openvino"))
    export(tmp_path / "run", tmp_path / "again", ExportConfig("openvino"), photos=tmp_path / "moved")


def test_what_is_in_the_way_stays(run: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("text")
    with pytest.raises(RunError, match="is not an export, so it is not overwritten"):
        export(run, tmp_path / "mine", ExportConfig("openvino"), overwrite=True)
    with pytest.raises(ExportError, match="out names the folder of the export, not a file"):
        export(run, tmp_path / "pets.onnx", ExportConfig("openvino"))


def test_the_command_line(run: Path, regraft: Command) -> None:
    table = regraft("export", run, "--format", "openvino", "--out", "ov").stdout
    assert "100.0%" in table.splitlines()[1]
    photo = Path(Classifier.load(run).source) / "줄무늬" / "003.jpg"
    assert regraft("predict", "ov", photo).stdout.split("\t")[1] == "줄무늬"
    assert json.loads(regraft("evaluate", "ov/model.xml", photo.parents[1], "--json").stdout)["accuracy"] == 1.0
    assert json.loads(regraft("info", "ov", "--json").stdout)["format"] == "openvino"
    failed = regraft("export", run, "--format", "tflite", code=1)
    assert "unknown format 'tflite'" in failed.stderr


@NEEDS_ONNX
def test_a_file_of_somebody_else_gets_a_clear_error(tmp_path: Path) -> None:
    from onnx import TensorProto, helper

    taken = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3])
    given = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3])
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [taken], [given])
    path = tmp_path / "theirs.onnx"
    path.write_bytes(
        helper.make_model(graph, ir_version=9, opset_imports=[helper.make_opsetid("", 20)]).SerializeToString()
    )
    with pytest.raises(ExportError, match="does not say which classes it knows"):
        load_predictor(path)


def test_facts_are_read_back_and_damaged_ones_refused(run: Path) -> None:
    facts = Facts.of(Classifier.load(run))
    assert Facts.from_json(facts.to_json(), run) == facts
    assert facts.to_json().isascii()
    values = json.loads(facts.to_json())
    huge = {**values, "transform": {**values["transform"], "size": 10**9}}
    for spoiled in ("{", "[]", json.dumps({**values, "classes": None}), json.dumps({"facts": 1}), json.dumps(huge)):
        with pytest.raises(ExportError, match="damaged metadata"):
            Facts.from_json(spoiled, run)
    with pytest.raises(ExportError, match="newer regraft"):
        Facts.from_json(json.dumps({**values, "facts": 99}), run)


def run_example(folder: Path, load: str, photo: str) -> subprocess.CompletedProcess[str]:
    exporter = openvino.OpenVino()
    exporter.example = f"\ndef load(folder):\n    {load}\n"
    (folder / "example.py").write_text(example(exporter, "openvino"), encoding="utf-8")
    command = [sys.executable, "example.py", photo]
    return subprocess.run(command, cwd=folder, capture_output=True, encoding="utf-8", check=False)


def test_the_example_shows_hostile_names_escaped(tmp_path: Path) -> None:
    facts = {
        "classes": ["\x1b[31mred"],
        "transform": {"size": 8, "crop": None, "resample": "bilinear"},
        "threshold": None,
    }
    draw_photo(SHAPES["circle"], 0).save(tmp_path / "a\x1b]0;b.png")
    done = run_example(tmp_path, f"return {facts!r}, lambda photo: (np.ones(1), None)", "a\x1b]0;b.png")
    assert (done.stdout, done.stderr) == ("a\\x1b]0;b.png\t\\x1b[31mred\t1.0000\n", "")


def test_the_example_keeps_nothing_back_where_loading_fails(tmp_path: Path) -> None:
    done = run_example(tmp_path, "os.write(2, b'the reason\\n'); 1 / 0", "photo.jpg")
    assert done.returncode == 1
    assert "the reason" in done.stderr
    assert "ZeroDivisionError" in done.stderr


@pytest.mark.parametrize("label", ["two\nlines", "\x1b[31m", "one\u2028two", "\udcff"])
def test_a_label_that_no_artifact_can_hold_is_refused_before_anything_is_built(label: str, run: Path) -> None:
    classifier = Classifier.load(run)
    with pytest.raises(ExportError, match=r"cannot be exported: the label .* rename the class and train again"):
        Facts.of(replace(classifier, classes=("Square", label, "circle")))


def test_a_part_of_the_photos_will_do_and_is_said(run: Path, tmp_path: Path, regraft: Command) -> None:
    source = Path(Classifier.load(run).source)
    for label in SHAPES:
        (tmp_path / "some" / label).mkdir(parents=True)
        for photo in sorted((source / label).iterdir())[:12]:
            shutil.copy(photo, tmp_path / "some" / label)
    done = regraft("export", run, "--format", "openvino", "--photos", "some", "--out", "out", "--json")
    assert f"warning: only 36 of the 90 photos of {run} are in some; if the others are elsewhere" in done.stderr
    assert 0 < json.loads(done.stdout)["comparison"]["n"] < 36


def test_a_text_in_an_archive_has_a_limit(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "bomb.keras", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("regraft.json", b" " * (17 * 2**20))
    with pytest.raises(ExportError, match="longer than 16 MiB"):
        text_in_archive(tmp_path / "bomb.keras", "regraft.json")
    (tmp_path / "text.keras").write_text("text")
    assert text_in_archive(tmp_path / "text.keras", "regraft.json") is None


def test_a_graph_with_other_numbers_than_its_labels_is_refused(made: Export, tmp_path: Path) -> None:
    import openvino as ov

    model = ov.Core().read_model(made.artifact)
    facts = json.loads(model.get_rt_info(["regraft", "facts"]).astype(str))
    model.set_rt_info(json.dumps({**facts, "classes": ["a", "b"]}), ["regraft", "facts"])
    ov.save_model(model, tmp_path / "spoiled.xml", compress_to_fp16=False)
    with pytest.raises(ExportError, match="and names 2 classes"):
        load_predictor(tmp_path / "spoiled.xml")


def test_plain_scaling_takes_the_four_nearest_pixels() -> None:
    board = np.zeros((64, 64, 3), np.uint8)
    board[::2] = 255
    transform = Transform(16, 1.0, "bilinear", (0.0,) * 3, (1.0,) * 3)
    image = Image.fromarray(board)
    assert np.ptp(transform.pixels(image)[2:-2].astype(int)) < 80  # antialiased: grey
    assert plain_pixels(image, transform).shape == (16, 16, 3)
    assert not np.array_equal(plain_pixels(image, transform), transform.pixels(image))


def test_openvino_reads_what_model_api_wants(made: Export) -> None:
    import openvino as ov

    model = ov.Core().read_model(made.artifact)
    assert model.get_rt_info(["model_info", "model_type"]).astype(str) == "Classification"
    assert model.get_rt_info(["model_info", "labels"]).astype(str) == "Square circle 줄무늬"


@pytest.mark.slow
@pytest.mark.parametrize("backbone", ["resnet50", "nasnet_mobile", "convnext_tiny", "densenet121", "efficientnet_b0"])
@pytest.mark.parametrize("name", ["litert", "onnx", "openvino"])
def test_every_family_goes_along(backbone: str, name: str, run: Path, tmp_path: Path) -> None:
    photos = Classifier.load(run).source
    config = TrainConfig(backbone=f"keras:{backbone}", weights="none", resolution=96, val=0.2)
    train(photos, tmp_path / "run", config)
    made = export(tmp_path / "run", config=ExportConfig(name))
    assert made.comparison.agreement == 1.0
    assert made.comparison.difference < 1e-3


@NEEDS_ONNX
def test_a_network_on_disk_goes_where_it_can(run: Path, tmp_path: Path) -> None:
    """One that was quantised in training, drawn here: a convolution between two roundings to eight bits."""
    import openvino as ov
    from openvino import opset13

    photo = opset13.parameter([1, 64, 64, 3], np.float32, name="photo")
    dice = np.random.default_rng(0)
    turned = opset13.transpose(photo, np.array([0, 3, 1, 2]))
    ends = [np.array(value, np.float32) for value in (0.0, 255.0)]
    rounded = opset13.fake_quantize(turned, *ends, *ends, 256)
    kernel = dice.normal(size=(16, 3, 5, 5)).astype(np.float32) / 75
    maps = opset13.relu(opset13.convolution(rounded, kernel, [2, 2], [0, 0], [0, 0], [1, 1]))
    features = opset13.reduce_mean(maps, np.array([2, 3]), keep_dims=False)
    ov.save_model(ov.Model([features], [photo], "drawn"), tmp_path / "drawn.xml", compress_to_fp16=False)
    config = TrainConfig(backbone=f"file:{tmp_path / 'drawn.xml'}", pixels="0..255", val=0.2)
    train(Classifier.load(run).source, tmp_path / "run", config)
    for name in ("onnx", "openvino"):
        assert export(tmp_path / "run", config=ExportConfig(name)).comparison.agreement == 1.0


@NEEDS_LITERT
def test_where_it_cannot_it_says_where_else(run: Path, tmp_path: Path) -> None:
    import openvino as ov
    from openvino import opset13

    photo = opset13.parameter([1, 3, 32, 32], np.float32, name="photo")
    features = opset13.reduce_mean(opset13.relu(photo), np.array([2, 3]), keep_dims=False)
    ov.save_model(ov.Model([features], [photo], "drawn"), tmp_path / "drawn.xml", compress_to_fp16=False)
    config = TrainConfig(backbone=f"file:{tmp_path / 'drawn.xml'}", pixels="0..1", val=0.2)
    train(Classifier.load(run).source, tmp_path / "run", config)
    with pytest.raises(ExportError, match="has no Keras model; it can be exported with format='openvino' or onnx"):
        export(tmp_path / "run", config=ExportConfig("litert"))
