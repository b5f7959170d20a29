"""Every public function takes what its command takes, and says what it wanted where it gets something else."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import regraft
from regraft.classifiers.predictor import Answers
from regraft.photos.unlabelled import Photo
from tests.conftest import draw_folder

QUICK = {"effort": "quick", "val": 0.3}  # enough of val to reject photos


@pytest.fixture(scope="module")
def run(photos: Path, warm_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained run. Not to be changed."""
    before = os.environ.get("REGRAFT_CACHE")
    os.environ["REGRAFT_CACHE"] = str(warm_cache)
    try:
        out = tmp_path_factory.mktemp("run") / "drawn"
        regraft.train(photos, out, QUICK)
    finally:
        del os.environ["REGRAFT_CACHE"]
        if before is not None:
            os.environ["REGRAFT_CACHE"] = before
    return out


@pytest.fixture(autouse=True)
def _shared_cache(warm_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGRAFT_CACHE", str(warm_cache))


@pytest.fixture(scope="module")
def classifier(run: Path) -> regraft.Classifier:
    return regraft.Classifier.load(run)


Ask = Callable[[Path], Any]
"""Makes what is asked about, from a folder with ``a.jpg`` and ``b.jpg``."""

RIGHT: dict[str, tuple[Ask, int]] = {
    "text": (lambda f: str(f / "a.jpg"), 1),
    "path": (lambda f: f / "a.jpg", 1),
    "home": (lambda f: "~/a.jpg", 1),
    "folder": (lambda f: str(f), 2),
    "folder as a path": (lambda f: f, 2),
    "list": (lambda f: [str(f / "a.jpg"), f / "b.jpg"], 2),
    "tuple with a folder": (lambda f: (f, f / "a.jpg"), 3),
    "generator": (lambda f: (p for p in sorted(f.glob("*.jpg"))), 2),
    "array of paths": (lambda f: np.array([str(f / "a.jpg"), str(f / "b.jpg")]), 2),
    "table": (lambda f: table(f), 2),
    "bytes": (lambda f: (f / "a.jpg").read_bytes(), 1),
    "list of bytes": (lambda f: [(f / "a.jpg").read_bytes()], 1),
    "Pillow image": (lambda f: Image.open(f / "a.jpg"), 1),
    "grey Pillow image": (lambda f: Image.open(f / "a.jpg").convert("L"), 1),
    "transparent Pillow image": (lambda f: Image.open(f / "a.jpg").convert("RGBA"), 1),
    "pixels": (lambda f: np.asarray(Image.open(f / "a.jpg")), 1),
    "batch of pixels": (lambda f: np.zeros((3, 40, 50, 3), np.uint8), 3),
    "data set": (lambda f: regraft.Dataset.open(f.parent), 2),
    "nothing": (lambda f: [], 0),
}


def table(folder: Path) -> Path:
    path = folder.parent / "photos.csv"
    path.write_text(f"path,label\n{folder.name}/a.jpg,x\n{folder.name}/b.jpg,x\n")
    return path


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = draw_folder(tmp_path / "drawn", {"x": 2})
    (root / "x" / "000.jpg").rename(root / "x" / "a.jpg")
    (root / "x" / "001.jpg").rename(root / "x" / "b.jpg")
    monkeypatch.setenv("HOME", str(root / "x"))
    return root / "x"


@pytest.mark.parametrize("name", RIGHT)
def test_whatever_holds_photos_is_answered(name: str, folder: Path, classifier: regraft.Classifier) -> None:
    make, count = RIGHT[name]
    assert classifier.predict_proba(make(folder)).shape == (count, 3)
    found = regraft.predict(classifier, make(folder), top=2)
    assert [len(answer.top) for answer in found] == [2] * count
    assert len(list(regraft.predict_each(classifier, make(folder)))) == count


def test_pixels_are_the_same_photo_in_every_shape(folder: Path, classifier: regraft.Classifier) -> None:
    path = folder / "a.jpg"
    image = Image.open(path)
    shapes: list[Photo] = [path, path.read_bytes(), image, np.asarray(image)]
    rows = classifier.predict_proba(shapes)
    assert np.abs(rows - rows[0]).max() < 1e-5


WRONG_PHOTOS: dict[str, tuple[Any, str]] = {
    "None": (None, "photos are None; wanted a path, a folder"),
    "number": (7, "photos are an int; wanted a path"),
    "dict": ({"a": 1}, "photos are a dict; wanted a path"),
    "floats": (np.zeros((4, 4)), r"photos are a ndarray of shape \(4, 4\); wanted"),
    "empty text": ("", "an empty text names no photo"),
    "None in a list": ([None], "there is None among the photos"),
    "batches of a generator": (((np.zeros((2, 8, 8, 3)), np.zeros(2)) for _ in range(2)), "a tuple among the photos"),
    "nested list": ([["a.jpg"]], "there is a list among the photos"),
    "numbers": (np.zeros(3), "there is a float64 among the photos"),
}


@pytest.mark.parametrize("name", WRONG_PHOTOS)
def test_what_holds_no_photos_is_refused(name: str, classifier: regraft.Classifier) -> None:
    asked, message = WRONG_PHOTOS[name]
    with pytest.raises(regraft.DataError, match=message):
        classifier.predict_proba(asked)
    if name != "batches of a generator":  # it is used up
        with pytest.raises(regraft.DataError, match=message):
            regraft.predict(classifier, asked)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((8, 8, 3), np.float32), "an array of float32"),
        (np.zeros((8, 8, 4), np.uint8), r"an array of uint8 \(8, 8, 4\)"),
        (np.zeros((0, 8, 3), np.uint8), r"an array of uint8 \(0, 8, 3\)"),
    ],
)
def test_pixels_of_another_kind_are_a_photo_that_cannot_be_read(
    array: Any, message: str, classifier: regraft.Classifier
) -> None:
    with pytest.raises(regraft.ImageError, match=message):
        classifier.predict_proba([array])
    (answer,) = regraft.predict(classifier, [array])
    assert answer.error is not None
    assert answer.error.startswith(message.partition(r" \(")[0])


