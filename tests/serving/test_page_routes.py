"""What the page asks of a server, without a browser."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import SHAPES, draw_photo
from tests.serving.asking import ask
from tests.serving.servers import EXPORT as COLOURS
from tests.serving.servers import RUN, served_at

OURS = {"X-Regraft": "1"}

pytest.importorskip("starlette", reason="needs pip install 'regraft[serve]'")


@pytest.fixture(scope="module")
def url(warm_cache: Path) -> Iterator[str]:
    with served_at(warm_cache, RUN, "--name", f"colours={COLOURS}") as found:
        yield found


@pytest.fixture(scope="module")
def photo() -> bytes:
    with io.BytesIO() as file:
        draw_photo(SHAPES["circle"], 7).save(file, "JPEG")
        return file.getvalue()


def test_an_answer_where_the_training_photos_are_gone(url: str, photo: bytes) -> None:
    found = ask(f"{url}/page/try?map=1", photo, OURS).json
    while found["presence"] == "loading":
        found = ask(f"{url}/page/try?map=1", photo, OURS).json
    assert found["presence"] == "gone"
    assert found["why"]
    assert found["near"] == []
    assert found["answer"] == {**ask(f"{url}/predict", photo).json, "path": "photo"}
    assert len(found["map"]["labels"]) == len(found["map"]["values"]) == 2
    assert found["map"]["labels"][0] == found["answer"]["top"][0]["label"]


def test_an_export_has_neither_photos_nor_maps(url: str, photo: bytes) -> None:
    found = ask(f"{url}/page/try?model=colours&map=1", photo, OURS).json
    assert (found["presence"], found["near"], found["map"]) == ("export", [], None)


def test_an_unreadable_photo_is_an_ordinary_answer(url: str) -> None:
    for model in (RUN.name, "colours"):
        found = ask(f"{url}/page/try?model={model}", b"no photo", OURS)
        assert found.status == 200
        assert "not an image" in found.json["unreadable"]


@pytest.mark.parametrize(
    "path",
    [
        *("/static/../api.js", "/static/%2e%2e/server.py", "/static/x", "/static/", "/page/photos/" + "0" * 64),
        *("/page/photos/..%2f..%2fetc%2fpasswd", "/page/project", "/page/project/photos/" + "0" * 64),
    ],
)
def test_nothing_else_can_be_read(url: str, path: str) -> None:
    assert ask(url + path).status == 404


def test_what_changes_something_needs_the_header(url: str, photo: bytes) -> None:
    assert ask(f"{url}/page/try", photo).status == 403
    assert ask(f"{url}/page/try?version=x", photo, OURS).status == 404
    assert ask(f"{url}/page/try?model=x", photo, OURS).status == 404


def test_the_page_allows_no_script_of_others(url: str) -> None:
    page = ask(url + "/")
    assert "text/html" in page.headers["content-type"]
    policy = page.headers["content-security-policy"]
    assert "script-src 'self'" in policy
    assert "unsafe" not in policy
    text = page.body.decode()
    assert "style=" not in text
    assert "<script>" not in text
