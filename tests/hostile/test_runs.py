"""Damaged run folders: every verb that reads one says in one line which file it is and what is wrong with it."""

from __future__ import annotations

import json
import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from regraft import Classifier, TrainConfig, train
from regraft.classifiers.run_folder import LAYOUT, read_run
from regraft.errors import RegraftError, RunError
from regraft.finetuning.begun import Begun, write_begun
from regraft.sweeping.sweeping import Sweep
from tests.hostile.conftest import Hostile
from tests.hostile.damage import (
    Damage,
    cut,
    filled,
    folder,
    gone,
    huge,
    in_json,
    linked,
    pipe,
    several,
    tensors,
    without,
)

MANIFEST, METRICS, SPLIT, CONFIG = "manifest.json", "metrics.json", "split.json", "config.toml"
HEAD, CALIBRATION = "head.safetensors", "calibration.safetensors"


@pytest.fixture(scope="session")
def sound(tmp_path_factory: pytest.TempPathFactory, photos: Path, warm_cache: Path) -> Path:
    """A run of three classes, with novelty. Not to be changed: copy it first."""
    before = os.environ.get("REGRAFT_CACHE", "")
    os.environ["REGRAFT_CACHE"] = str(warm_cache)
    try:
        return (
            train(photos, tmp_path_factory.mktemp("sound") / "run", TrainConfig(effort="quick", val=0.2)).path or Path()
        )
    finally:
        os.environ["REGRAFT_CACHE"] = before


@pytest.fixture
def run(sound: Path, tmp_path: Path) -> Path:
    """A copy that may be damaged."""
    return Path(shutil.copytree(sound, tmp_path / "run"))


def _nan(arrays: dict[str, Any], name: str) -> None:
    arrays[name][:] = np.nan


def _json_bomb(depth: int) -> bytes:
    return b'{"schema": 2, "a": ' + b"[" * depth + b"]" * depth + b"}"


