from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from regraft.foundation import files


def test_an_atomic_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "new" / "a.txt"
    with files.atomic_file(target) as temporary:
        temporary.write_text("whole")
        assert not target.exists()
    assert target.read_text() == "whole"
    with pytest.raises(UnicodeEncodeError), files.atomic_file(target) as temporary:
        temporary.write_text("half \ud800", encoding="utf-8")
    assert target.read_text() == "whole"
    assert [p.name for p in target.parent.iterdir()] == ["a.txt"]


def test_an_atomic_file_may_be_read_by_whoever_may_read_others_of_the_user(tmp_path: Path) -> None:
    (tmp_path / "plain.txt").write_text("text")
    with files.atomic_file(tmp_path / "graph.pb") as temporary:
        temporary.write_text("text")
    assert (tmp_path / "graph.pb").stat().st_mode == (tmp_path / "plain.txt").stat().st_mode


def test_an_atomic_folder_replaces_only_on_success(tmp_path: Path) -> None:
    target = tmp_path / "run"
    for text in ("old", "new"):
        with files.atomic_folder(target) as fresh:
            (fresh / "a").write_text(text)
    assert (target / "a").read_text() == "new"
    with pytest.raises(IsADirectoryError), files.atomic_folder(target) as fresh:
        fresh.write_text("a folder is no file")
    assert (target / "a").read_text() == "new"
    assert list(tmp_path.iterdir()) == [target]


def test_the_cache_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("REGRAFT_CACHE", str(tmp_path))
    assert files.cache_folder() == tmp_path
    monkeypatch.delenv("REGRAFT_CACHE")
    assert files.cache_folder().name == "regraft"


def test_digests_agree_however_they_are_taken(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert files.digest_file(tmp_path / "a") == files.digest_bytes(b"abc")
    assert files.digest_json({"b": 1, "a": (2,)}) == files.digest_json({"a": [2], "b": 1})


def test_json_keeps_korean_readable_and_odd_bytes_legal(tmp_path: Path) -> None:
    odd = b"\xff.jpg".decode("utf-8", "surrogateescape")
    files.write_json(tmp_path / "a.json", {"label": "강아지", "path": odd})
    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    assert "강아지" in text
    assert json.loads(text)["path"] == odd


def left_behind(folder: Path) -> tuple[Path, Path]:
    """A file and a shelter with the names that a killed `atomic_file` and `atomic_folder` leave, two days old."""
    file, shelter = folder / ".tmp-0123456789abcdef", folder / ".tmp-abcd_123"
    (shelter / "new" / "logs").mkdir(parents=True)
    (shelter / "new" / "logs" / "half").write_text("half")
    file.write_text("half")
    for path in (file, *shelter.rglob("*"), shelter):
        age(path)
    files.tidy.cache_clear()
    return file, shelter


def age(path: Path) -> None:
    old = time.time() - 2 * files.STALE_SECONDS
    os.utime(path, (old, old))


def write_both(folder: Path) -> None:
    with files.atomic_file(folder / "a.txt") as temporary:
        temporary.write_text("a")
    with files.atomic_folder(folder / "run"):
        pass


def test_what_killed_processes_left_is_tidied(tmp_path: Path) -> None:
    left_behind(tmp_path)
    write_both(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.txt", "run"]


def test_what_may_be_in_use_or_is_not_ours_is_left_alone(tmp_path: Path) -> None:
    file, shelter = left_behind(tmp_path)
    file.write_text("written to just now")
    (shelter / "new" / "logs" / "half").write_text("written to just now")
    others = [
        tmp_path / name for name in (".tmp-mine", ".tmp-0123456789abcdeF", "tmp-0123456789abcdef", ".tmp-abcd_124")
    ]
    for other in others[:-1]:
        other.write_text("somebody's")
        age(other)
    others[-1].mkdir()  # a folder of that form with something else in it
    (others[-1] / "letter.txt").write_text("somebody's")
    outside = tmp_path / "outside"
    outside.mkdir()
    (tmp_path / ".tmp-abcd_125").symlink_to(outside)
    for path in (others[-1] / "letter.txt", others[-1], outside):
        age(path)
    write_both(tmp_path)
    assert all(path.exists() for path in (file, shelter / "new" / "logs" / "half", *others, outside))
    assert (tmp_path / ".tmp-abcd_125").is_symlink()


def test_a_shelter_with_a_run_that_was_moved_aside_is_left_alone(tmp_path: Path) -> None:
    _, shelter = left_behind(tmp_path)
    (shelter / "old").mkdir()
    for path in (shelter / "old", shelter):
        age(path)
    write_both(tmp_path)
    assert (shelter / "old").is_dir()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such locks")
def test_the_shelter_of_a_process_that_sleeps_is_left_alone(tmp_path: Path) -> None:
    script = (
        "import sys, time; from pathlib import Path; from regraft.foundation.files import atomic_folder\n"
        "with atomic_folder(Path(sys.argv[1])): print('in', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", script, tmp_path / "run"], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    (shelter,) = tmp_path.glob(".tmp-*")
    for path in (shelter / "new", shelter):
        age(path)
    files.tidy.cache_clear()
    files.tidy(tmp_path)
    assert shelter.is_dir()
    process.kill()
    process.communicate()
    files.tidy.cache_clear()
    files.tidy(tmp_path)
    assert not shelter.exists()


def test_links_do_not_count_as_what_they_lead_to(tmp_path: Path) -> None:
    (tmp_path / "outside").write_bytes(bytes(1000))
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "file").write_bytes(bytes(10))
    (folder / "same file").hardlink_to(folder / "file")
    (folder / "link").symlink_to(tmp_path / "outside")
    (folder / "up").symlink_to(tmp_path)
    assert files.folder_size(folder) == 10
