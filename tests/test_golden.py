"""What an earlier version wrote goes on working: exports are read and answer the same, features are still found.

The network of these files is `tiny.keras`, two small convolutions; the photos are coloured noise.
"""

from __future__ import annotations

import json
import shutil
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from regraft import TrainConfig, load_predictor, train
from regraft.exporting.formats.base import registry

GOLDEN = Path(__file__).parent / "golden"


@pytest.mark.parametrize("name", ["graph-def", "keras", "litert", "onnx", "openvino", "saved-model"])
def test_old_exports_keep_answering(name: str, cache: Path) -> None:
    exporter = registry.load(name)
    if missing := [module for module in (*exporter.writes, *exporter.reads) if find_spec(module) is None]:
        pytest.skip(f"needs {', '.join(missing)}")
    expected = json.loads((GOLDEN / "exports.json").read_text(encoding="utf-8"))
    export = load_predictor(GOLDEN / "exports" / name)
    assert export.classes == ("blue", "green", "red")
    found = export.predict_proba([GOLDEN / "photos" / path for path in expected])
    np.testing.assert_allclose(found, list(expected.values()), atol=0.01)  # Keras on OpenVINO answers in bf16 here


def test_old_features_are_not_computed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(GOLDEN / "cache", tmp_path / "cache")
    monkeypatch.setenv("REGRAFT_CACHE", str(tmp_path / "cache"))
    config = TrainConfig(backbone=f"file:{GOLDEN / 'tiny.keras'}", pixels="-1..1", precision="fp32")
    trained = train(GOLDEN / "photos", tmp_path / "run", config)
    assert trained.metrics["features"] == {"computed": 0, "cached": 36}