CASES: dict[str, tuple[Damage, str]] = {
    # what a file is
    "manifest empty": (filled(MANIFEST, b""), r"manifest\.json is damaged: Expecting value"),
    "manifest cut": (cut(MANIFEST, 0.5), r"manifest\.json is damaged"),
    "manifest a list": (filled(MANIFEST, b"[]"), r"manifest\.json: there is \[\]; wanted an object"),
    "manifest not UTF-8": (filled(MANIFEST, b'{"schema": "\xff"}'), r"manifest\.json is damaged: it is no UTF-8 text"),
    "manifest UTF-16": (
        filled(MANIFEST, '{"schema": 2}'.encode("utf-16")),
        r"manifest\.json is damaged: it is no UTF-8",
    ),
    "manifest null": (filled(MANIFEST, b"null"), r"manifest\.json: there is None; wanted an object"),
    "manifest deep": (filled(MANIFEST, _json_bomb(100_000)), r"manifest\.json is damaged: nested more than 32 deep"),
    "manifest rather deep": (filled(MANIFEST, _json_bomb(40)), r"manifest\.json is damaged: nested more than 32 deep"),
    "manifest of lists": (
        filled(MANIFEST, b"[" + b"0," * 2**23 + b"0]"),
        r"more values than fit in memory|larger than",
    ),
    "manifest a pipe": (pipe(MANIFEST), r"manifest\.json is a pipe; wanted a regular file"),
    "manifest endless": (linked(MANIFEST, "/dev/zero"), r"manifest\.json is a device; wanted a regular file"),
    "manifest a folder": (folder(MANIFEST), r"manifest\.json is a folder; wanted a regular file"),
    "manifest huge": (huge(MANIFEST), r"manifest\.json is larger than 16 MiB"),
    "manifest in a circle": (linked(MANIFEST, MANIFEST), r"symbolic links lead in a circle|has no manifest\.json"),
    "manifest gone": (gone(MANIFEST), r"is not a run folder: it has no manifest\.json"),
    "head a pipe": (pipe(HEAD), r"head\.safetensors is a pipe; wanted a regular file"),
    "head endless": (linked(HEAD, "/dev/zero"), r"head\.safetensors is a device"),
    "head gone": (gone(HEAD), r"head\.safetensors is missing"),
    "head huge": (huge(HEAD), r"head\.safetensors is larger than 2\.05e\+03 MiB"),
    "head cut": (cut(HEAD, 0.7), r"head\.safetensors is damaged"),
    "head empty": (filled(HEAD, b""), r"head\.safetensors is damaged"),
    "head no safetensors": (
        filled(HEAD, b"\x08\0\0\0\0\0\0\0{}      "),
        r"head\.safetensors is damaged: .*weight is missing",
    ),
    "head of a long header": (filled(HEAD, b"\xff\xff\xff\x7f\0\0\0\0{"), r"header is larger than 1 MiB"),
    "config a pipe": (pipe(CONFIG), r"config\.toml is a pipe"),
    "config huge": (huge(CONFIG), r"config\.toml is larger than 32768 bytes"),
    "config no TOML": (filled(CONFIG, b"effort = "), r"config\.toml is not TOML"),
    "config deep": (filled(CONFIG, b"a = " + b"[" * 30_000), r"config\.toml is not TOML"),
    "metrics a pipe": (pipe(METRICS), r"metrics\.json is a pipe"),
    "metrics huge": (huge(METRICS), r"metrics\.json is larger than 64 MiB"),
    "metrics gone": (gone(METRICS), r"metrics\.json is missing"),
    "calibration gone": (gone(CALIBRATION), r"calibration\.safetensors is missing"),
    "calibration a folder": (folder(CALIBRATION), r"calibration\.safetensors is a folder"),
    # what stands in it
    "schema text": (in_json(MANIFEST, "schema", "2"), r"schema is '2'; wanted a whole number"),
    "schema true": (in_json(MANIFEST, "schema", True), r"schema is True; wanted a whole number"),
    "schema 0": (in_json(MANIFEST, "schema", 0), r"schema is 0; wanted a whole number of at least 1"),
    "schema newer": (in_json(MANIFEST, "schema", 5), r"has schema 5; this regraft reads schemas up to 4"),
    "no classes": (without(MANIFEST, "classes"), r"classes is missing"),
    "classes a text": (in_json(MANIFEST, "classes", "abc"), r"classes is 'abc'; wanted a list of class names"),
    "classes numbers": (
        in_json(MANIFEST, "classes", [1, 2, 3]),
        r"classes is \[1, 2, 3\]; wanted a list of class names",
    ),
    "one class": (in_json(MANIFEST, "classes", ["a"]), r"wanted at least two class names"),
    "a class twice": (in_json(MANIFEST, "classes", ["a", "b", "a"]), r"each of them once"),
    "a class of nothing": (in_json(MANIFEST, "classes", ["a", "b", " "]), r"of which ' ' is empty"),
    "a class with a line break": (in_json(MANIFEST, "classes", ["a", "b", "c\nd"]), r"has the character"),
    "a class with an escape": (in_json(MANIFEST, "classes", ["a", "b", "\x1b[31m"]), r"has the character"),
    "more classes than the head": (in_json(MANIFEST, "classes", ["a", "b", "c", "d"]), r"head of 3 classes; wanted 4"),
    "backbone a text": (in_json(MANIFEST, "backbone", "lite0"), r"backbone: there is 'lite0'; wanted an object"),
    "backbone unknown": (in_json(MANIFEST, "backbone.name", "embedded:nope"), r"nope"),
    "backbone of another version": (in_json(MANIFEST, "backbone.fingerprint", "0" * 64), r"another version of"),
    "backbone of a long name": (in_json(MANIFEST, "backbone.name", "a" * 5000), r"backbone cannot be read.*too long"),
    "options unknown": (in_json(MANIFEST, "backbone.options", {"x": ""}), r"wanted options among .*not 'x'"),
    "options numbers": (in_json(MANIFEST, "backbone.options.stages", 3), r"stages is 3; wanted (a )?text"),
    "tuned weights elsewhere": (
        in_json(MANIFEST, "backbone.options.tuned", "/dev/zero"),
        r"wanted backbone\.safetensors",
    ),
    "tuned weights gone": (
        in_json(MANIFEST, "backbone.options.tuned", "backbone.safetensors"),
        r"backbone\.safetensors is missing",
    ),
    "features 0": (in_json(MANIFEST, "backbone.num_features", 0), r"num_features is 0; wanted a whole number"),
    "features of another number": (in_json(MANIFEST, "backbone.num_features", 99), r"no logistic head for 99 features"),
    "size 0": (in_json(MANIFEST, "backbone.transform.size", 0), r"size is 0; wanted a whole number of at least 1"),
    "size 10^9": (in_json(MANIFEST, "backbone.transform.size", 10**9), r"size is 1000000000; wanted a whole number"),
    "size a float": (in_json(MANIFEST, "backbone.transform.size", 224.5), r"size is 224\.5; wanted a whole number"),
    "crop 0": (in_json(MANIFEST, "backbone.transform.crop", 0), r"crop is 0; wanted a number"),
    "crop 2": (in_json(MANIFEST, "backbone.transform.crop", 2), r"crop is 2; wanted a number"),
    "resample unknown": (
        in_json(MANIFEST, "backbone.transform.resample", "box"),
        r"resample is 'box'; wanted bilinear",
    ),
    "mean of two": (
        in_json(MANIFEST, "backbone.transform.mean", [1, 2]),
        r"mean is \[1, 2\]; wanted a list of 3 numbers",
    ),
    "std of 0": (in_json(MANIFEST, "backbone.transform.std", [1, 0, 1]), r"std\[1\] is 0; wanted a number"),
    "channels GRB": (in_json(MANIFEST, "backbone.transform.channel_order", "GRB"), r"wanted RGB or BGR"),
    "no calibration": (without(MANIFEST, "calibration"), r"calibration is missing"),
    "temperature 0": (in_json(MANIFEST, "calibration.temperature", 0), r"temperature is 0; wanted a number"),
    "temperature negative": (in_json(MANIFEST, "calibration.temperature", -1), r"temperature is -1; wanted a number"),
    "temperature null": (in_json(MANIFEST, "calibration.temperature", None), r"temperature is None; wanted a number"),
    "temperature NaN": (in_json(MANIFEST, "calibration.temperature", float("nan")), r"manifest\.json is damaged: NaN"),
    "temperature 1e999": (
        several(
            in_json(MANIFEST, "calibration.temperature", "@"),
            lambda run: filled(MANIFEST, (run / MANIFEST).read_bytes().replace(b'"@"', b"1e999"))(run),
        ),
        r"'1e999' is too large a number",
    ),
    "threshold a text": (in_json(MANIFEST, "calibration.threshold", "high"), r"threshold is 'high'; wanted a number"),
    "threshold without novelty": (in_json(MANIFEST, "calibration.surest", None), r"surest is None; wanted a number"),
    "head unknown": (in_json(MANIFEST, "head", "forest"), r"unknown head 'forest'"),
    "head a number": (in_json(MANIFEST, "head", 7), r"head is 7; wanted (a )?text"),
    "head of another kind": (in_json(MANIFEST, "head", "knn"), r"no knn head"),
    "made by a number": (in_json(MANIFEST, "made_by.regraft", 1), r"regraft is 1; wanted (a )?text"),
    "head of NaN": (tensors(HEAD, lambda a: _nan(a, "root_weight")), r"'root_weight' has numbers that are not finite"),
    "bias of infinity": (
        tensors(HEAD, lambda a: a["root_bias"].fill(np.inf)),
        r"'root_bias' has numbers that are not finite",
    ),
    "head reshaped": (
        tensors(HEAD, lambda a: a.update(root_weight=a["root_weight"].T)),
        r"head\.safetensors is damaged",
    ),
    "head of doubles": (
        tensors(HEAD, lambda a: a.update(root_weight=a["root_weight"].astype("f8"))),
        r"weight is float64",
    ),
    "head without bias": (tensors(HEAD, lambda a: a.pop("root_bias")), r"bias is missing"),
    "head of nothing": (
        tensors(HEAD, lambda a: a.update(root_weight=a["root_weight"][:0])),
        r"weight is float32 \(0, 3\)",
    ),
    "bias too short": (tensors(HEAD, lambda a: a.update(root_bias=a["root_bias"][:2])), r"bias is float32 \(2,\)"),
    "novelty of NaN": (tensors(CALIBRATION, lambda a: _nan(a, "novelty_basis")), r"not finite"),
    "novelty too wide": (
        tensors(CALIBRATION, lambda a: a.update(novelty_basis=np.ones((5000, 2), np.float32))),
        r"of more features than the backbone has",
    ),
    "novelty weights short": (
        tensors(CALIBRATION, lambda a: a.update(novelty_weights=a["novelty_weights"][:2])),
        r"\(2,\)",
    ),
    "config unknown option": (filled(CONFIG, b"speed = 3\n"), r"config\.toml is damaged: unknown option 'speed'"),
    "config of a wrong type": (
        filled(CONFIG, b"effort = 3\n"),
        r"config\.toml is damaged: effort is 3; wanted (a )?text",
    ),
    "config true": (filled(CONFIG, b"steps = true\n"), r"steps is True; wanted a whole number"),
    "config impossible": (filled(CONFIG, b"val = nan\n"), r"config\.toml is damaged: val nan"),
    "config a date": (filled(CONFIG, b"salt = 2026-11-24\n"), r"salt is .*wanted (a )?text"),
    "config int8 without its graph": (filled(CONFIG, b'precision = "int8"\n'), r"backbone-int8\.xml is missing"),
    "counts gone": (without(METRICS, "counts"), r"metrics\.json is damaged: counts is missing"),
    "counts negative": (in_json(METRICS, "counts.test", -1), r"test is -1; wanted a whole number"),
    "val a list": (in_json(METRICS, "val", []), r"val: there is \[\]; wanted an object"),
    "accuracy 2": (in_json(METRICS, "val.accuracy", 2), r"accuracy is 2; wanted a number"),
    "accuracy null": (in_json(METRICS, "val.accuracy", None), r"accuracy is None; wanted a number"),
    "interval short": (in_json(METRICS, "val.interval", [0.5]), r"interval is \[0\.5\]; wanted a list of 2 numbers"),
    "per class a text": (in_json(METRICS, "val.per_class", "all"), r"per_class is 'all'; wanted a list"),
    "problem without path": (in_json(METRICS, "problems", [{"reason": "x"}]), r"problems\[0\]: path is missing"),
    "finetuned a number": (in_json(METRICS, "finetuned", 3), r"finetuned: there is 3; wanted an object"),
}

