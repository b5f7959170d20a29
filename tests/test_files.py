from __future__ import annotations

import json
from pathlib import Path

import pytest

from regraft import _files


def test_an_atomic_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "new" / "a.txt"
    with _files.atomic_file(target) as temporary:
        temporary.write_text("whole")
        assert not target.exists()
    assert target.read_text() == "whole"
    with pytest.raises(UnicodeEncodeError), _files.atomic_file(target) as temporary:
        temporary.write_text("half \ud800", encoding="utf-8")
    assert target.read_text() == "whole"
    assert [p.name for p in target.parent.iterdir()] == ["a.txt"]


def test_an_atomic_file_may_be_read_by_whoever_may_read_others_of_the_user(tmp_path: Path) -> None:
    (tmp_path / "plain.txt").write_text("text")
    with _files.atomic_file(tmp_path / "graph.pb") as temporary:
        temporary.write_text("text")
    assert (tmp_path / "graph.pb").stat().st_mode == (tmp_path / "plain.txt").stat().st_mode


def test_an_atomic_folder_replaces_only_on_success(tmp_path: Path) -> None:
    target = tmp_path / "run"
    for text in ("old", "new"):
        with _files.atomic_folder(target) as fresh:
            (fresh / "a").write_text(text)
    assert (target / "a").read_text() == "new"
    with pytest.raises(IsADirectoryError), _files.atomic_folder(target) as fresh:
        fresh.write_text("a folder is no file")
    assert (target / "a").read_text() == "new"
    assert list(tmp_path.iterdir()) == [target]


def test_the_cache_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("REGRAFT_CACHE", str(tmp_path))
    assert _files.cache_folder() == tmp_path
    monkeypatch.delenv("REGRAFT_CACHE")
    assert _files.cache_folder().name == "regraft"


def test_digests_agree_however_they_are_taken(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert _files.digest_file(tmp_path / "a") == _files.digest_bytes(b"abc")
    assert _files.digest_json({"b": 1, "a": (2,)}) == _files.digest_json({"a": [2], "b": 1})


def test_json_keeps_korean_readable_and_odd_bytes_legal(tmp_path: Path) -> None:
    odd = b"\xff.jpg".decode("utf-8", "surrogateescape")
    _files.write_json(tmp_path / "a.json", {"label": "강아지", "path": odd})
    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    assert "강아지" in text
    assert json.loads(text)["path"] == odd
