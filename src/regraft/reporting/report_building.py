"""A run → a report in one HTML file that needs no network and no server, and a table of all its photos.

In: a run folder, and where its photos are. Out: an HTML file, and a Parquet file beside it.
Why: after training, a person wants to look: which photos were wrong and why, and whether the figures can be trusted.
Surprise: the page is made in the browser, from JSON in the file. A policy in the file lets only its own script run, and
allows no request, so that no name of a photo or class can become code.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import os
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from regraft.backbones.side_by_side import parts_of
from regraft.classifiers.activation_maps import Activation, ActivationMaps
from regraft.classifiers.classifier import Classifier, run_path
from regraft.classifiers.run_folder import read_manifest
from regraft.errors import ConfigError
from regraft.features.neighbours import last_stage
from regraft.foundation import console
from regraft.foundation.files import as_path, write_text
from regraft.foundation.places import Product, claimed, require_writable
from regraft.reporting.page_data import chosen_photos, page_data, run_facts
from regraft.reporting.pictures import pictures
from regraft.reporting.projection import project
from regraft.reporting.report_facts import Facts, gather
from regraft.reporting.report_record import Report
from regraft.reporting.report_table import write_table
from regraft.reporting.verdict import WORDS, Verdict, judge

LIMIT_MB = 12
"""The size in MB that a page does not exceed."""

MAPPED = 400
"""The largest number of photos with exact activation maps; one takes a forward pass."""

COVERED = 40
"""The largest number of photos with maps from occlusion; one takes fifty forward passes."""

_PAGE = files("regraft.reporting") / "page"
_MARK = '<meta name="generator" content="regraft report">'
_FOR_TEXT = 250_000  # bytes of the page that are kept free for its script, its words and the quotes of pictures
_BASE64 = 4 / 3  # bytes in the page for each byte of a picture
_NAME = "report.html"


_REPORT = Product("a report", lambda path: _is_report(path), error=ConfigError, overwrite="")
_TABLE = Product("a table of a report", lambda path: path.suffix == ".parquet", error=ConfigError, overwrite="")


def report(
    run: str | os.PathLike[str] | Classifier,
    photos: str | os.PathLike[str] | None = None,
    out: str | os.PathLike[str] | None = None,
) -> Report:
    """Write a report of a run: one HTML file, and beside it a Parquet file with a row for each photo.

    An older report at the same place is replaced.

    Args:
        run: the run folder, or a classifier that has one.
        photos: where the photos of the run are now, or labelled photos that the run does not know; None where the
            photos of the run have not moved.
        out: the HTML file; by default ``report.html`` in the run folder.

    Raises:
        ConfigError: ``out`` is taken by a file that is no report, or cannot be written.
        DataError: no photo can be read, or the photos have a class that the run does not know.
        RunError: the run is damaged.
    """
    began = perf_counter()
    folder = run_path(run)
    path = as_path(out, "out") if out is not None else folder / _NAME
    table = path.with_suffix(".parquet")
    for place, product in ((path, _REPORT), (table, _TABLE)):
        require_writable(place, product)
    classifier = run if isinstance(run, Classifier) else Classifier.load(folder)
    facts = gather(classifier, photos)
    verdict = judge(facts, str(run) if not isinstance(run, Classifier) else str(folder))
    chosen = chosen_photos(facts)
    rows = last_stage(facts.features.x[chosen], facts.features.stages)
    before = perf_counter()
    with console.waiting_for("drawing the map of the photos"):
        points, method = project(rows)
    projected = perf_counter() - before
    page, thumbnails = _page(facts, verdict, chosen, points, method, str(folder))
    with claimed(table, _TABLE, file=True) as beside:
        write_table(facts, chosen, points, beside.fresh)
    with claimed(path, _REPORT, file=True) as written:
        write_text(written.fresh, page)
    return Report(
        str(written.path),
        str(beside.path),
        len(page.encode()),
        len(facts.features),
        len(chosen),
        thumbnails,
        facts.evaluation.n,
        facts.measured_on,
        len(facts.mistakes),
        len(facts.suspects),
        len(facts.groups),
        facts.missing,
        verdict.verdict.text(),
        tuple(sentence.text() for sentence in verdict.limits),
        method,
        {"report": round(perf_counter() - began - projected, 2), "projection": round(projected, 2)},
    )


def _page(
    facts: Facts, verdict: Verdict, chosen: list[int], points: np.ndarray[Any, Any], method: str, run: str
) -> tuple[str, int]:
    """Return the HTML of the page, and the number of its thumbnails."""
    records = [facts.dataset.records[i] for i in chosen]
    run_details = {**run_facts(facts, run), "made_by": _made_by(facts)}
    drawn, kind = _maps(facts, chosen)
    transform = parts_of(facts.classifier.backbone)[-1].transform
    made = pictures(records, transform, int(LIMIT_MB * 1_000_000 / _BASE64))
    bare = page_data(facts, verdict, chosen, points, method, made.within(0), drawn, kind, run_details)
    shown = made.within(int((LIMIT_MB * 1_000_000 - len(_json(bare).encode()) - _FOR_TEXT) / _BASE64))
    data = page_data(facts, verdict, chosen, points, method, shown, drawn, kind, run_details)
    return html_page({**data, "limit": LIMIT_MB, "curves": []}, verdict), len(shown.thumbnails)


def _maps(facts: Facts, chosen: list[int]) -> tuple[dict[int, Activation], str]:
    """Return the activation maps of the first photos of the page, for the answer and the label; and their kind."""
    maker = ActivationMaps(facts.classifier)
    positions = range(min(len(chosen), MAPPED if maker.kind == "exact" else COVERED))
    records = [facts.dataset.records[chosen[i]] for i in positions]
    answers, labels = facts.predicted[chosen].tolist(), facts.features.y[chosen].tolist()
    classes = [tuple(dict.fromkeys((answers[i], labels[i]))) for i in positions]
    with console.progress("activation maps", len(positions)) as advance:
        found: dict[int, Activation] = {}
        x = facts.features.x[chosen[: len(positions)]]
        for position, activation in enumerate(maker.of_all(records, x, classes)):
            if activation:
                found[position] = activation
            advance()
    return found, maker.kind


def html_page(data: Mapping[str, Any], verdict: Verdict) -> str:
    """Return a page as HTML.

    Args:
        data: the data of the page, as `page_data` returns it.
        verdict: the verdict, which also stands in the page for browsers that run no script.
    """
    style, script = (_read(name) for name in ("page.css", "page.js"))
    policy = (
        f"default-src 'none'; img-src data:; style-src '{_hash(style)}'; script-src '{_hash(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    sentences = [verdict.verdict.text(language) for language in ("en", "ko")]
    parts = {
        "policy": policy,
        "title": html.escape(f"regraft: {data['name']}"),
        "style": style,
        "summary": "".join(f"<p>{html.escape(sentence)}</p>" for sentence in sentences),
        "data": _json(data),
        "words": _json(json.loads(WORDS.read_text(encoding="utf-8"))),
        "script": script,
    }
    pieces = _read("page.html").split("{{")
    return pieces[0] + "".join(parts[name] + rest for name, rest in (piece.split("}}", 1) for piece in pieces[1:]))


def _json(value: Any) -> str:
    """Return JSON that can stand within a script element of HTML: it has no ``<``."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def _hash(text: str) -> str:
    """Return the hash by which a content security policy allows a script or a style."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _read(name: str) -> str:
    return (_PAGE / name).read_text(encoding="utf-8")


def _made_by(facts: Facts) -> dict[str, str]:
    """Return the versions of what made the run."""
    if facts.classifier.path is None:
        return {}
    return {name: str(value) for name, value in read_manifest(facts.classifier.path).document["made_by"].items()}


def _is_report(path: Path) -> bool:
    """Return whether a file is a report of ours."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return _MARK.encode() in file.read(2048)
