"""What `--json` prints keeps to the schemas that the reference shows."""

from __future__ import annotations

import json
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from regraft import TrainConfig, train
from regraft.classifiers.metrics import TrainingReport
from regraft.foundation.records import as_record
from regraft.reporting.documents import DOCUMENTS
from tests.conftest import SHAPES, Command, draw_folder

SCHEMAS = Path(__file__).parents[2] / "docs" / "reference" / "schemas"


def checked(name: str, document: Any) -> Any:
    schema = json.loads((SCHEMAS / f"{name}.json").read_text(encoding="utf-8"))
    Draft202012Validator.check_schema(schema)
    Draft202012Validator(schema).validate(document)
    return document


def said(regraft: Command, *command: Any, code: int = 0) -> Any:
    done = regraft(*command, "--json", code=code)
    return json.loads(done.stdout)


def test_each_command_prints_what_its_schema_says(tmp_path: Path, regraft: Command, cache: Path) -> None:
    photos = draw_folder(tmp_path / "photos", dict.fromkeys(SHAPES, 30))
    checked("train", said(regraft, "train", photos, "--effort", "quick", "--val", 0.2, "--out", "run"))
    strangers = draw_folder(tmp_path / "strangers", {"Square": 3})
    found = checked("evaluate", said(regraft, "evaluate", "run", photos, "--unknown", strangers))
    assert found["unknown"][0]["n"] == 3
    photo = next((photos / "circle").glob("*.jpg"))
    (tmp_path / "bad.jpg").write_text("text")
    answers = checked("predict", said(regraft, "predict", "run", photo, tmp_path / "bad.jpg", code=1))
    assert [set(answer) for answer in answers] == [{"path", "none_of_these", "novelty", "top"}, {"path", "error"}]
    checked("predict-out", said(regraft, "predict", "run", photo, "--out", "answers.csv"))
    checked("check", said(regraft, "check", photos))
    other = draw_folder(tmp_path / "other", dict.fromkeys(SHAPES, 10), seed=50_000)
    assert checked("check-against", said(regraft, "check", other, "--against", "run"))["new_photos"] == 30
    checked("shard", said(regraft, "shard", photos, "--out", "shards"))
    assert checked("embed", said(regraft, "embed", photos, "--run", "run"))["cached"] == 90
    likes = checked("similar", said(regraft, "similar", "run", photo, tmp_path / "bad.jpg", code=1))
    assert [set(answer) for answer in likes] == [{"path", "similar"}, {"path", "error"}]
    more = draw_folder(tmp_path / "more", {"circle": 3}, seed=70_000)
    chosen = checked("next", said(regraft, "next", "run", photos, more, tmp_path / "bad.jpg"))
    assert (chosen["known"], len(chosen["problems"])) == (90, 1)
    assert set(checked("next", said(regraft, "next", more))["photos"][0]) == set(chosen["photos"][0])
    made = checked("export", said(regraft, "export", "run", "--format", "openvino"))
    checked("info", said(regraft, "info"))
    checked("info-backbones", said(regraft, "info", "backbones"))
    assert checked("info-cache", said(regraft, "info", "cache"))["photos"] > 0
    assert checked("info-run", said(regraft, "info", "run"))["test"]["n"] > 0
    assert checked("info-export", said(regraft, "info", made["folder"]))["bytes"] == made["bytes"]
    values = ("--head", "logistic,prototype", "--resolution", "64", "--thaw", "0")
    checked("sweep", said(regraft, "sweep", photos, "--out", "sweep", *values))


@pytest.mark.skipif(find_spec("tensorflow") is None, reason="needs the extra tensorflow")
def test_finetune_prints_what_its_schema_says(photos: Path, regraft: Command, cache: Path) -> None:
    regraft("train", photos, "--effort", "quick", "--out", "run")
    found = said(regraft, "finetune", "run", "--out", "tuned", "--thaw", "1", "--epochs", "1")
    assert checked("finetune", found)["finetuned"]["blocks"] == 1


def test_what_a_schema_does_not_allow_is_told_by_key(photos: Path, tmp_path: Path, cache: Path) -> None:
    trained = train(photos, tmp_path / "run", TrainConfig(effort="quick"))
    document = json.loads(json.dumps({"run": "run", **trained.metrics}))
    report = as_record(TrainingReport, document)
    assert report.counts.total == sum(trained.metrics["counts"].values())
    document["val"]["n"] = "many"
    with pytest.raises(ValueError, match=r"Expected `int`, got `str` - at `\$.val.n`"):
        as_record(TrainingReport, document)


def test_every_command_with_a_document_has_a_schema() -> None:
    names = {re.sub("[ -]+", "-", name.lower()) for name in DOCUMENTS} - {"demo"}  # it prints what train prints
    assert {path.stem for path in SCHEMAS.glob("*.json")} == names