def test_a_pillow_image_whose_file_is_cut_off_is_one_that_cannot_be_read(
    folder: Path, classifier: regraft.Classifier
) -> None:
    whole = (folder / "a.jpg").read_bytes()
    (folder / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    with Image.open(folder / "cut.jpg") as image:
        (answer,) = regraft.predict(classifier, image)
    assert answer.error is not None
    assert answer.error.startswith("damaged")


def test_a_run_or_what_was_loaded_of_it_answers(run: Path, folder: Path, classifier: regraft.Classifier) -> None:
    loaded = regraft.predict(classifier, folder)
    assert regraft.predict(str(run), folder) == loaded
    assert regraft.predict(run, folder) == loaded
    assert regraft.predict(regraft.load_predictor(run), folder) == loaded


@pytest.mark.parametrize("wrong", [None, 7, b"run", ["run"], np.zeros(3), Image.new("RGB", (8, 8))])
def test_what_cannot_answer_is_refused(wrong: Any) -> None:
    for function in (regraft.predict, regraft.predict_each, regraft.evaluate):
        with pytest.raises(regraft.ConfigError, match=r"the predictor is .*; wanted a Classifier"):
            function(wrong, "photos/")


@pytest.mark.parametrize("top", [0, -1, "2", 1.5, None, True])
def test_a_top_that_is_none_is_refused(top: Any, classifier: regraft.Classifier) -> None:
    with pytest.raises(regraft.ConfigError, match="wanted"):
        regraft.predict(classifier, [], top=top)


def test_evaluate_takes_what_its_command_takes(
    run: Path, photos: Path, classifier: regraft.Classifier, caplog: pytest.LogCaptureFixture
) -> None:
    expected, problems = regraft.evaluate(classifier, regraft.Dataset.open(photos))
    assert problems == ()
    assert "were trained on" in caplog.text  # of a data set too
    caplog.clear()
    assert expected.right + expected.wrong + expected.refused == expected.n == 60
    assert regraft.evaluate(classifier, str(photos))[0] == expected
    assert "were trained on" in caplog.text
    assert regraft.evaluate(str(run), photos)[0] == expected


def test_evaluate_counts_what_predict_answers(classifier: regraft.Classifier, photos: Path) -> None:
    from dataclasses import replace

    strict = replace(classifier, calibration=replace(classifier.calibration, threshold=0.0))
    dataset = regraft.Dataset.open(photos)
    if classifier.calibration.novelty is None:
        pytest.fail("the run has too few val photos to reject any")
    found, _ = regraft.evaluate(strict, dataset)
    answers = regraft.predict(strict, dataset)
    given = ["refused" if a.novel else "right" if a.top[0][0] == a.label else "wrong" for a in answers]
    counts = {kind: given.count(kind) for kind in ("right", "wrong", "refused")}
    assert counts == {"right": found.right, "wrong": found.wrong, "refused": found.refused}
    assert counts["refused"] > 0
    assert counts["right"] > 0


@pytest.mark.parametrize("wrong", [None, 7, [], ["a.jpg"], b"photos", {"a": 1}, np.zeros((1, 8, 8, 3))])
def test_what_is_no_labelled_photos_is_refused(wrong: Any, classifier: regraft.Classifier, tmp_path: Path) -> None:
    functions: list[Callable[[], Any]] = [
        lambda: regraft.evaluate(classifier, wrong),
        lambda: regraft.train(wrong, tmp_path / "run"),
        lambda: regraft.check(wrong),
        lambda: regraft.sweep(wrong, tmp_path / "sweep"),
        lambda: regraft.shard(wrong, tmp_path / "shards"),
        lambda: regraft.embed(wrong, tmp_path / "features.parquet"),
        lambda: regraft.similar(wrong, "a.jpg"),
        lambda: regraft.Dataset.open(wrong),
    ]
    for function in functions:
        with pytest.raises(regraft.DataError, match=r"photos are .*; wanted a folder of class folders"):
            function()
    assert not list(tmp_path.glob("*r*un*"))


def test_an_empty_text_is_no_working_folder(tmp_path: Path) -> None:
    with pytest.raises(regraft.DataError, match="photos are an empty text"):
        regraft.train("", tmp_path / "run")
    with pytest.raises(regraft.ConfigError, match="out is an empty text"):
        regraft.train("photos", "")
    with pytest.raises(regraft.ConfigError, match="the run or export is an empty text"):
        regraft.load_predictor("")


CONFIGS: dict[str, tuple[Callable[[Any], Any], type[Any]]] = {
    "train": (lambda config: regraft.train("photos", "run", config), regraft.TrainConfig),
    "check": (lambda config: regraft.check("photos", config), regraft.FeatureConfig),
    "finetune": (lambda config: regraft.finetune("run", "out", config), regraft.FinetuneConfig),
    "export": (lambda config: regraft.export("run", "out", config), regraft.ExportConfig),
    "sweep": (lambda config: regraft.sweep("photos", "out", config), regraft.SweepConfig),
    "sweep, train": (lambda config: regraft.sweep("photos", "out", train=config), regraft.TrainConfig),
    "sweep, tune": (lambda config: regraft.sweep("photos", "out", tune=config), regraft.FinetuneConfig),
    "shard": (lambda config: regraft.shard("photos", "out", config), regraft.ShardConfig),
    "embed": (lambda config: regraft.embed("photos", "out.parquet", config), regraft.FeatureConfig),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_every_config_may_be_a_dict_or_a_file(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    call, cls = CONFIGS[name]
    for wrong in (7, ["effort"], cls):
        with pytest.raises(regraft.ConfigError, match=f"config is .*; wanted a {cls.__name__}, a dict"):
            call(wrong)
    with pytest.raises(regraft.ConfigError, match="unknown option 'efort'; there is"):
        call({"efort": 1})
    Path("wrong.toml").write_text("efort = 1\n")
    with pytest.raises(regraft.ConfigError, match="unknown option 'efort'; there is"):
        call("wrong.toml")
    with pytest.raises(regraft.ConfigError, match=r"there-is-none.toml is missing"):
        call(Path("there-is-none.toml"))
    right: Iterator[Any] = iter(({}, cls(), None))
    for config in right:  # what comes after it is missing: the photos, the run, or what its format needs
        with pytest.raises((regraft.DataError, regraft.RunError, regraft.ExportError, regraft.BackboneError)):
            call(config)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"val": "0.1"}, "val is '0.1'; wanted a number"),
        ({"steps": 1.5}, "steps is 1.5; wanted a whole number"),
        ({"steps": True}, "steps is True; wanted a whole number"),
        ({"steps": None}, "steps is None; wanted a whole number"),
        ({"effort": 3}, "effort is 3; wanted a text"),
        ({"backbone": Path("x")}, "backbone is .*; wanted a text"),
        ({"resolution": "large"}, "resolution 'large': wanted pixels, such as 288"),
        ({"resolution": 1.5}, "resolution is 1.5; wanted a whole number"),
        ({"salt": 7}, "salt is 7; wanted a text"),
    ],
)
def test_an_option_of_another_type_is_refused(values: dict[str, Any], message: str) -> None:
    for make in (regraft.TrainConfig, lambda **given: regraft.TrainConfig.from_dict(given)):
        with pytest.raises(regraft.ConfigError, match=message):
            make(**values)


