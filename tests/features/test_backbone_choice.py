"""Which backbone is taken; timings are not tested, only what follows from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from regraft.backbones.base import Backbone, load_backbone
from regraft.config.features import FeatureConfig
from regraft.config.training import TrainConfig
from regraft.errors import BackboneError, ConfigError
from regraft.features import backbone_choice
from regraft.features.backbone_choice import choose_backbone, require_backbone
from regraft.features.features import Features
from regraft.features.probing import Probe, probe
from regraft.features.unit_roots import unit_roots
from regraft.foundation import console
from regraft.photos.dataset import Dataset, ImageRecord
from regraft.training.training import train


@pytest.fixture
def talk(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is said to the user."""
    said: list[str] = []
    monkeypatch.setattr(console, "note", said.append)
    monkeypatch.setattr(console, "warn", said.append)
    return said


AUTO = TrainConfig(backbone="auto", effort="quick", budget="1h")


def test_the_best_that_is_here_is_taken_and_the_run_names_it(
    photos: Path, cache: Path, tmp_path: Path, talk: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setattr(backbone_choice, "list_backbones", lambda: ["embedded:efficientnet_lite0", "keras:resnet50"])
    classifier = train(photos, tmp_path / "run", AUTO)
    assert classifier.config.backbone == classifier.backbone.name == "embedded:efficientnet_lite0"
    assert "the only one of those here" in " ".join(talk)
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
    [
        ("10m", "best", "the first of those"),
        ("30s", "middle", "best at 224 px"),
        ("1s", "quick", "no backbone is done"),
    ],
)
def test_the_budget_decides(
    budget: str, chosen: str, said: str, monkeypatch: pytest.MonkeyPatch, talk: list[str]
) -> None:
    fakes = [_Fake("quick", 70.0, 5.0), _Fake("best", 85.0, 100.0), _Fake("middle", 80.0, 20.0)]
    monkeypatch.setattr(backbone_choice, "_candidates", lambda config: sorted(fakes, key=lambda f: -f.top1))
    monkeypatch.setattr(
        backbone_choice, "_timed", lambda backbone, *_: backbone_choice._Tried(backbone, backbone.seconds)
    )
    assert choose_backbone(replace(AUTO, budget=budget), []).name == chosen
    assert said in " ".join(talk)


def test_the_photos_decide_and_not_the_accuracy_on_imagenet(
    photos: Path, cache: Path, talk: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    random = load_backbone("keras:mobilenet_0.25_128", weights="none")
    trained = load_backbone("efficientnet_lite0", 128)
    monkeypatch.setattr(backbone_choice, "_candidates", lambda config: [random, trained])
    assert choose_backbone(AUTO, Dataset.open(photos).records) is trained
    assert "tells the classes of these photos apart best" in " ".join(talk)
    assert sum("of 60 photos, each answered by all others" in line for line in talk) == 2


def test_the_photos_of_a_test_side_decide_nothing(cache: Path, monkeypatch: pytest.MonkeyPatch, photos: Path) -> None:
    records = [replace(r, split="test" if i % 2 else "train") for i, r in enumerate(Dataset.open(photos).records)]
    backbones = [load_backbone("efficientnet_lite0", size) for size in (96, 128)]
    monkeypatch.setattr(backbone_choice, "_candidates", lambda config: backbones)
    seen: list[str | None] = []
    real = backbone_choice._probed

    def probed(sample: Sequence[ImageRecord], backbone: Backbone, config: FeatureConfig) -> Probe:
        seen.extend(record.split for record in sample)
        return real(sample, backbone, config)

    monkeypatch.setattr(backbone_choice, "_probed", probed)
    choose_backbone(AUTO, records)
    assert seen
    assert set(seen) == {"train"}


def test_a_probe_is_what_leaving_each_photo_out_in_turn_gives() -> None:
    dice = np.random.default_rng(0)
    y = np.arange(30) % 3
    x = (dice.normal(size=(30, 8)) + np.eye(3, 8)[y]).astype(np.float32)
    features = Features(x, y, ("a", "b", "c"), ("",) * 30, "b", ((2, 6),))
    found = probe(features)
    roots = unit_roots(x[:, 2:]).astype(np.float64)
    roots -= roots.mean(axis=0)  # as in the fit of all photos
    slow = []
    for penalty in (0.01, 0.03, 0.1, 0.3, 1.0, 3.0):
        apart, right = [], []
        for i in range(30):
            others = np.arange(30) != i
            a, b = np.c_[roots[others], np.ones(29)], np.eye(3)[y[others]]
            gram = a.T @ a + np.diag([penalty] * 6 + [0.0])
            answer = np.r_[roots[i], 1.0] @ np.linalg.solve(gram, a.T @ b)
            apart.append(((np.eye(3)[y[i]] - answer) ** 2).sum())
            right.append(answer.argmax() == y[i])
        slow.append((np.mean(apart), np.mean(right)))
    assert found == pytest.approx(min(slow))


def test_what_cannot_be_is_told_before_the_photos_are_read(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for wrong in ("soon", "-5s", "0s"):
        with pytest.raises(ConfigError, match="type, for example, 60s, 10m or 2h"):
            FeatureConfig(budget=wrong)
    with pytest.raises(ConfigError, match="leave weights, stages and pixels out"):
        require_backbone(replace(AUTO, stages="last"))
    with pytest.raises(BackboneError, match="unknown backbone"):
        require_backbone(FeatureConfig(backbone="nonsense"))
    monkeypatch.setattr(backbone_choice, "list_backbones", list)
    with pytest.raises(BackboneError, match="no backbone's weights are on this machine"):
        choose_backbone(AUTO, Dataset.open(photos).records)
