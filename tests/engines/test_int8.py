"""int8, calibrated by NNCF itself. Needs the extra int8."""

from __future__ import annotations

import json
import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest

from regraft.backbones.base import load_backbone
from regraft.config.features import FeatureConfig
from regraft.engines import int8
from regraft.engines.int8 import quantised_graph
from regraft.errors import BackboneError
from regraft.exploring.auditing import check
from tests.conftest import Command


@pytest.mark.skipif(find_spec("nncf") is None, reason="needs the extra int8")
def test_a_run_in_int8_says_what_it_costs_and_carries_its_graph(photos: Path, tmp_path: Path, regraft: Command) -> None:
    wanted = ("--precision", "int8", "--effort", "quick")
    done = regraft("train", photos, *wanted, "--out", "run", "--json")
    assert "accuracy in int8, and in" in done.stderr
    document = json.loads(done.stdout)
    n = document["counts"]
    right = sum(n[side] * document[side]["accuracy"] for side in ("val", "test"))
    beside = sum(n[side] * document["int8_beside"][side] for side in ("val", "test"))
    assert min(right, beside) > n["val"] + n["test"] - 2.5  # of ten photos or so either may miss one or two
    assert json.loads((tmp_path / "run" / "manifest.json").read_text())["made_by"]["precision"] == "int8"
    shutil.rmtree(tmp_path / "cache")  # the run needs neither the cache nor the photos it was calibrated on
    answers = json.loads(regraft("predict", "run", photos / "circle", "--json").stdout)
    assert sum(answer["top"][0]["label"] == "circle" for answer in answers) >= 18
    (tmp_path / "run" / "backbone-int8.xml").unlink()
    assert "is damaged" in regraft("predict", "run", photos / "circle", code=1).stderr


def test_without_nncf_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(int8, "find_spec", lambda name: None)
    with pytest.raises(BackboneError, match=r"pip install 'regraft\[int8\]'"):
        quantised_graph(load_backbone("efficientnet_lite0"), [])


def test_only_train_calibrates(photos: Path) -> None:
    with pytest.raises(BackboneError, match="calibration photos of `regraft train`"):
        check(photos, FeatureConfig(precision="int8"))
