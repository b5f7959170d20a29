from __future__ import annotations

from pathlib import Path

import pytest

from regraft.errors import DataError
from regraft.label_tools import cvat
from regraft.label_tools.cvat import Cvat
from regraft.photos.sources.base import Listing

HEAD = """<?xml version="1.0" encoding="utf-8"?>
<annotations>
  <version>1.1</version>
  <meta><task><labels><label><name>fox</name><type>tag</type></label></labels></task></meta>
"""


def listing(folder: Path, images: str, head: str = HEAD) -> Listing:
    (folder / "annotations.xml").write_text(f"{head}{images}</annotations>", encoding="utf-8")
    return Cvat().list(f"cvat:{folder / 'annotations.xml'}")


def image(name: str, *tags: str, more: str = "") -> str:
    inside = "".join(f'<tag label="{tag}" source="manual"><attribute name="sure">yes</attribute></tag>' for tag in tags)
    return f'<image id="0" name="{name}" width="640" height="480"{more}>{inside}</image>\n'


def test_the_tag_is_the_label_and_others_are_named(tmp_path: Path) -> None:
    box = '<image id="3" name="d.jpg"><box label="deer" xtl="1" ytl="1" xbr="2" ybr="2"/></image>'
    found = listing(tmp_path, image("a.jpg", "fox") + image("b.jpg", "fox", "deer") + image("c.jpg") + box)
    assert [(entry.path.name, entry.label) for entry in found.entries] == [("a.jpg", "fox")]
    assert {problem.path.name for problem in found.problems} == {"b.jpg", "c.jpg", "d.jpg"}
    assert "deer, fox" in found.problems[0].reason


def test_photos_are_found_where_cvat_puts_them(tmp_path: Path) -> None:
    places = ["a.jpg", "images/b.jpg", "images/Train/c.jpg"]
    for place in places:
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).write_bytes(b"x")
    images = image("a.jpg", "fox") + image("b.jpg", "fox") + image("c.jpg", "deer", more=' subset="Train"')
    assert [entry.path for entry in listing(tmp_path, images).entries] == [tmp_path / place for place in places]


def test_subsets_that_are_sides_are_the_split(tmp_path: Path) -> None:
    images = image("a.jpg", "fox", more=' subset="Train"') + image("b.jpg", "fox", more=' subset="Validation"')
    assert [entry.split for entry in listing(tmp_path, images).entries] == ["train", "val"]
    images = image("a.jpg", "fox", more=' subset="Train"') + image("b.jpg", "fox", more=' subset="default"')
    assert [entry.split for entry in listing(tmp_path, images).entries] == [None, None]


def test_the_encoding_is_utf_8_whatever_the_file_says(tmp_path: Path) -> None:
    found = listing(tmp_path, image("사진.jpg", "여우"), HEAD.replace('encoding="utf-8"', 'encoding="rot13"'))
    assert [(entry.path.name, entry.label) for entry in found.entries] == [("사진.jpg", "여우")]


LAUGHS = """<?xml version="1.0"?>
<!DOCTYPE annotations [<!ENTITY a "haha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]>
<annotations>"""
OUTSIDE = '<?xml version="1.0"?><!DOCTYPE annotations [<!ENTITY a SYSTEM "file:///etc/passwd">]><annotations>'


@pytest.mark.parametrize("head", [LAUGHS, OUTSIDE])
def test_entities_are_refused_before_they_are_declared(tmp_path: Path, head: str) -> None:
    with pytest.raises(DataError, match="document type declaration"):
        listing(tmp_path, image("a.jpg", "fox") + "&b;", head)


@pytest.mark.parametrize(
    ("head", "images", "message"),
    [
        (HEAD, "<image", "no XML"),
        ("<svg>", "", "begins with <svg>"),
        (HEAD, '<track id="0" label="fox"/>', "CVAT for video"),
        (HEAD, "<a>" * 40, "nested more than 32 deep"),
        (HEAD, "", "no photo with one tag"),
    ],
)
def test_a_file_of_another_kind_is_refused_in_one_line(tmp_path: Path, head: str, images: str, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        listing(tmp_path, images, head)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_too_large_is_not_read_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cvat, "MAX_BYTES", 100)
    with pytest.raises(DataError, match="larger than"):
        listing(tmp_path, image("a.jpg", "fox"))
