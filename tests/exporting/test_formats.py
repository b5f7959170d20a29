"""A format of another package: its files are known by their suffix, as those of the built-in formats are."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from regraft import load_predictor
from regraft.errors import ExportError
from regraft.exporting.facts import Facts
from regraft.exporting.formats.base import Artifact, file_suffixes, format_of_suffix
from tests.conftest import Command

GOLDEN = Path(__file__).parents[1] / "golden"


class Mine:
    """A double: an artifact is the facts alone, and answers with the first class."""

    artifact = "model.mine"
    folder_holds = ""
    writes: tuple[str, ...] = ()
    reads: tuple[str, ...] = ()
    extra = ""
    runtime = "my runtime"
    quantizations: tuple[str, ...] = ()
    example = ""

    def load(self, path: Path) -> Artifact:
        facts = Facts.from_json(path.read_text(encoding="utf-8"), path)

        def run(photos: np.ndarray) -> tuple[np.ndarray, None]:
            return np.eye(len(facts.classes), dtype=np.float32)[np.zeros(len(photos), int)], None

        return Artifact(facts, run)


@pytest.fixture
def plug_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    site = tmp_path / "site"
    facts = site / "mine-1.dist-info"
    facts.mkdir(parents=True)
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1\n")
    (facts / "entry_points.txt").write_text(f"[regraft.formats]\nmine = {__name__}:Mine\n")
    monkeypatch.syspath_prepend(Path(__file__).parents[2])  # for the process that asks the file first
    monkeypatch.syspath_prepend(site)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_file_of_a_plug_in_opens_as_a_built_in_one_does(plug_in: Path, cache: Path) -> None:
    report = json.loads((GOLDEN / "exports" / "openvino" / "export.json").read_text(encoding="utf-8"))
    facts = {**report["facts"], "threshold": None}
    (plug_in / "colours.mine").write_text(json.dumps(facts), encoding="utf-8")
    predictor = load_predictor(plug_in / "colours.mine")
    photo = next((GOLDEN / "photos" / "red").glob("*.jpg"))
    np.testing.assert_array_equal(predictor.predict_proba([photo]), [[1, 0, 0]])
    assert file_suffixes() == [".tflite", ".onnx", ".xml", ".keras", ".pb", ".mine"]


def test_what_has_the_suffix_of_no_format_is_no_export(plug_in: Path, cache: Path) -> None:
    assert format_of_suffix("") is None
    assert format_of_suffix(".h5") is None
    assert format_of_suffix(".ONNX") == "onnx"


def test_an_export_without_its_report_opens_by_what_is_in_it(cache: Path, tmp_path: Path, regraft: Command) -> None:
    bare = shutil.copytree(GOLDEN / "exports" / "openvino", tmp_path / "bare")
    (bare / "export.json").unlink()
    photo = next((GOLDEN / "photos" / "red").glob("*.jpg"))
    assert "red" in regraft("predict", bare / "model.xml", photo).stdout
    told = regraft("predict", bare, photo, code=1).stderr
    assert "is not a run folder" in told


def test_damage_in_a_plug_ins_file_is_one_line(plug_in: Path, cache: Path) -> None:
    (plug_in / "bad.mine").write_text("{")
    with pytest.raises(ExportError, match=r"bad\.mine"):
        load_predictor(plug_in / "bad.mine")
