from __future__ import annotations

import tomllib
from dataclasses import asdict, fields
from pathlib import Path

import pytest

from regraft.cli.arguments import field_docs
from regraft.config.training import TrainConfig
from regraft.config.values import read_toml
from regraft.errors import ConfigError


def test_toml_and_back(tmp_path: Path) -> None:
    config = TrainConfig(effort="quick", salt='가 "quoted"', val=0.2)
    (tmp_path / "run.toml").write_text(config.to_toml(), encoding="utf-8")
    assert TrainConfig.from_dict(read_toml(tmp_path / "run.toml")) == config
    assert tomllib.loads(config.to_toml()) == {k: v for k, v in asdict(config).items() if v is not None}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"efort": "quick"}, "unknown option 'efort'; there is backbone"),
        ({"effort": "lazy"}, "there is quick, balanced, thorough"),
        ({"val": 0.6, "test": 0.4}, "leave something to train on"),
        ({"class_weight": "rare"}, "there is none, balanced, logit-adjusted"),
        ({"steps": 10}, "steps 10 works with the head 'sgd', not 'logistic'"),
        ({"head": "sgd", "learning_rate": 0.0}, "wanted more than 0"),
        ({"head": "sgd", "learning_rate": float("nan")}, "wanted more than 0"),
        ({"head": "sgd", "learning_rate": float("inf")}, "wanted more than 0"),
        ({"val": float("nan")}, "leave something to train on"),
    ],
)
def test_what_cannot_be_is_refused_with_the_mend(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TrainConfig.from_dict(values)


def test_a_file_that_is_no_toml_says_where(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text("effort = ")
    with pytest.raises(ConfigError, match=r"a\.toml is not TOML"):
        read_toml(tmp_path / "a.toml")
    with pytest.raises(ConfigError, match=r"none\.toml is missing"):
        read_toml(tmp_path / "none.toml")


def test_the_effort_sets_a_size_on_the_backbones_grid() -> None:
    sizes = {e: TrainConfig(effort=e).photo_sizes(224, fixed=False)[0] for e in ("quick", "balanced", "thorough")}
    assert sizes == {"quick": (224,), "balanced": (288,), "thorough": (288, 416)}


def test_every_option_has_its_line_of_help() -> None:
    docs = field_docs(TrainConfig)
    assert set(docs) == {f.name for f in fields(TrainConfig)}
    assert all(docs.values())
