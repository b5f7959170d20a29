"""What every registered format owes, plug-ins included. One whose runtime is not installed is skipped, by name."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from regraft import Classifier, ExportConfig, TrainConfig, export, load_predictor, train
from regraft.classifiers.evaluation import evaluate
from regraft.errors import ConfigError, ExportError, RunError
from regraft.exporting.companions import Export
from regraft.exporting.formats.base import Artifact, registry
from regraft.photos.dataset import Dataset
from regraft.photos.images import Problem
from tests.conftest import SHAPES, draw_folder


@pytest.fixture(scope="module")
def run(warm_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A run of three classes, one with a Korean name; all photos have the features in the cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REGRAFT_CACHE", str(warm_cache))
        folder = tmp_path_factory.mktemp("exports")
        photos = draw_folder(folder / "photos", dict.fromkeys(SHAPES, 30))
        train(photos, folder / "run", TrainConfig(effort="quick", val=0.2))
        yield folder / "run"


@pytest.fixture(scope="module", params=registry.names())
def made(request: pytest.FixtureRequest, run: Path) -> Export:
    """One export in each format."""
    exporter = registry.load(request.param)
    missing = [module for module in (*exporter.writes, *exporter.reads) if find_spec(module) is None]
    if missing:
        pytest.skip(f"needs {', '.join(missing)}")
    return export(run, config=ExportConfig(format=request.param))


def test_it_answers_as_the_run_does(made: Export, run: Path) -> None:
    found = made.comparison
    assert found.agreement == 1.0
    assert found.difference <= 1e-3
    assert found.accuracy == found.run_accuracy
    assert found.ms > 0
    assert made.bytes > 10e6
    loaded, classifier = load_predictor(made.folder), Classifier.load(run)
    assert found.n == classifier.metrics["counts"]["val"] > 10
    assert isinstance(loaded, Artifact)
    assert loaded.classes == classifier.classes == ("Square", "circle", "줄무늬")
    assert (loaded.temperature, loaded.threshold) == (classifier.temperature, classifier.threshold)
    records = Dataset.open(classifier.source).records[::9]
    answers, expected = loaded.answers(records), classifier.answers(records)
    np.testing.assert_allclose(answers.probabilities, expected.probabilities, atol=0.05)  # the run's is bf16 here
    assert np.isfinite(answers.novelty).all()
    evaluation, problems = evaluate(loaded, Dataset(records, classifier.classes))
    assert (evaluation.accuracy, problems) == (1.0, ())


def test_a_bad_photo_stops_nothing(made: Export, tmp_path: Path) -> None:
    bad = tmp_path / "bad.jpg"
    bad.write_text("text")
    told: list[Problem] = []
    found = load_predictor(made.artifact).predict_proba([bad], on_problem=told.append)
    assert np.isnan(found).all()
    assert [problem.path for problem in told] == [bad]


def test_the_example_beside_it_runs_without_regraft(made: Export, run: Path) -> None:
    photo = Path(Classifier.load(run).source) / "줄무늬" / "000.jpg"
    script = "import sys; sys.modules['regraft'] = None; import runpy; runpy.run_path(sys.argv[1], run_name='__main__')"
    program = f"{script.replace('sys.argv[1]', repr(str(made.folder / 'example.py')))}"
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("TF_", "KERAS_"))}
    command = [sys.executable, "-c", program, str(photo)]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False, env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    path, label, probability = done.stdout.strip().split("\t")
    assert (path, label) == (str(photo), "줄무늬")
    assert float(probability) > 0.5


def test_what_lies_beside_it_tells_what_was_found(made: Export) -> None:
    assert (made.folder / "labels.txt").read_text(encoding="utf-8") == "Square\ncircle\n줄무늬\n"
    card = (made.folder / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert "gives the run's answer to\n100.0%" in card
    assert "224 × 224" in (made.folder / "PREPROCESSING.md").read_text(encoding="utf-8")
    report = json.loads((made.folder / "export.json").read_text(encoding="utf-8"))
    assert report["comparison"]["agreement"] == 1.0
    assert report["facts"]["classes"] == ["Square", "circle", "줄무늬"]


def test_a_damaged_one_is_refused_in_one_line(made: Export, tmp_path: Path) -> None:
    if made.artifact.is_dir():
        broken = tmp_path / made.artifact.name
        broken.mkdir()
        source, target = made.artifact / "saved_model.pb", broken / "saved_model.pb"
    else:
        source = made.artifact
        target = broken = tmp_path / made.artifact.name
    target.write_bytes(source.read_bytes()[: source.stat().st_size // 2])
    with pytest.raises(ExportError) as caught:
        load_predictor(broken)
    assert str(broken) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_export_in_the_way_is_kept(made: Export, run: Path) -> None:
    before = (made.folder / "export.json").read_bytes()
    with pytest.raises(RunError, match="type overwrite=True"):
        export(run, config=ExportConfig(format=made.format))
    assert (made.folder / "export.json").read_bytes() == before


def test_a_quantization_it_has_not_is_refused(made: Export, run: Path) -> None:
    with pytest.raises(ConfigError, match="no quantization 'int3'"):
        export(run, config=ExportConfig(format=made.format, quantize="int3"))
