"""What a stranger named is escaped at each door: terminal, JSON, Markdown, TensorBoard, plots."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import tarfile
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest

from regraft import Dataset, TrainConfig, train
from regraft.classifiers.metrics import Metrics
from regraft.classifiers.model_card import markdown, model_card
from regraft.errors import DataError
from regraft.foundation.console import as_json, printable
from regraft.foundation.tensorboard import EventFile
from regraft.photos.sources.base import flaw_of_label
from regraft.sharding import shard
from tests.conftest import draw_folder
from tests.hostile.conftest import Hostile

CLEAR = "\x1b[2J\x1b]0;owned\x07\x9b31m\u202egpj.exe\u2028end"
"""Clears the screen, sets the window's title, colours, turns the direction of writing, breaks a line."""

FOUL = {
    "line break": "a\nb",
    "carriage return": "a\rb",
    "tab": "a\tb",
    "escape": "\x1b[31mred",
    "zero byte": "a\0b",
    "control sequence of 8 bits": "a\x9b31mb",
    "next line": "a\x85b",
    "file separator": "a\x1cb",
    "vertical tab": "a\vb",
    "line separator": "a\u2028b",
    "paragraph separator": "a\u2029b",
    "delete": "a\x7fb",
    "half a pair": "a\ud800b",
    "nothing": " ",
}


def _table(folder: Path, photos: Path, label: str) -> Path:
    with (folder / "t.csv").open("w", encoding="utf-8", newline="") as file:
        rows = [(path, path.parent.name) for path in sorted(photos.rglob("*.jpg"))[::10]]
        csv.writer(file).writerows([("path", "label"), *rows, (photos / "circle" / "001.jpg", label)])
    return folder / "t.csv"


def _lines(folder: Path, photos: Path, label: str) -> Path:
    rows = [{"path": str(path), "label": path.parent.name} for path in sorted(photos.rglob("*.jpg"))[::10]]
    rows.append({"path": str(photos / "circle" / "001.jpg"), "label": label})
    (folder / "t.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return folder / "t.jsonl"


def _folder(folder: Path, photos: Path, label: str) -> Path:
    shutil.copytree(photos, folder / "photos")
    shutil.copytree(photos / "circle", folder / "photos" / label)
    return folder / "photos"


def _webdataset(folder: Path, photos: Path, label: str) -> Path:
    with tarfile.open(folder / "t.tar", "w") as tar:
        for number, name in enumerate(("circle", label)):
            data = (photos / "circle" / f"{number:03}.jpg").read_bytes()
            for kind, content in (("jpg", data), ("json", json.dumps({"label": name}).encode())):
                member = tarfile.TarInfo(f"{number}.{kind}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    return folder / "t.tar"


SOURCES: dict[str, Callable[[Path, Path, str], Path]] = {
    "manifest.csv": _table,
    "manifest.jsonl": _lines,
    "folder": _folder,
    "webdataset": _webdataset,
}


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("flaw", FOUL)
def test_no_source_lets_a_foul_label_in(flaw: str, source: str, photos: Path, tmp_path: Path) -> None:
    label = FOUL[flaw]
    if source == "folder" and ("\0" in label or "\ud800" in label):
        pytest.skip("no folder can be called so")
    if source == "manifest.csv" and "\ud800" in label:
        pytest.skip("no UTF-8 text can hold it")
    if source != "folder" and not label.strip():
        pytest.skip("of a row without a label another test tells")
    assert flaw_of_label(label)
    spec = SOURCES[source](tmp_path, photos, label)
    if label == unicodedata.normalize("NFC", label).strip():  # what stands at the ends is white space, and goes
        with pytest.raises(DataError, match=r"has the label .*; rename its folder, or mend what gives it that label"):
            Dataset.open(spec)


@pytest.mark.parametrize(
    "label", ["cat", "고양이", "sea lion", "a/b", "-x", "été", "👨‍👩‍👧", "می‌خواهم", "100 %", "<b>"]
)
def test_what_people_call_their_photos_is_a_label(label: str) -> None:
    assert flaw_of_label(label) == ""


@pytest.mark.parametrize("verb", ["train", "check", "shard", "embed"])
def test_a_foul_folder_is_told_with_its_path(verb: str, photos: Path, tmp_path: Path, hostile: Hostile) -> None:
    spec = _folder(tmp_path, photos, "a\nb")
    out = [] if verb == "check" else ["--out", "new.parquet" if verb == "embed" else "new"]
    says = r"photos/a\\nb/0\d\d\.jpg has the label 'a\\nb', which has the character '\\n' in it, and so have 19 more"
    hostile(verb, spec, *out, says=says)
    assert not list(tmp_path.glob("new*"))


def test_names_of_photos_reach_the_terminal_escaped(
    photos: Path, tmp_path: Path, cache: Path, hostile: Hostile
) -> None:
    strange = tmp_path / f"p\x1b[2J\x9b1m{chr(0x202E)}"
    shutil.copytree(photos, strange)
    (strange / "circle" / "\x1b]0;owned\x07.jpg").write_bytes(b"no photo")
    hostile("train", strange, "--effort", "quick", "--out", "run\x1b[1m", code=0, limit=60)
    for words in (
        ("check", strange),
        ("predict", "run\x1b[1m", strange),
        ("predict", "run\x1b[1m", strange, "--json"),
        ("evaluate", "run\x1b[1m", strange),
        ("embed", strange, "--effort", "quick"),
        ("similar", "run\x1b[1m", strange),
        ("next", "run\x1b[1m", strange),
        ("next", strange),
        ("info", "run\x1b[1m"),
        ("info", "run\x1b[1m", "--json"),
        ("train", strange / "circle"),
        ("predict", "none\x1b[1m", strange),
    ):
        outcome = hostile(*words, code=0 if words[0] in ("info", "evaluate", "check", "embed", "next") else 1, limit=60)
        assert not set("\x1b\x9b\x07\u202e") & set(outcome.stdout + outcome.stderr), words


def test_an_export_that_a_stranger_made_cannot_talk_to_the_terminal(tmp_path: Path, hostile: Hostile) -> None:
    report = {
        "schema": 1,
        "format": "onnx",
        CLEAR: CLEAR,
        "facts": {CLEAR: [CLEAR, {CLEAR: CLEAR}], "deep": [[CLEAR]]},
        "rows": [{CLEAR: CLEAR}, {"b": [CLEAR]}],
        "empty": [],
    }
    (tmp_path / "export").mkdir()
    (tmp_path / "export" / "export.json").write_text(json.dumps(report))
    for more in ((), ("--json",)):
        outcome = hostile("info", "export", *more, code=0)
        assert not set(CLEAR) & set("\x1b\x07\x9b\u202e\u2028") & set(outcome.stdout)
        assert "owned" in outcome.stdout
        if more:
            assert json.loads(outcome.stdout)[CLEAR] == CLEAR


def test_a_run_that_a_stranger_made_cannot_either(photos: Path, tmp_path: Path, cache: Path, hostile: Hostile) -> None:
    run = train(photos, tmp_path / "run", TrainConfig(effort="quick")).path or Path()
    manifest = json.loads((run / "manifest.json").read_text())
    manifest["made_by"][CLEAR] = CLEAR
    manifest["backbone"]["licence"] = manifest["data"]["source"] = CLEAR.replace("\0", "")
    (run / "manifest.json").write_text(json.dumps(manifest))
    assert "owned" in hostile("info", "run", code=0).stdout
    hostile("export", "run", "--format", "openvino", says="owned")


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        "[click](javascript:alert(1))",
        "![pixel](https://evil/x.png)",
        "<https://evil>",
        "https://evil/x",
        "www.evil.com",
        "a@evil.com",
        "a | b | c",
        "`code`",
        "**bold** __bold__ _it_ ~~gone~~ $x^2$",
        "&lt;b&gt; &#60;",
        "\\[x\\](y)",
        "[x]: https://evil",
        "\x1b[31mred",
        "# no heading",
    ],
)
def test_markdown_shows_a_label_as_it_is(text: str) -> None:
    safe = markdown(text)
    assert not re.search(r"[<>\[\]`*|~$@\x1b]|://|www\.", safe.replace("&#", ""))
    shown = re.sub(r"&#(\d+);", lambda found: chr(int(found[1])), safe)
    assert shown == printable(text)