VERBS: tuple[Callable[[Path, Path], list[str | Path]], ...] = (
    lambda run, photos: ["predict", run, photos / "circle"],
    lambda run, photos: ["info", run],
    lambda run, photos: ["evaluate", run, photos],
    lambda run, photos: ["export", run, "--format", "openvino", "--out", "export"],
    lambda run, photos: ["finetune", run, "--out", "tuned"],
)


@pytest.mark.parametrize(("number", "name"), list(enumerate(CASES)), ids=list(CASES))
def test_a_damaged_run_is_told_in_one_line(
    number: int, name: str, run: Path, photos: Path, tmp_path: Path, hostile: Hostile
) -> None:
    """Every verb in turn; what all of them read is read by the one function that the next test tries on all cases."""
    damage, says = CASES[name]
    damage(run)
    verb = VERBS[number % len(VERBS)](run, photos)
    if verb[0] == "info" and name.startswith("backbone "):
        verb = VERBS[0](run, photos)  # info loads no backbone
    outcome = hostile(*verb, says=says)
    assert str(tmp_path / "run") in outcome.error or "backbone" in outcome.error
    assert outcome.stdout == ""
    assert not (tmp_path / "export").exists()
    assert not (tmp_path / "tuned").exists()


@pytest.mark.parametrize("name", [name for name in CASES if name != "manifest of lists"])
def test_python_gets_a_typed_error(name: str, run: Path) -> None:
    damage, _ = CASES[name]
    damage(run)
    with pytest.raises(RegraftError):
        Classifier.load(run)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (in_json(SPLIT, "train", "x"), r"split\.json is damaged: train is 'x'; wanted a list of texts"),
        (in_json(SPLIT, "val", [3]), r"split\.json is damaged: val is \[3\]"),
        (in_json(SPLIT, "test", ["a" * 63]), r"test has digests that are not 64 hexadecimal digits"),
        (in_json(SPLIT, "test", ["g" * 64]), r"test has digests that are not 64 hexadecimal digits"),
        (without(SPLIT, "val"), r"split\.json is damaged: val is missing"),
        (gone(SPLIT), r"split\.json is missing"),
        (pipe(SPLIT), r"split\.json is a pipe"),
        (linked(SPLIT, "/dev/zero"), r"split\.json is a device"),
        (huge(SPLIT), r"split\.json is larger than 192 MiB"),
        (cut(SPLIT, 0.3), r"split\.json is damaged"),
    ],
)
def test_a_damaged_split_is_told_by_those_who_need_it(
    damage: Damage, says: str, run: Path, photos: Path, hostile: Hostile
) -> None:
    damage(run)
    hostile("evaluate", run, photos, says=says)
    hostile("export", run, "--format", "openvino", says=says)
    hostile("predict", run, photos / "circle" / "000.jpg", code=0)


