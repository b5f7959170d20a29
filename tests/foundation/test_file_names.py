from __future__ import annotations

import ntpath
import os
import sys
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regraft.downloads.address import parse
from regraft.downloads.unpacking import unpack
from regraft.foundation import file_names
from regraft.foundation.file_names import is_name_on_windows, portable_name
from regraft.training.training import default_run

DEVICES = ["con", "NUL", "aux.photos", "com1", "LPT9.tar", "prn", "nul .txt", "CONIN$"]


def taken_by_windows(name: str) -> bool:
    """What Python's own rules for Windows say of a name, which know of control characters and devices too."""
    if sys.version_info >= (3, 13):
        return not ntpath.isreserved(name)
    return not any(c in '<>:"/\\|?*' or c < " " for c in name) and not name.endswith((".", " "))


@given(st.text(max_size=300))
def test_any_text_gives_a_name_that_windows_takes(text: str) -> None:
    name = portable_name(text, 50)
    assert len(name) <= 50
    assert name == "" or (is_name_on_windows(name) and taken_by_windows(name))
    assert portable_name(name, 50) == name


@pytest.mark.parametrize("name", DEVICES)
def test_a_device_is_no_name(name: str) -> None:
    assert not is_name_on_windows(name)
    assert is_name_on_windows(portable_name(name))
    if sys.version_info >= (3, 13):
        assert ntpath.isreserved(name)


@pytest.mark.parametrize("name", ["photos", "사진", "console", "com10", "a.b", ".hidden", "null"])
def test_an_ordinary_name_stays_as_it_is(name: str) -> None:
    assert is_name_on_windows(name)
    assert portable_name(name) == name


@pytest.mark.skipif(os.name == "nt", reason="such folders cannot be made on Windows")
@pytest.mark.parametrize("name", [*DEVICES, "pets.", 'a:b?c*"d"', "tab\there", "...", "demo-con", "demo-"])
def test_a_run_that_is_named_after_its_photos_has_a_name_on_every_system(name: str, tmp_path: Path) -> None:
    (tmp_path / name).mkdir()
    run = default_run(tmp_path / name)
    assert run.parent == Path("runs")
    assert is_name_on_windows(run.name)


@pytest.mark.parametrize("path", ["con", "aux.zip", "a:b.zip", "NUL.tar.gz", "%2e%2e", "photos.zip."])
def test_a_download_has_a_name_on_every_system(path: str) -> None:
    assert is_name_on_windows(parse(f"https://host.org/{path}").name)


def test_what_windows_would_write_elsewhere_is_left_out_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["good/1.jpg", "good/1.jpg:hidden", "nul/2.jpg", "dots./3.jpg"]
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name in names:
            archive.writestr(name, name)
    for windows, kept in ((False, names), (True, names[:1])):
        monkeypatch.setattr(file_names, "WINDOWS", windows)
        folder = tmp_path / str(windows)
        folder.mkdir()
        left_out = unpack(tmp_path / "a.zip", folder)
        assert sorted(left_out) == sorted(set(names) - set(kept))
        assert {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()} == set(kept)
