from __future__ import annotations

from collections import Counter

import pytest

from regraft.errors import DataError
from regraft.photos.sources.demo import Demo


def test_every_cell_is_listed_with_its_label() -> None:
    pytest.importorskip("elpv_dataset", reason="needs the extra demo")
    entries = Demo().list("demo:elpv").entries
    assert len(entries) == 2624
    assert all(e.path.is_file() for e in entries)
    # Published counts: 1508 cells at probability 0 and 295 at 1/3; 106 at 2/3 and 715 at 1.
    assert Counter((e.label, round(e.probability, 2)) for e in entries) == {
        ("functional", 1.0): 1508,
        ("functional", 0.67): 295,
        ("defective", 0.67): 106,
        ("defective", 1.0): 715,
    }


def test_an_unknown_demo_names_the_one_there_is() -> None:
    with pytest.raises(DataError, match="demo:elpv"):
        Demo().list("demo:cats")


def test_without_the_package_the_pip_line_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("regraft.photos.sources.demo.find_spec", lambda name: None)
    with pytest.raises(DataError, match=r"pip install 'regraft\[demo\]'"):
        Demo().list("demo:elpv")