@pytest.mark.parametrize(
    ("weight", "temperature"), [(3e38, 1.0), (1.0, 1e-4), (-3e38, 1.0)], ids=["large", "cold", "small"]
)
def test_numbers_that_overflow_answer_nothing_or_finite(
    weight: float, temperature: float, run: Path, photos: Path, hostile: Hostile
) -> None:
    tensors(HEAD, lambda a: a["root_weight"].fill(weight))(run)
    in_json(MANIFEST, "calibration.temperature", temperature)(run)
    if abs(weight) > 1:
        hostile(
            "predict", run, photos / "circle" / "000.jpg", "--json", says="answers with numbers that are not finite"
        )
    else:
        outcome = hostile("predict", run, photos / "circle" / "000.jpg", "--json", code=0)
        assert all(0 <= top["probability"] <= 1 for top in json.loads(outcome.stdout)[0]["top"])


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda a: a["k"].fill(0), "0 neighbours of"),
        (lambda a: a["k"].fill(10**6), "1000000 neighbours of"),
        (lambda a: a["y"].fill(9), "not all in 3"),
        (lambda a: a["y"].fill(-1), "not all in 3"),
        (lambda a: a["classes"].fill(2**40), "not all in|neighbours"),
        (lambda a: a["spread"].fill(0), "spread has values that are not above 0"),
        (lambda a: a.update(mean=a["mean"][:5]), r"mean is float32 \(5,\)"),
        (lambda a: a.update(y=a["y"].astype(np.float32)), "y is float32"),
        (lambda a: a.pop("k"), "k is missing"),
    ],
)
def test_a_damaged_head_of_neighbours_is_told(
    change: Callable[[dict[str, Any]], Any], says: str, photos: Path, tmp_path: Path, warm_cache: Path
) -> None:
    os.environ["REGRAFT_CACHE"] = str(warm_cache)
    run = train(photos, tmp_path / "knn", TrainConfig(effort="quick", head="knn")).path or Path()
    tensors(HEAD, change)(run)
    with pytest.raises(RunError, match=rf"head\.safetensors is damaged: .*({says})"):
        read_run(run)


