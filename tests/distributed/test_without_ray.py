"""What a user sees who has not installed the extra, or has typed half of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from regraft.cli.verbs import main
from regraft.distributed import cluster


@pytest.mark.parametrize(
    "command", [["train"], ["check"], ["evaluate", "run"], ["predict", "run"], ["sweep"], ["embed"]]
)
def test_the_extra_is_named(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cluster, "find_spec", lambda name: None)
    assert main([*command, str(tmp_path), "--ray", "local"]) == 1
    assert capsys.readouterr().err == "regraft: --ray needs Ray; type pip install 'regraft[ray]'\n"


def test_a_storage_is_that_of_a_cluster(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", str(tmp_path), "--storage", str(tmp_path)]) == 2
    assert "type --ray as well" in capsys.readouterr().err
