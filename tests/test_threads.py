"""`--threads` limits how many threads compute, and changes no result."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from regraft.errors import ConfigError
from regraft.foundation.files import limited_threads, thread_limit, threads
from tests.conftest import Command


def test_the_limit_holds_within_and_in_children() -> None:
    assert thread_limit() is None
    cores = threads()
    with limited_threads(1):
        assert threads() == thread_limit() == 1
        assert os.environ["REGRAFT_THREADS"] == "1"
        with limited_threads(3):
            assert threads() == 3
        assert threads() == 1
    assert threads() == cores
    with limited_threads(None):
        assert thread_limit() is None


def test_fewer_than_one_are_refused() -> None:
    with pytest.raises(ConfigError, match="threads is 0; wanted at least 1"), limited_threads(0):
        pass


def test_what_the_environment_says_wrongly_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    cores = threads()
    for wrong in ("", "0", "-1", "many"):
        monkeypatch.setenv("REGRAFT_THREADS", wrong)
        assert threads() == cores


def test_the_engine_keeps_to_the_limit(cache: Path) -> None:
    import openvino

    from regraft.backbones.base import load_backbone
    from regraft.engines.openvino import OpenVinoEngine

    with limited_threads(1):
        engine = OpenVinoEngine(load_backbone("efficientnet_lite0"))
        assert engine.workers == 3
        compiled = engine._compile()
    assert compiled.get_property("INFERENCE_NUM_THREADS") == 1
    assert isinstance(compiled, openvino.CompiledModel)


def test_the_result_is_the_same(photos: Path, tmp_path: Path, regraft: Command, cache: Path) -> None:
    options = ("--effort", "quick", "--val", "0.3")  # enough of val to calibrate on
    regraft("train", photos, *options, "--out", "one", "--threads", "1")
    for part in (cache / "features").rglob("*.parquet"):
        part.unlink()
    regraft("train", photos, *options, "--out", "all")
    for name in ("head.safetensors", "calibration.safetensors", "split.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "all" / name).read_bytes()
    few = regraft("predict", "one", photos, "--json", "--threads", "1").stdout
    assert json.loads(few) == json.loads(regraft("predict", "one", photos, "--json").stdout)