def test_a_socket_is_no_manifest(run: Path, hostile: Hostile, monkeypatch: pytest.MonkeyPatch) -> None:
    (run / MANIFEST).unlink()
    monkeypatch.chdir(run)  # the address of a socket may not be long
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(MANIFEST)
        hostile("info", run, says=r"manifest\.json is a socket; wanted a regular file")


def test_what_is_no_folder_is_no_run(tmp_path: Path, photos: Path, hostile: Hostile) -> None:
    (tmp_path / "file").write_text("text")
    os.mkfifo(tmp_path / "pipe")
    for name in ("file", "pipe"):
        hostile("predict", name, photos / "circle", says="is no folder; wanted a run folder")
    hostile("info", "/dev/zero", says="is no folder; wanted a run folder")
    hostile("predict", "none", photos / "circle", says="there is no run folder none")
    hostile("predict", "~nosuchuser/run", photos / "circle", says="~nosuchuser")


def test_an_unfinished_fine_tuning_says_how_to_go_on(tmp_path: Path, photos: Path, run: Path, hostile: Hostile) -> None:
    (tmp_path / "tuned" / "checkpoints").mkdir(parents=True)
    write_begun(tmp_path / "tuned", Begun({"config": {}, "from": "a run"}, str(run), "1"))
    hostile("predict", "tuned", photos / "circle", says="not finished; go on with `regraft finetune --resume`")
    hostile("evaluate", "tuned", photos, "--once", says="has no checkpoint yet")


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"config": 3}', b'{"config": {}, "from": 1}', b"\xff"])
def test_a_damaged_begin_of_a_fine_tuning_is_told(content: bytes, run: Path, tmp_path: Path, hostile: Hostile) -> None:
    (tmp_path / "half" / "checkpoints").mkdir(parents=True)
    (tmp_path / "half" / LAYOUT.unfinished).write_bytes(content)
    hostile("finetune", run, "--out", "half", "--resume", says=r"finetune\.json.*type --overwrite to begin anew")


