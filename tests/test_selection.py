"""Which backbone is taken; timings are not tested, only what follows from them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from regraft import _console, selection
from regraft.backbones import load_backbone
from regraft.config import FeatureConfig, TrainConfig
from regraft.dataset import Dataset
from regraft.errors import BackboneError, ConfigError
from regraft.selection import choose_backbone, require_backbone
from regraft.training import train


@pytest.fixture
def talk(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is said to the user."""
    said: list[str] = []
    monkeypatch.setattr(_console, "note", said.append)
    monkeypatch.setattr(_console, "warn", said.append)
    return said


AUTO = TrainConfig(backbone="auto", effort="quick", budget="1h")


def test_the_best_that_is_here_is_taken_and_the_run_names_it(
    photos: Path, cache: Path, tmp_path: Path, talk: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setattr(selection, "list_backbones", lambda: ["embedded:efficientnet_lite0", "keras:resnet50"])
    classifier = train(photos, tmp_path / "run", AUTO)
    assert classifier.config.backbone == classifier.backbone.name == "embedded:efficientnet_lite0"
    assert "the most accurate of those on this machine within 1h" in " ".join(talk)
    assert classifier.metrics["features"]["computed"] == 4  # the 56 it was tried on were kept


def test_a_download_of_keras_counts_as_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    (tmp_path / "models").mkdir()
    names = ("keras:resnet50", "keras:resnet50_v2", "keras:mobilenet")
    assert not any(load_backbone(name).at_hand for name in names)
    (tmp_path / "models" / "resnet50v2_weights_tf_dim_ordering_tf_kernels_notop.h5").touch()
    (tmp_path / "models" / "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224_no_top.h5").touch()
    assert [load_backbone(name).at_hand for name in names] == [False, True, False]
    assert load_backbone("keras:resnet50", weights="none").at_hand


@dataclass(frozen=True)
class _Fake:
    """Stands for a backbone in a choice between measured times."""

    name: str
    top1: float
    seconds: float
    at_hand: bool = True
    transform: object = load_backbone("efficientnet_lite0").transform


@pytest.mark.parametrize(
    ("budget", "chosen", "said"),
    [("10m", "best", "within 10m"), ("30s", "middle", "best at 224 px"), ("1s", "quick", "no backbone is done")],
)
def test_the_budget_decides(
    budget: str, chosen: str, said: str, monkeypatch: pytest.MonkeyPatch, talk: list[str]
) -> None:
    fakes = [_Fake("quick", 70.0, 5.0), _Fake("best", 85.0, 100.0), _Fake("middle", 80.0, 20.0)]
    monkeypatch.setattr(selection, "_candidates", lambda config: sorted(fakes, key=lambda f: -f.top1))
    monkeypatch.setattr(selection, "_tried", lambda backbone, *_: selection._Trial(backbone, backbone.seconds))
    assert choose_backbone(replace(AUTO, budget=budget), []).name == chosen
    assert said in " ".join(talk)


def test_what_cannot_be_is_told_before_the_photos_are_read(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for wrong in ("soon", "-5s", "0s"):
        with pytest.raises(ConfigError, match="type, for example, 60s, 10m or 2h"):
            FeatureConfig(budget=wrong)
    with pytest.raises(ConfigError, match="leave --weights, --stages and --pixels out"):
        require_backbone(replace(AUTO, stages="last"))
    with pytest.raises(BackboneError, match="unknown backbone"):
        require_backbone(FeatureConfig(backbone="nonsense"))
    monkeypatch.setattr(selection, "list_backbones", list)
    with pytest.raises(BackboneError, match="no backbone's weights are on this machine"):
        choose_backbone(AUTO, Dataset.open(photos).records)