def test_a_card_has_no_html_of_a_stranger(photos: Path, tmp_path: Path, cache: Path) -> None:
    draw_folder(tmp_path / "p", {"circle": 5, "Square": 5})
    (tmp_path / "p" / "circle").rename(tmp_path / "p" / "<img src=x onerror=alert(1)>")
    (tmp_path / "p" / "Square").rename(tmp_path / "p" / "[x](javascript:alert(1)) |")
    run = train(tmp_path / "p", tmp_path / "run", TrainConfig(effort="quick")).path or Path()
    card = (run / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert "<img" not in card
    assert "](javascript" not in card
    table = [line for line in card.splitlines() if line.startswith("| ")]
    assert {line.count("|") for line in table} == {5}
    manifest, metrics = (
        json.loads((run / name).read_text(encoding="utf-8")) for name in ("manifest.json", "metrics.json")
    )
    manifest["backbone"] |= {"name": "<b>", "licence": "<i>"}
    manifest["made_by"]["regraft"] = manifest["head"] = "<u>"
    manifest["data"]["digest"] = "`<s>`"
    assert not re.search("<[bius]>", model_card(manifest, Metrics.from_dict(metrics)))


def test_every_reader_of_labels_agrees(photos: Path, tmp_path: Path, cache: Path) -> None:
    draw_folder(tmp_path / "p", {"circle": 6, "Square": 6})
    (tmp_path / "p" / "circle").rename(tmp_path / "p" / "sea lion (old), no. 2")
    run = train(tmp_path / "p", tmp_path / "run", TrainConfig(effort="quick"))
    shard(tmp_path / "p", tmp_path / "shards")
    for folder in ("run", "shards"):
        assert tuple((tmp_path / folder / "labels.txt").read_text(encoding="utf-8").splitlines()) == run.classes


def test_json_escapes_what_does_not_print_and_nothing_else() -> None:
    document = {"강아지": [CLEAR, "\U000e0001", 1.5, None], CLEAR: "é"}
    text = as_json(document)
    assert json.loads(text) == document
    assert "강아지" in text
    assert text.replace("\n", "").isprintable()


def test_tensorboard_is_told_what_prints(tmp_path: Path) -> None:
    file = EventFile(tmp_path)
    file.hyperparameters(
        {"backbone": CLEAR, "odd": b"\xff".decode("utf-8", "surrogateescape"), "rate": 0.1, "on": True}
    )
    file.close()
    data = next(tmp_path.iterdir()).read_bytes()
    assert b"\x1b" not in data.replace(b"\x1b[2J", b"!") or b"\x1b[2J" not in data
    assert b"owned" in data


def test_a_plot_of_labels_that_look_like_formulas(photos: Path, tmp_path: Path, cache: Path) -> None:
    pytest.importorskip("matplotlib")
    from regraft import Prediction, plot_predictions

    photo = photos / "circle" / "000.jpg"
    plot_predictions([Prediction(photo, (("$\\frac{$", 0.5), ("a$b$c^", 0.5)))], tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