def test_links_to_files_and_folders_are_followed(run: Path, tmp_path: Path, photos: Path, hostile: Hostile) -> None:
    (tmp_path / "link").symlink_to(run)
    shutil.move(run / HEAD, tmp_path / "moved.safetensors")
    (run / HEAD).symlink_to(tmp_path / "moved.safetensors")
    hostile("predict", "link", photos / "circle" / "000.jpg", code=0)


@pytest.mark.parametrize("document", ["", "[]", "{}", '{"schema": 1}', '{"schema": 1, "format": "exe"}', "[" * 10**5])
def test_a_damaged_report_of_an_export_is_told(document: str, tmp_path: Path, photos: Path, hostile: Hostile) -> None:
    (tmp_path / "export").mkdir()
    (tmp_path / "export" / "export.json").write_text(document)
    for verb in (["info", "export"], ["predict", "export", photos / "circle"]):
        hostile(*verb, says=r"export/export\.json.*export the run again")


def test_a_report_that_never_ends_is_told(tmp_path: Path, photos: Path, hostile: Hostile) -> None:
    (tmp_path / "export").mkdir()
    os.mkfifo(tmp_path / "export" / "export.json")
    hostile("info", "export", says=r"export\.json is a pipe")
    (tmp_path / "export" / "export.json").unlink()
    (tmp_path / "export" / "export.json").symlink_to("/dev/zero")
    hostile("predict", "export", photos / "circle", says=r"export\.json is a device")


def test_a_sweep_makes_a_damaged_trial_again(photos: Path, tmp_path: Path, warm_cache: Path) -> None:
    from regraft import SweepConfig, sweep

    os.environ["REGRAFT_CACHE"] = str(warm_cache)
    quick = TrainConfig(effort="quick")

    def swept() -> Sweep:
        return sweep(photos, tmp_path / "sweep", SweepConfig(head="logistic,prototype"), quick)

    first = swept()
    damaged = tmp_path / "sweep" / first.trials[0].name
    (damaged / HEAD).write_bytes(b"")
    again = swept()
    assert [t.accuracy for t in again.trials] == [t.accuracy for t in first.trials]
    read_run(damaged)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"effort = 3\n", "effort is 3; wanted (a )?text"),
        (b'val = "half"\n', "val is 'half'; wanted a number"),
        (b"val = true\n", "val is True; wanted a number"),
        (b"steps = 1.5\n", "steps is 1.5; wanted a whole number"),
        (b"steps = 99999999999999999999\n", "steps is 99999999999999999999; wanted a whole number"),
        (b"resolution = inf\n", "resolution is inf; wanted a whole number"),
        (b"salt = [1]\n", r"salt is \[1\]; wanted (a )?text"),
        (b'"" = 1\n', "unknown option ''"),
        (b"[effort]\na = 1\n", "effort is .*wanted (a )?text"),
        (b"\xff", "is damaged: it is no UTF-8 text"),
        (b"a = [" + b"[" * 30_000, "is not TOML"),
        (b"a." * 10**4 + b"b = 1", "is not TOML: it is nested too deeply|unknown option 'a'"),
        (b"a." * 10**5 + b"b = 1", "is larger than 32768 bytes"),
        (b"steps = " + b"9" * 5000, "is not TOML"),
        (b"#" * 2**19, "is larger than"),
    ],
)
def test_a_file_of_options_is_told_what_is_wrong_with_it(
    content: bytes, says: str, tmp_path: Path, photos: Path, hostile: Hostile
) -> None:
    (tmp_path / "options.toml").write_bytes(content)
    hostile("train", photos, "--config", "options.toml", says=says)


def test_a_file_of_options_may_be_anything(tmp_path: Path, photos: Path, run: Path, hostile: Hostile) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, says in (
        ("pipe", "is a pipe"),
        ("/dev/zero", "is a device"),
        (".", "is a folder"),
        ("none", "is missing"),
    ):
        hostile("train", photos, "--config", path, says=says)
        hostile("finetune", run, "--config", path, says=says)
    (tmp_path / "shared.toml").write_text("train = 3\n")
    hostile("sweep", photos, "--config", "shared.toml", says="options are an int; wanted a table")
