"""Exports that came from a stranger, or were damaged on their way: one line that names the file, and no crash."""

from __future__ import annotations

import io
import json
import os
import random
import shutil
import zipfile
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from regraft import ExportConfig, TrainConfig, export, train
from regraft.exporting.formats.base import registry
from tests.conftest import SHAPES, draw_folder, sampled
from tests.hostile.conftest import Hostile

SLOW = 120.0
"""Seconds for what imports TensorFlow."""

LARGE = 2 * 2**30 + 1


def is_missing(name: str) -> bool:
    exporter = registry.load(name)
    return any(find_spec(module) is None for module in (*exporter.writes, *exporter.reads))


NEEDS = {
    name: pytest.mark.skipif(is_missing(name), reason=f"needs the extra {registry.load(name).extra}")
    for name in ("litert", "onnx", "keras", "saved-model", "graph-def")
}


@pytest.fixture(scope="session")
def run(warm_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A run of three classes, whose photos lie beside it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REGRAFT_CACHE", str(warm_cache))
        folder = tmp_path_factory.mktemp("strange")
        photos = draw_folder(folder / "photos", dict.fromkeys(SHAPES, 20))
        train(photos, folder / "run", TrainConfig(effort="quick", val=0.2))
        yield folder / "run"


@pytest.fixture(scope="session")
def made(run: Path, warm_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of an export in a format, made once. Not to be changed: `copied` copies it."""
    folder = tmp_path_factory.mktemp("made")

    def make(name: str) -> Path:
        if not (folder / name).exists():
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("REGRAFT_CACHE", str(warm_cache))
                export(run, folder / name, ExportConfig(name))
        return folder / name

    return make


Copied = Callable[..., Path]


@pytest.fixture
def copied(made: Callable[[str], Path], tmp_path: Path) -> Copied:
    """The artifact in a copy of an export's folder; without the report it is a bare file, as a stranger sends it."""

    def copy(name: str, report: bool = False) -> Path:
        folder = Path(shutil.copytree(made(name), tmp_path / name))
        if not report:
            (folder / "export.json").unlink()
        return folder / registry.load(name)().artifact

    return copy


@pytest.fixture
def photo(run: Path) -> Path:
    return run.parent / "photos" / "circle" / "000.jpg"


# --- what the metadata say -----------------------------------------------------------------------------------------


def change(**values: Any) -> Callable[[dict[str, Any]], str]:
    return lambda facts: json.dumps({**facts, **values})


def change_transform(**values: Any) -> Callable[[dict[str, Any]], str]:
    return lambda facts: json.dumps({**facts, "transform": {**facts["transform"], **values}})


def without(name: str) -> Callable[[dict[str, Any]], str]:
    return lambda facts: json.dumps({key: value for key, value in facts.items() if key != name})


def text(value: str) -> Callable[[dict[str, Any]], str]:
    return lambda facts: value


def constant(name: str, value: str) -> Callable[[dict[str, Any]], str]:
    """A number that JSON does not know, or that no float holds."""
    return lambda facts: json.dumps({**facts, name: "HERE"}).replace('"HERE"', value)


DAMAGED = r"model\.xml has damaged metadata \("
METADATA: dict[str, tuple[Callable[[dict[str, Any]], str], str]] = {
    "no JSON": (text("{"), DAMAGED),
    "a list": (text("[]"), DAMAGED + "it is no JSON object"),
    "null": (text("null"), DAMAGED + "it is no JSON object"),
    "a number": (text("7"), DAMAGED + "it is no JSON object"),
    "nested deeply": (text("[" * 100_000), DAMAGED + "its JSON is nested too deeply"),
    "nested in a label": (
        lambda facts: json.dumps({**facts, "classes": "HERE"}).replace('"HERE"', "[" * 10**5 + "]" * 10**5),
        DAMAGED + "its JSON is nested too deeply",
    ),
    "17 MiB": (change(licence="x" * 17 * 2**20), DAMAGED + r"17,.* bytes, more than 16,777,216"),
    "another document": (text('{"a": 1}'), DAMAGED + "facts is no whole number"),
    "facts as text": (change(facts="1"), DAMAGED + "facts is no whole number"),
    "facts as truth": (change(facts=True), DAMAGED + "facts is no whole number"),
    "newer": (change(facts=99), r"model\.xml was written by a newer regraft"),
    "an unknown name": (change(pickle="x"), DAMAGED + "facts with an unknown 'pickle'"),
    "an escape as a name": (change(**{"\x1b[2J": 1}), DAMAGED + r"facts with an unknown '\\\\?x1b"),
    "no classes": (without("classes"), DAMAGED + "facts without classes"),
    "classes as text": (change(classes="abc"), DAMAGED + "no list of classes"),
    "classes as null": (change(classes=None), DAMAGED + "no list of classes"),
    "no class": (change(classes=[]), DAMAGED + "0 classes, wanted 1 to"),
    "a million classes": (change(classes=[f"c{i}" for i in range(10**6)]), DAMAGED + "1,000,000 classes, wanted 1 to"),
    "two classes of three": (change(classes=["a", "b"]), r"model\.xml gives .*3.*, and names 2 classes"),
    "a label that is a number": (change(classes=["a", 1, "c"]), DAMAGED + "a label that is no text"),
    "a label that is a list": (change(classes=["a", ["b"], "c"]), DAMAGED + "a label that is no text"),
    "an empty label": (change(classes=["a", "", "c"]), DAMAGED + "a label that is no text"),
    "a label of a megabyte": (change(classes=["a", "b" * 2**20, "c"]), DAMAGED + "a label that is no text"),
    "an escape in a label": (change(classes=["a", "\x1b[31m", "c"]), DAMAGED + r"the label .* has a control character"),
    "a new line in a label": (change(classes=["a", "b\nc", "d"]), DAMAGED + r"the label .* has a control character"),
    "a zero byte in a label": (change(classes=["a", "b\0", "d"]), DAMAGED + r"the label .* has a control character"),
    "a line separator": (change(classes=["a", "b\u2028c", "d"]), DAMAGED + r"the label .* has a control character"),
    "half a character": (change(classes=["a", "\ud800", "d"]), DAMAGED + r"the label .* has a control character"),
    "the same label twice": (change(classes=["a", "b", "a"]), DAMAGED + "two classes of the same name"),
    "temperature as text": (change(temperature="1"), DAMAGED + "temperature is no finite number"),
    "temperature as truth": (change(temperature=True), DAMAGED + "temperature is no finite number"),
    "temperature NaN": (constant("temperature", "NaN"), DAMAGED + "NaN is no JSON number"),
    "temperature infinite": (constant("temperature", "1e999"), DAMAGED + "temperature is no finite number"),
    "temperature of 5000 digits": (constant("temperature", "9" * 5000), DAMAGED),
    "temperature of 400 digits": (constant("temperature", "9" * 400), DAMAGED + "temperature is no finite number"),
    "temperature 0": (change(temperature=0), DAMAGED + "a temperature of 0"),
    "temperature below 0": (change(temperature=-1.5), DAMAGED + "a temperature of -1.5"),
    "threshold as text": (change(threshold="high"), DAMAGED + "threshold is no finite number"),
    "threshold -Infinity": (constant("threshold", "-Infinity"), DAMAGED + "-Infinity is no JSON number"),
    "no threshold": (without("threshold"), DAMAGED + "facts without threshold"),
    "run as a number": (change(run=7), DAMAGED + "run is no text"),
    "backbone as a list": (change(backbone=[]), DAMAGED + "backbone is no text"),
    "a long licence": (change(licence="x" * 1001), DAMAGED + "licence is no text of at most 1000"),
    "no transform": (without("transform"), DAMAGED + "facts without transform"),
    "transform as a list": (change(transform=[224]), DAMAGED + "transform is no JSON object"),
    "an empty transform": (change(transform={}), DAMAGED + "transform without"),
    "size as text": (change_transform(size="224"), DAMAGED + "size is no whole number"),
    "size as a fraction": (change_transform(size=224.5), DAMAGED + "size is no whole number"),
    "size 0": (change_transform(size=0), DAMAGED + "photos of 0 pixels"),
    "size of a billion": (change_transform(size=10**9), DAMAGED + "photos of 1000000000 pixels"),
    "crop NaN": (
        lambda facts: change_transform(crop="HERE")(facts).replace('"HERE"', "NaN"),
        DAMAGED + "NaN is no JSON number",
    ),
    "crop 0": (change_transform(crop=0), DAMAGED + "photos of 224 pixels, of which 0 is kept"),
    "crop as text": (change_transform(crop="1"), DAMAGED + "crop is no finite number"),
    "an unknown filter": (change_transform(resample="nearest"), DAMAGED + "photos are scaled by no filter"),
    "a filter as a list": (change_transform(resample=["bilinear"]), DAMAGED + "photos are scaled by no filter"),
    "an unknown order": (change_transform(channel_order="GRB"), DAMAGED + "photos are scaled by no filter"),
    "two means": (change_transform(mean=[1.0, 2.0]), DAMAGED + "mean is no list of three numbers"),
    "means as text": (change_transform(mean="123"), DAMAGED + "mean is no list of three numbers"),
    "a mean of null": (change_transform(mean=[1.0, None, 2.0]), DAMAGED + "mean is no finite number"),
    "a deviation of 0": (change_transform(std=[1.0, 0.0, 1.0]), DAMAGED + "std is not above 0"),
    "another size": (change_transform(size=96), r"model\.xml cannot answer: "),
}


def tell(name: str, artifact: Path, spoil: Callable[[dict[str, Any]], str]) -> None:
    """Replace the metadata of an artifact, as its own runtime's tools would."""
    if name == "openvino":
        import openvino

        model = openvino.Core().read_model(artifact)
        facts = json.loads(model.get_rt_info(["regraft", "facts"]).astype(str))
        model.set_rt_info(spoil(facts), ["regraft", "facts"])
        openvino.save_model(model, artifact.parent / "new.xml", compress_to_fp16=False)
        del model
        for suffix in (".xml", ".bin"):
            (artifact.parent / f"new{suffix}").replace(artifact.with_suffix(suffix))
    elif name == "onnx":
        import onnx

        graph = onnx.load(artifact)
        entry = next(entry for entry in graph.metadata_props if entry.key == "regraft")
        entry.value = spoil(json.loads(entry.value))
        onnx.save(graph, artifact)
    elif name == "saved-model":
        told = artifact / "assets" / "regraft.json"
        told.write_text(spoil(json.loads(told.read_text(encoding="utf-8"))), encoding="utf-8")
    elif name == "graph-def":
        data = artifact.read_bytes()
        facts, _ = json.JSONDecoder().raw_decode(data[data.index(b'{"facts"') :].decode("utf-8", "replace"))
        old = json.dumps(facts).encode()
        assert old in data
        artifact.write_bytes(data.replace(old, spoil(facts).encode()[: len(old)].ljust(len(old))))
    else:
        file = io.BytesIO(artifact.read_bytes())
        with pytest.warns(UserWarning, match="Duplicate name"), zipfile.ZipFile(file, "a") as archive:
            archive.writestr("regraft.json", spoil(json.loads(archive.read("regraft.json"))))
        artifact.write_bytes(file.getvalue())


@pytest.mark.parametrize("case", sampled(METADATA, 5))
def test_hostile_metadata(case: str, copied: Copied, photo: Path, hostile: Hostile) -> None:
    spoil, says = METADATA[case]
    artifact = copied("openvino")
    tell("openvino", artifact, spoil)
    hostile("predict", artifact, photo, says=says)


@pytest.mark.parametrize(
    "case",
    ["nested deeply", "an escape in a label", "the same label twice", "temperature NaN", "crop NaN", "another size"],
)
@pytest.mark.parametrize("name", [pytest.param(name, marks=NEEDS[name]) for name in ("litert", "onnx")])
def test_hostile_metadata_of_other_formats(name: str, case: str, copied: Copied, photo: Path, hostile: Hostile) -> None:
    spoil, says = METADATA[case]
    artifact = copied(name)
    tell(name, artifact, spoil)
    hostile("predict", artifact, photo, says=says.replace(r"model\.xml", artifact.name), limit=SLOW)


@pytest.mark.parametrize(
    ("name", "case"),
    [
        pytest.param("keras", "nested deeply", marks=NEEDS["keras"]),
        pytest.param("keras", "an escape in a label", marks=NEEDS["keras"]),
        pytest.param("saved-model", "nested deeply", marks=NEEDS["saved-model"]),
        pytest.param("saved-model", "a new line in a label", marks=NEEDS["saved-model"]),
        pytest.param("graph-def", "no JSON", marks=NEEDS["graph-def"]),
        pytest.param("graph-def", "temperature 0", marks=NEEDS["graph-def"]),
    ],
)
def test_hostile_metadata_of_tensorflow(
    name: str, case: str, copied: Copied, photo: Path, hostile: Hostile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    spoil, says = METADATA[case]
    artifact = copied(name)
    tell(name, artifact, spoil)
    hostile("predict", artifact, photo, says=says.replace(r"model\.xml", artifact.name), limit=SLOW)


# --- what the graph answers ----------------------------------------------------------------------------------------


def rescale(factor: float, shift: float = 0.0) -> Callable[[Any], Any]:
    """Probabilities times a factor, plus what is added."""

    def spoil(model: Any) -> Any:
        from openvino import opset13

        result = model.outputs[0].get_node()
        scaled = opset13.multiply(result.input_value(0), np.array(factor, np.float32))
        result.input(0).replace_source_output(opset13.add(scaled, np.array(shift, np.float32)).output(0))
        return model

    return spoil


def novelty_times(factor: float) -> Callable[[Any], Any]:
    def spoil(model: Any) -> Any:
        from openvino import opset13

        result = model.outputs[1].get_node()
        result.input(0).replace_source_output(
            opset13.multiply(result.input_value(0), np.array(factor, np.float32)).output(0)
        )
        return model

    return spoil


def without_novelty(model: Any) -> Any:
    import openvino

    return openvino.Model([model.get_results()[0]], model.get_parameters())


def novelty_of_two(model: Any) -> Any:
    from openvino import opset13

    result = model.outputs[1].get_node()
    twice = opset13.concat([result.input_value(0), result.input_value(0)], 0)
    result.input(0).replace_source_output(twice.output(0))
    return model


def of_one_photo(model: Any) -> Any:
    """Probabilities of one photo more than were asked about."""
    from openvino import opset13

    result = model.outputs[0].get_node()
    twice = opset13.concat([result.input_value(0), result.input_value(0)], 0)
    result.input(0).replace_source_output(twice.output(0))
    return model


def whole_numbers(model: Any) -> Any:
    from openvino import opset13

    result = model.outputs[0].get_node()
    result.input(0).replace_source_output(opset13.convert(result.input_value(0), "i32").output(0))
    return model


NO_PROBABILITIES = r"model\.xml gives no probabilities: numbers of the shape \(1, 3\)"
ANSWERS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "probabilities of 7": (rescale(7.0), NO_PROBABILITIES),
    "probabilities of NaN": (rescale(float("nan")), NO_PROBABILITIES),
    "probabilities without end": (rescale(float("inf")), NO_PROBABILITIES),
    "probabilities below 0": (rescale(-1.0), NO_PROBABILITIES),
    "probabilities that add up to a half": (rescale(0.5), NO_PROBABILITIES),
    "probabilities that add up to 1.3": (rescale(1.0, 0.1), NO_PROBABILITIES),
    "whole numbers": (whole_numbers, NO_PROBABILITIES),
    "two answers to one photo": (of_one_photo, r"model\.xml gives no probabilities: numbers of the shape \(2, 3\)"),
    "a novelty of NaN": (novelty_times(float("nan")), r"model\.xml gives no novelty of its photos: nan"),
    "a novelty without end": (
        novelty_times(float("inf")),
        r"model\.xml gives no novelty of its photos: (inf|-inf|nan)",
    ),
    "no novelty": (without_novelty, r"model\.xml gives no novelty of its photos: none"),
    "two novelties of one photo": (
        novelty_of_two,
        r"model\.xml gives no novelty of its photos: .* of the shape \(2,\)",
    ),
}


def answer_with(artifact: Path, spoil: Callable[[Any], Any]) -> None:
    import openvino

    model = openvino.Core().read_model(artifact)
    told = model.get_rt_info(["regraft", "facts"]).astype(str)
    spoiled = spoil(model)
    spoiled.set_rt_info(told, ["regraft", "facts"])
    openvino.save_model(spoiled, artifact.parent / "new.xml", compress_to_fp16=False)
    del model, spoiled
    for suffix in (".xml", ".bin"):
        (artifact.parent / f"new{suffix}").replace(artifact.with_suffix(suffix))


@pytest.mark.parametrize("case", sampled(ANSWERS, 4))
def test_answers_that_cannot_be(case: str, copied: Copied, photo: Path, hostile: Hostile) -> None:
    spoil, says = ANSWERS[case]
    artifact = copied("openvino")
    answer_with(artifact, spoil)
    assert hostile("predict", artifact, photo, "--json", says=says).stdout == ""


def test_answers_that_cannot_be_are_not_measured(copied: Copied, photo: Path, hostile: Hostile) -> None:
    artifact = copied("openvino")
    answer_with(artifact, rescale(7.0))
    assert hostile("evaluate", artifact, photo.parents[1], says=NO_PROBABILITIES).stdout == ""


@NEEDS["onnx"]
def test_answers_of_onnx_that_cannot_be(copied: Copied, photo: Path, hostile: Hostile) -> None:
    import onnx
    from onnx import helper

    artifact = copied("onnx")
    model = onnx.load(artifact)
    for node in model.graph.node:
        for i, name in enumerate(node.output):
            if name == "probabilities":
                node.output[i] = "before"
    model.graph.node.append(helper.make_node("Add", ["before", "seven"], ["probabilities"]))
    model.graph.initializer.append(helper.make_tensor("seven", onnx.TensorProto.FLOAT, [1], [7.0]))
    onnx.save(model, artifact)
    hostile("predict", artifact, photo, says=r"model\.onnx gives no probabilities: .* first are 7")


# --- damage ---------------------------------------------------------------------------------------------------------


def cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


def flip_a_bit(data: bytes) -> bytes:
    place = random.Random(0).randrange(len(data))
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


def zero(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes(64) + data[middle + 64 :] if any(data[middle : middle + 64]) else cut(data)


FILES = {
    "openvino": ("model.xml", "model.bin"),
    "litert": ("model.tflite",),
    "onnx": ("model.onnx",),
    "keras": ("model.keras",),
    "graph-def": ("model.pb",),
    "saved-model": ("1/saved_model.pb", "1/variables/variables.data-00000-of-00001", "1/assets/regraft.json"),
}


@pytest.mark.parametrize("damage", [cut, flip_a_bit, zero])
@pytest.mark.parametrize(
    ("name", "file"),
    [pytest.param(n, file, marks=NEEDS.get(n, ())) for n, files in FILES.items() for file in files],
)
def test_damage_is_found_by_the_report_beside_it(
    name: str, file: str, damage: Callable[[bytes], bytes], copied: Copied, photo: Path, hostile: Hostile
) -> None:
    """Most runtimes do not notice a bit that tipped over in the weights."""
    artifact = copied(name, report=True)
    spoiled = artifact.parent / file
    spoiled.write_bytes(damage(spoiled.read_bytes()))
    says = rf"{artifact.name} is damaged: it differs from the file that export\.json beside it describes"
    hostile("predict", artifact if damage is cut else artifact.parent, photo, says=says)


def test_lost_weights_are_found(copied: Copied, photo: Path, hostile: Hostile) -> None:
    artifact = copied("openvino", report=True)
    artifact.with_suffix(".bin").unlink()
    hostile("predict", artifact, photo, says=r"model\.xml is damaged")


CANNOT = r" cannot be read as {}: "
NOT_OURS = r" does not say which classes it knows"
BARE: dict[str, tuple[str, str, Callable[[bytes], bytes], str]] = {
    "openvino cut": ("openvino", "model.xml", cut, r"model\.xml" + CANNOT.format("openvino")),
    "openvino empty": ("openvino", "model.xml", lambda _: b"", r"model\.xml" + CANNOT.format("openvino")),
    "openvino a web page": (
        "openvino",
        "model.xml",
        lambda _: b"<html><body>404</body></html>",
        r"model\.xml" + CANNOT.format("openvino"),
    ),
    "openvino entities": (
        "openvino",
        "model.xml",
        lambda _: b'<!DOCTYPE n [<!ENTITY a "' + b"x" * 999 + b'">]><net name="&a;" version="11"></net>',
        r"model\.xml" + NOT_OURS,
    ),
    "openvino weights cut": ("openvino", "model.bin", cut, r"model\.xml" + CANNOT.format("openvino")),
    "openvino weights empty": ("openvino", "model.bin", lambda _: b"", r"model\.xml" + CANNOT.format("openvino")),
    "litert cut": ("litert", "model.tflite", cut, r"model\.tflite" + NOT_OURS),
    "litert empty": ("litert", "model.tflite", lambda _: b"", r"model\.tflite" + NOT_OURS),
    "litert random": ("litert", "model.tflite", lambda _: random.Random(0).randbytes(10**5), NOT_OURS),
    "litert facts alone": (
        "litert",
        "model.tflite",
        lambda data: b"TFL3" * 100 + data[data.index(b"PK\3\4") :],
        r"model\.tflite" + CANNOT.format("litert"),
    ),
    "onnx cut": ("onnx", "model.onnx", cut, r"model\.onnx" + CANNOT.format("onnx")),
    "onnx empty": ("onnx", "model.onnx", lambda _: b"", r"model\.onnx" + CANNOT.format("onnx")),
    "onnx random": (
        "onnx",
        "model.onnx",
        lambda _: random.Random(0).randbytes(10**5),
        r"model\.onnx" + CANNOT.format("onnx"),
    ),
    "keras cut": ("keras", "model.keras", cut, r"model\.keras" + NOT_OURS),
    "keras empty": ("keras", "model.keras", lambda _: b"", r"model\.keras" + NOT_OURS),
    "graph-def cut": ("graph-def", "model.pb", cut, r"model\.pb" + CANNOT.format("graph-def")),
    "graph-def empty": ("graph-def", "model.pb", lambda _: b"", r"model\.pb" + NOT_OURS),
    "saved-model cut": ("saved-model", "1/saved_model.pb", cut, r"1" + CANNOT.format("saved-model")),
    "saved-model without facts": ("saved-model", "1/assets/regraft.json", lambda _: b"", r"1" + NOT_OURS),
}


@pytest.mark.parametrize("case", [pytest.param(case, marks=NEEDS.get(BARE[case][0], ())) for case in BARE])
def test_damage_of_a_bare_file(
    case: str, copied: Copied, photo: Path, hostile: Hostile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    name, file, damage, says = BARE[case]
    artifact = copied(name)
    spoiled = artifact.parent / file
    spoiled.write_bytes(damage(spoiled.read_bytes()))
    hostile("predict", artifact, photo, says=says, limit=SLOW)


def make_pipe(path: Path) -> None:
    os.mkfifo(path)


def make_endless(path: Path) -> None:
    path.symlink_to("/dev/zero")


def make_huge(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(LARGE)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (make_pipe, "is no folder; wanted a run folder"),
        (make_endless, "is no folder; wanted a run folder"),
        (Path.mkdir, "is not a run folder"),
        (make_huge, r"has 2,147,483,649 bytes, more than the 2,147,483,648"),
    ],
)
@pytest.mark.parametrize("name", ["m.xml", pytest.param("m.tflite", marks=NEEDS["litert"])])
def test_what_is_no_file_of_an_export(
    name: str, make: Callable[[Path], None], says: str, tmp_path: Path, photo: Path, hostile: Hostile
) -> None:
    make(tmp_path / name)
    hostile("predict", name, photo, says=says)


@pytest.mark.parametrize("make", [make_pipe, make_endless, make_huge])
def test_a_strange_report_beside_a_good_file_stops_nothing(
    make: Callable[[Path], None], copied: Copied, photo: Path, hostile: Hostile
) -> None:
    artifact = copied("openvino")
    make(artifact.parent / "export.json")
    assert "circle" in hostile("predict", artifact, photo, code=0).stdout


@NEEDS["keras"]
def test_an_archive_that_swells(copied: Copied, photo: Path, hostile: Hostile) -> None:
    artifact = copied("keras")
    with zipfile.ZipFile(artifact, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros", bytes(2**29))
    hostile("predict", artifact, photo, says=r"model\.keras unpacks to far more than its own size")


# --- photos that are elsewhere --------------------------------------------------------------------------------------


MOVED = pytest.mark.parametrize("verb", [("export", "--format", "openvino"), ("finetune",)], ids=lambda verb: verb[0])


@MOVED
def test_photos_that_moved(verb: tuple[str, ...], run: Path, tmp_path: Path, hostile: Hostile) -> None:
    shutil.copytree(run, tmp_path / "run")
    manifest = json.loads((run / "manifest.json").read_text(encoding="utf-8"))
    manifest["data"]["source"] = str(tmp_path / "gone")
    (tmp_path / "run" / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    says = rf"the 60 photos of run were in {tmp_path / 'gone'}, which is not there any more; type --photos FOLDER"
    hostile(*verb, "run", says=says)


@MOVED
def test_photos_of_somebody_else(verb: tuple[str, ...], run: Path, tmp_path: Path, hostile: Hostile) -> None:
    draw_folder(tmp_path / "others", dict.fromkeys(SHAPES, 3), seed=99)
    says = r"0 of the 60 photos of .* are in others; type --photos FOLDER"
    hostile(*verb, run, "--photos", "others", "--out", "out", says=says)
    assert not (tmp_path / "out").exists()
