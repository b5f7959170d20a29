"""The sentences of the page of a server."""

from __future__ import annotations

import json
import re
from itertools import combinations

from regraft.local_page.page_routes import STATIC, WORDS, words


def test_every_sentence_is_in_every_language() -> None:
    found = json.loads(words())
    assert list(found) == ["en", "ko"]
    assert found["en"].keys() == found["ko"].keys()
    for key, text in found["en"].items():
        assert set(re.findall(r"\{(\w+)\}", text)) == set(re.findall(r"\{(\w+)\}", found["ko"][key])), key
        assert found["ko"][key].strip()


def test_no_key_is_in_two_files() -> None:
    keys = [set(json.loads(place.read_text(encoding="utf-8"))["en"]) for place in WORDS]
    assert not [one & other for one, other in combinations(keys, 2) if one & other]


def test_every_sentence_that_a_script_says_is_there() -> None:
    found = json.loads(words())["en"]
    scripts = "".join(path.read_text(encoding="utf-8") for name, path in STATIC.items() if name.endswith(".js"))
    used = set(re.findall(r'\b(?:say|format)\("(\w+)"', scripts))
    assert len(used) > 50
    assert {key for key in used if not key.endswith("_")} <= found.keys()
    for one in re.findall(r'say\([^()]*\? "(\w+)" : "(\w+)"\)', scripts):
        assert set(one) <= found.keys()
