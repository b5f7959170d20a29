"""Sweeps over drawn photos, read back by TensorBoard's own reader."""

from __future__ import annotations

import csv
import json
import shlex
from importlib.util import find_spec
from pathlib import Path

import pytest

from regraft import Classifier, RunError, SweepConfig, TrainConfig, sweep, train
from regraft.errors import ConfigError, DataError
from regraft.sweeping.combinations import powers_of_ten
from tests.conftest import Command, draw_folder
from tests.features.test_duplicates import scene

accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
QUICK = TrainConfig(effort="quick", val=0.3)
HEADS = SweepConfig(head="logistic,prototype,sgd", learning_rate="0.01,0.1")


def test_the_best_on_val_is_measured_on_test_and_no_other(photos: Path, tmp_path: Path, cache: Path) -> None:
    found = sweep(photos, tmp_path / "s", HEADS, QUICK)
    assert len(found.trials) == 4  # a rate does not matter to the first two heads
    assert [trial.score for trial in found.trials] == sorted((t.score for t in found.trials), reverse=True)
    for trial in found.trials:
        metrics = Classifier.load(tmp_path / "s" / trial.name).metrics
        assert (metrics["val"]["accuracy"], metrics["test"]["n"]) == (trial.accuracy, 0)
    assert found.best.metrics["test"]["n"] == found.best.metrics["counts"]["test"] > 0
    assert found.best.metrics["val"]["log_loss"] == found.trials[0].log_loss
    assert "test photos" in (tmp_path / "s" / "best" / "MODEL_CARD.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_command_makes_the_best_again(photos: Path, tmp_path: Path, regraft: Command) -> None:
    wanted = ("--head", "knn,sgd", "--learning-rate", "0.03", "--resolution", "96,96+128")
    document = json.loads(regraft("sweep", photos, *wanted, "--out", "s", "--json").stdout)
    verb, *rest = shlex.split(document["command"])[1:]
    again = json.loads(regraft(verb, *rest, "--json").stdout)
    assert again["val"] == document["best"]["val"]
    assert again["test"] == document["best"]["test"]
    table = list(csv.DictReader((tmp_path / "s" / "sweep.csv").read_text(encoding="utf-8").splitlines()))
    assert [row["name"] for row in table] == [trial["name"] for trial in document["trials"]]
    assert {row["resolution"] for row in table} == {"96", "96+128"}


def test_nothing_is_done_twice_and_new_values_are_added(photos: Path, tmp_path: Path, cache: Path) -> None:
    first = sweep(photos, tmp_path / "s", HEADS, QUICK)
    stamps = {t.name: (tmp_path / "s" / t.name / "manifest.json").stat().st_mtime_ns for t in first.trials}
    (tmp_path / "s" / first.trials[-1].name / "trial.json").unlink()  # as if killed there
    more = SweepConfig(head="logistic,prototype,sgd,knn", learning_rate="0.01,0.1")
    second = sweep(photos, tmp_path / "s", more, QUICK)
    assert len(second.trials) == 5
    redone = [
        name for name, old in stamps.items() if (tmp_path / "s" / name / "manifest.json").stat().st_mtime_ns != old
    ]
    assert redone == [first.trials[-1].name]
    other = sweep(draw_folder(tmp_path / "other", {"circle": 20, "줄무늬": 20}, seed=1), tmp_path / "s", HEADS, QUICK)
    assert other.best.classes == ("circle", "줄무늬")


def test_tensorboard_tells_the_trials_apart(photos: Path, tmp_path: Path, cache: Path) -> None:
    found = sweep(photos, tmp_path / "s", HEADS, QUICK)
    for trial in found.trials:
        events = accumulators.EventAccumulator(str(tmp_path / "s" / trial.name)).Reload()
        assert events.Scalars("val_accuracy")[0].value == pytest.approx(trial.accuracy)
        assert "_hparams_/session_start_info" in events.summary_metadata
        curves = accumulators.EventAccumulator(str(tmp_path / "s" / trial.name / "logs" / "train")).Reload()
        assert "_hparams_/session_start_info" not in curves.summary_metadata


def test_a_range_of_rates_is_searched_from_coarse_to_fine(photos: Path, tmp_path: Path, cache: Path) -> None:
    found = sweep(photos, tmp_path / "s", SweepConfig(head="sgd", learning_rate="1e-4..1e-1"), QUICK)
    rates = sorted(float(trial.options["learning_rate"]) for trial in found.trials)
    assert {1e-4, 1e-3, 1e-2, 1e-1} < set(rates)
    assert len(rates) in (6, 8)  # at an end of the range half of the finer ones lie outside
    assert powers_of_ten(1e-5, 0.5) == ("1e-05", "0.0001", "0.001", "0.01", "0.1")


@pytest.mark.skipif(find_spec("optuna") is None, reason="needs the extra sweep")
def test_optuna_draws_as_many_as_asked_for(photos: Path, tmp_path: Path, cache: Path) -> None:
    wanted = SweepConfig(head="sgd,knn,prototype", learning_rate="1e-4..1", trials=6)
    found = sweep(photos, tmp_path / "s", wanted, QUICK)
    assert 3 <= len(found.trials) <= 6
    again = sweep(photos, tmp_path / "s", wanted, QUICK)
    assert [t.name for t in again.trials] == [t.name for t in found.trials]
    assert [t.seconds for t in again.trials] == [t.seconds for t in found.trials]  # read, not made


@pytest.mark.skipif(find_spec("tensorflow") is None, reason="needs the extra tensorflow")
@pytest.mark.slow
def test_blocks_are_thawed_from_the_logistic_head(photos: Path, tmp_path: Path, regraft: Command) -> None:
    (tmp_path / "shared.toml").write_text(
        '[train]\neffort = "quick"\nval = 0.3\n[finetune]\nepochs = 1\nbatch_size = 8\n', encoding="utf-8"
    )
    wanted = ("--thaw", "1,2,99", "--learning-rate", "1e-3", "--config", "shared.toml", "--out", "s", "--json")
    done = regraft("sweep", photos, *wanted)
    document = json.loads(done.stdout)
    assert [(t["options"]["thaw"], bool(t["error"])) for t in document["trials"]][-1] == ("99", True)
    assert sorted(t["options"]["thaw"] for t in document["trials"]) == ["0", "1", "2", "99"]
    assert "blocks to thaw, not 99" in done.stderr
    best = json.loads(regraft("evaluate", "s/best", photos, "--json").stdout)
    assert best["n"] == 60


def test_what_cannot_be_is_told_at_once(photos: Path, tmp_path: Path, cache: Path) -> None:
    for wrong in ({"learning_rate": "fast"}, {"resolution": "1.5"}, {"trials": 0}, {"learning_rate": "0.1..0.01"}):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            SweepConfig(**wrong)
    with pytest.raises(ConfigError, match="did you mean 'knn'"):
        sweep(photos, tmp_path / "s", SweepConfig(head="knnn"), QUICK)
    with pytest.raises(DataError, match="no val photo to choose on"):
        sweep(photos, tmp_path / "s", SweepConfig(), TrainConfig(effort="quick", val=0.0))
    run = train(photos, tmp_path / "run", QUICK)
    with pytest.raises(RunError, match="is not a folder of trials"):
        sweep(photos, run.path or "", SweepConfig())
    (tmp_path / "mine" / "best").mkdir(parents=True)
    (tmp_path / "mine" / "best" / "thesis.txt").write_text("precious")
    with pytest.raises(RunError, match="best is there already and is not a trial, so it is not overwritten"):
        sweep(photos, tmp_path / "mine", SweepConfig())


def test_a_table_that_is_not_known_is_told(photos: Path, tmp_path: Path, regraft: Command) -> None:
    (tmp_path / "shared.toml").write_text("[tain]\n", encoding="utf-8")
    assert "there is train, finetune" in regraft("sweep", photos, "--config", "shared.toml", code=1).stderr


def test_trials_on_another_split_are_done_again(tmp_path: Path, cache: Path) -> None:
    rows = [(f"{number}.jpg", "ab"[number % 2]) for number in range(60)]
    for number in range(60):
        scene(number).save(tmp_path / f"{number}.jpg")

    def table(groups: int) -> Path:
        lines = [f"{path},{label},{number % groups}" for number, (path, label) in enumerate(rows)]
        (tmp_path / "p.csv").write_text("\n".join(["path,label,group", *lines]), encoding="utf-8")
        return tmp_path / "p.csv"

    first = sweep(table(30), tmp_path / "s", SweepConfig(head="prototype"), QUICK)
    manifest = tmp_path / "s" / first.trials[0].name / "manifest.json"
    stamp = manifest.stat().st_mtime_ns
    sweep(table(30), tmp_path / "s", SweepConfig(head="prototype"), QUICK)
    assert manifest.stat().st_mtime_ns == stamp
    other = sweep(table(6), tmp_path / "s", SweepConfig(head="prototype"), QUICK)
    assert manifest.stat().st_mtime_ns != stamp
    assert sum(other.best.metrics["groups"].values()) == 6
    assert other.best.metrics["test"]["n"] == other.best.metrics["counts"]["test"]