def test_values_that_are_as_good_are_taken() -> None:
    assert regraft.TrainConfig(resolution="224").resolution == 224
    given: dict[str, Any] = {"resolution": np.int64(96), "val": np.float32(0.25), "test": 0}
    config = regraft.TrainConfig(**given)
    assert type(config.resolution) is int
    assert type(config.val) is float
    assert config.to_toml()
    labels: dict[str, Any] = {"labels": "labels.txt"}
    assert regraft.ShardConfig(**labels).labels == Path("labels.txt")
    number: dict[str, Any] = {"background": 1}
    with pytest.raises(regraft.ConfigError, match="background is 1; wanted true or false"):
        regraft.ShardConfig(**number)


@pytest.mark.parametrize("wrong", [None, 7, b"run", ["run"]])
def test_what_is_no_run_is_refused(wrong: Any) -> None:
    for function in (regraft.finetune, regraft.export, regraft.Classifier.load):
        with pytest.raises(regraft.ConfigError, match=r"the run is .*; wanted a path"):
            function(wrong)
    with pytest.raises(regraft.ConfigError, match=r"the run or export is .*; wanted a path"):
        regraft.load_predictor(wrong)


def test_a_classifier_stands_for_its_run(classifier: regraft.Classifier, tmp_path: Path) -> None:
    made = regraft.export(classifier, str(tmp_path / "made"), {"format": "openvino"})
    assert made.artifact.is_file()
    assert len(regraft.predict(made.folder, classifier.source)) == 60
    from dataclasses import replace

    with pytest.raises(regraft.RunError, match="has no run folder; save it"):
        regraft.export(replace(classifier, path=None))
    with pytest.raises(regraft.ConfigError, match="the run is a Classifier; wanted a path"):
        regraft.Classifier.load(classifier)  # type: ignore[arg-type]


