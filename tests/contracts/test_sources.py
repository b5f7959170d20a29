"""What every registered source owes, plug-ins included."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from regraft.errors import DataError
from regraft.sources import SIDES, find_source, registry

SPECS = {"demo": "demo:elpv", "folder": None}


@pytest.fixture(params=registry.names())
def spec(request: pytest.FixtureRequest, photos: Path) -> str:
    """A spec of the source's kind; a new source adds its own to `SPECS`."""
    name = SPECS[request.param] or str(photos)
    assert registry.load(request.param)().accepts(name)
    if request.param == "demo":
        pytest.importorskip("elpv_dataset", reason="needs the extra demo")
    return name


def test_it_lists_files_that_exist_under_nfc_labels(spec: str) -> None:
    entries = find_source(spec).list(spec).entries
    assert entries
    for entry in entries:
        assert entry.path.is_file()
        assert entry.label == unicodedata.normalize("NFC", entry.label) != ""
        assert entry.split in (None, *SIDES)


def test_it_lists_the_same_twice_and_no_file_twice(spec: str) -> None:
    source = find_source(spec)
    one, two = source.list(spec), source.list(spec)
    assert one == two
    assert len({e.path for e in one.entries}) == len(one.entries)


@pytest.mark.parametrize("name", registry.names())
def test_it_leaves_other_specs_alone(name: str, tmp_path: Path) -> None:
    assert not registry.load(name)().accepts(str(tmp_path / "nowhere"))


def test_a_spec_that_none_takes_is_a_data_error(tmp_path: Path) -> None:
    with pytest.raises(DataError):
        find_source(str(tmp_path / "nowhere"))
