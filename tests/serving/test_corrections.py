"""Corrections through the server: what was answered is kept, whatever happens, and a training uses it."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from regraft.foundation.files import digest_bytes
from regraft.label_tools.correction_table import read_corrections
from tests.conftest import SHAPES
from tests.serving.labelling import WRONG, Server, copy_of, prepare

pytest.importorskip("starlette", reason="needs pip install 'regraft[serve]'")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, warm_cache: Path) -> Path:
    return prepare(tmp_path_factory.mktemp("labelling"), warm_cache)


@pytest.fixture
def server(folder: Path, tmp_path: Path) -> Iterator[Server]:
    if (tmp_path / "cache").exists():
        (tmp_path / "cache").rmdir()
    with Server(copy_of(folder, tmp_path)) as started:
        yield started


def photo(path: Path) -> dict[str, str]:
    """What names a labelled photo in a request."""
    return {"digest": digest_bytes(path.read_bytes()), "was": path.parent.name}


def every(folder: Path) -> list[Path]:
    return sorted((folder / "photos").rglob("*.jpg"))


def test_confirmed_corrections_survive_kills(folder: Path, server: Server) -> None:
    confirmed = []
    for number, path in enumerate(every(folder)[:6]):
        status, found = server.ask("/page/corrections", {"action": "label", "label": f"class {number}", **photo(path)})
        assert status == 201
        confirmed.append(found["id"])
        if number % 2:
            server.kill()
            server.start()
    told = server.ask("/page/corrections")[1]
    assert [row["id"] for row in told["rows"]] == confirmed
    assert told["pending"] == 6
    assert [row.id for row in read_corrections(server.folder / "runs" / "corrections.csv").rows] == confirmed


def test_two_clients_at_once_lose_nothing(folder: Path, server: Server) -> None:
    paths = every(folder)

    def client(name: str) -> list[str]:
        found = []
        for i in range(200):
            body = {"action": "label", "label": f"{name} {i}", **photo(paths[i % len(paths)])}
            status, row = server.ask("/page/corrections", body)
            assert status == 201
            found.append(row["id"])
        return found

    with ThreadPoolExecutor(2) as pool:
        both = list(pool.map(client, ("one", "two")))
    rows = read_corrections(server.folder / "runs" / "corrections.csv").rows
    assert len(rows) == 400
    assert {row.id for row in rows} == {*both[0], *both[1]}
    for mine in both:  # each client's rows stand in the order in which it sent them
        assert [row.id for row in rows if row.id in set(mine)] == mine


def test_an_undo_brings_back_what_held_before(folder: Path, server: Server) -> None:
    one = photo(every(folder)[0])
    ids = [server.ask("/page/corrections", {"action": "label", "label": text, **one})[1]["id"] for text in "ab"]
    server.ask("/page/corrections", {"action": "undo", "id": ids[1]})
    found = read_corrections(server.folder / "runs" / "corrections.csv").in_force
    assert found[one["digest"], one["was"]].label == "a"
    news = server.ask("/page/corrections?since=2")[1]
    assert [(row["action"], row["label"]) for row in news["rows"]] == [("undo", ids[1])]
    assert server.ask("/page/corrections?since=99")[1]["start"] == 0, "a table that became shorter is sent whole"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"action": "exclude", "digest": "0" * 64, "was": "circle"}, 404),
        ({"action": "exclude", "digest": "../../etc/passwd", "was": "circle"}, 404),
        ({"action": "label", "digest": "0" * 64, "was": "", "label": "circle"}, 404),
        ({"action": "undo", "id": "0" * 32}, 404),
        ({"action": "explode"}, 422),
        ({"action": "label", "label": "a\nb"}, 422),
        ({"action": "label", "label": ""}, 422),
        ({"action": "label", "label": "x" * 30_000}, 413),
        ({"action": 7}, 400),
        ([1], 400),
        (b"\xff{", 400),
        (b"[" * 10_000, 400),
    ],
)
def test_what_is_no_correction_is_refused(folder: Path, asked: Server, body: Any, status: int) -> None:
    if isinstance(body, dict) and "digest" not in body and body.get("action") != "undo":
        body = {**photo(every(folder)[0]), **body}
    found = asked.ask("/page/corrections", body)
    assert found[0] == status, found
    assert set(found[1]) == {"error"}
    assert not (asked.folder / "runs" / "corrections.csv").exists()


@pytest.fixture(scope="module")
def asked(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(copy_of(folder, tmp_path_factory.mktemp("asked"))) as started:
        yield started


def test_a_form_of_another_page_can_correct_nothing(folder: Path, asked: Server) -> None:
    body = {"action": "exclude", **photo(every(folder)[0])}
    assert asked.ask("/page/corrections", body, {"Content-Type": "text/plain"})[0] == 403
    strange = {"X-Regraft": "1", "Origin": "http://evil.example", "Sec-Fetch-Site": "cross-site"}
    assert asked.ask("/page/corrections", body, strange)[0] == 403


def test_pictures_are_sent_of_offered_photos_alone(folder: Path, asked: Server) -> None:
    digest = digest_bytes((folder / "unlabelled" / "circle-000.jpg").read_bytes())
    found = asked.wait("/page/next")
    assert {one["digest"] for one in found["photos"]} >= {digest}
    assert asked.ask(f"/page/views/{digest}")[1][:4] == b"RIFF"
    assert asked.ask(f"/page/views/{photo(every(folder)[0])['digest']}")[0] == 404
    assert asked.ask("/page/views/..%2F..%2Fetc%2Fpasswd")[0] == 404
    assert all("/" not in one["path"] and one["suggested"] in SHAPES for one in found["photos"])


def test_a_training_takes_corrections_and_new_labels(folder: Path, server: Server) -> None:
    for name in WRONG:
        path = folder / "photos" / "Square" / f"round {name}"
        assert server.ask("/page/corrections", {"action": "label", "label": "circle", **photo(path)})[0] == 201
    offered = server.wait("/page/next")["photos"]
    for one in offered:
        label = one["path"].partition("-")[0]
        body = {"action": "label", "label": label, "digest": one["digest"], "was": ""}
        assert server.ask("/page/corrections", body)[0] == 201
    assert server.ask("/page/corrections")[1]["pending"] == 4 + len(offered)
    assert server.ask("/page/retrain", {})[0] == 202
    status, refused = server.ask("/page/retrain", {})
    assert (status, "already" in refused["error"]) == (409, True), "two people press the button at once"
    later = {"action": "exclude", **photo(every(folder)[0])}
    assert server.ask("/page/corrections", later)[0] == 201, "corrections go on during a training"
    done = server.retrained()
    assert done["state"] == "done", done
    result = done["result"]
    assert result["versions"] == [1, 2]
    assert result["grown"]["relabelled"] >= 4
    assert result["grown"]["added"] == len(offered)
    assert result["before"]["n"] == result["difference"]["n"]
    assert len(result["gained"]) == result["difference"]["gained"]
    assert len(result["lost"]) == result["difference"]["lost"]
    assert (server.folder / "runs" / "shapes-2" / "manifest.json").exists()
    assert server.ask("/page/about")[1]["models"][0]["versions"] == [1, 2]
    assert server.ask("/page/corrections")[1]["pending"] <= 1, "the later correction waits for the next training"
    report = server.wait("/page/report?version=2")
    assert report["photos"]["was"].count("") == len(offered)
    moved = [i for i, path in enumerate(report["photos"]["path"]) if "round" in path]
    assert {report["classes"][report["photos"]["label"][i]] for i in moved} == {"circle"}
    server.kill()
    server.start()
    assert "runs/shapes-2 was trained from runs/shapes" in (server.folder / "server.log").read_text(encoding="utf-8")


def test_a_training_that_fails_says_why(folder: Path, server: Server) -> None:
    for path in every(folder):
        if path.parent.name != "circle":
            server.ask("/page/corrections", {"action": "exclude", **photo(path)})
    assert server.ask("/page/retrain", {})[0] == 202
    done = server.retrained()
    assert done["state"] == "failed"
    assert "only one class" in done["error"]
    assert server.ask("/page/about")[1]["models"][0]["versions"] == [1]