def test_paths_may_be_texts(photos: Path, tmp_path: Path) -> None:
    assert regraft.shard(str(photos), str(tmp_path / "shards"), {"shards": 1})["photos"] == 60
    audit = regraft.check(regraft.Dataset.open(photos), {"effort": "quick"})
    assert audit.write_manifest(str(tmp_path / "clean.csv")) > 0
    with pytest.raises(regraft.ConfigError, match="path is None; wanted a path"):
        audit.write_manifest(None)  # type: ignore[arg-type]


def test_a_user_who_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(regraft.ConfigError, match="~nosuchuser/run: there is no such user"):
        regraft.train("photos", "~nosuchuser/run")
    with pytest.raises(regraft.DataError, match="there is no such user"):
        regraft.train("~nosuchuser/photos", tmp_path / "run")


@pytest.mark.parametrize("wrong", [None, 7, Path("x"), object()])
def test_what_is_no_backbone_is_refused(wrong: Any) -> None:
    with pytest.raises(regraft.BackboneError, match=r"the backbone is .*; wanted its name"):
        regraft.load_backbone(wrong)


def test_options_of_a_backbone_have_types() -> None:
    with pytest.raises(regraft.ConfigError, match="size is '224'; wanted a whole number"):
        regraft.load_backbone("efficientnet_lite0", "224")  # type: ignore[arg-type]
    with pytest.raises(regraft.ConfigError, match="unknown option 'wieghts'"):
        regraft.load_backbone("efficientnet_lite0", wieghts="none")


def test_measure_says_what_does_not_go_together() -> None:
    answers = Answers(np.full((2, 2), 0.5, np.float32), np.zeros(2, np.float32))
    paths = [Path("a"), Path("b")]
    assert regraft.measure(answers, [0, 1], ("x", "y"), paths).n == 2  # type: ignore[arg-type]
    wrong: list[tuple[tuple[Any, ...], str]] = [
        ((answers.probabilities, np.zeros(2, int), ("x", "y"), paths), "answers are a ndarray"),
        ((answers, np.zeros(3, int), ("x", "y"), paths), "do not go together"),
        ((answers, np.zeros(2, int), ("x", "y", "z"), paths), "do not go together"),
        ((answers, np.array([0.0, 1.0]), ("x", "y"), paths), "class indices are float64"),
        ((answers, np.array([0, 2]), ("x", "y"), paths), "wanted whole numbers from 0 to 1"),
        ((answers, None, ("x", "y"), paths), "do not go together"),
    ]
    for arguments, message in wrong:
        with pytest.raises(regraft.ConfigError, match=message):
            regraft.measure(*arguments)


def test_split_wants_a_data_set(photos: Path) -> None:
    with pytest.raises(regraft.ConfigError, match=r"the dataset is a str; wanted what regraft.Dataset.open gives"):
        regraft.split(str(photos))  # type: ignore[arg-type]


def test_plot_wants_predictions(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    wrong: Any
    for wrong, message in (
        (["a.jpg"], "there is a str among the predictions"),
        (7, "predictions are an int"),
        (None, "predictions are None"),
    ):
        with pytest.raises(regraft.ConfigError, match=message):
            regraft.plot_predictions(wrong, tmp_path / "grid.png")
    with pytest.raises(regraft.ConfigError, match="plot is None; wanted a path"):
        regraft.plot_predictions([], None)  # type: ignore[arg-type]
