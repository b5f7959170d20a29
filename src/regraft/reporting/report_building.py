"""A run → a report in one HTML file that needs no network and no server, and a table of all its photos.

In: a run folder, and where its photos are. Out: an HTML file, and a Parquet file beside it.
Why: after training, a person wants to look: which photos were wrong and why, and whether the figures can be trusted.
Surprise: the page has a budget. Photos beyond it have no picture or are left out; all figures are of all photos.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from regraft.backbones.side_by_side import parts_of
from regraft.classifiers.classifier import Classifier, run_path
from regraft.classifiers.learning_curves import Curves, read_curves
from regraft.classifiers.run_folder import read_manifest
from regraft.drawing.figures import confusion_figure, has_matplotlib, map_figure, png_of, reliability_figure
from regraft.errors import ConfigError, RunError, option
from regraft.exploring.activation_maps import Activation, ActivationMaps
from regraft.features.neighbours import last_stage
from regraft.foundation import console
from regraft.foundation.files import as_path, write_text
from regraft.foundation.places import Product, claimed, require_writable
from regraft.reporting.html_pages import LIMIT_MB, html_page, is_page, picture_budget
from regraft.reporting.page_data import (
    Drawn,
    chosen_photos,
    comparison_data,
    curves_data,
    page_data,
    run_facts,
    with_thumbnails,
)
from regraft.reporting.pictures import pictures
from regraft.reporting.plots import PLOT
from regraft.reporting.projection import project
from regraft.reporting.report_facts import Facts, gather
from regraft.reporting.report_record import Report
from regraft.reporting.report_table import is_table, write_table
from regraft.reporting.run_comparison import RunComparison, compare_runs
from regraft.reporting.verdict import Verdict, judge, judge_change

MAPPED = 250
"""The largest number of photos with exact activation maps; one takes a forward pass."""

COVERED = 40
"""The largest number of photos with maps from occlusion; one takes fifty forward passes."""

_GENERATOR = "regraft report"
_FIGURES = ("map", "confusion", "reliability")  # the names of the plots beside a page

_REPORT = Product("a report", lambda path: is_page(path, _GENERATOR), error=ConfigError, overwrite="")
_TABLE = Product("the table of a report", is_table, error=ConfigError, overwrite="")


def report(
    run: str | os.PathLike[str] | Classifier,
    photos: str | os.PathLike[str] | None = None,
    out: str | os.PathLike[str] | None = None,
    before: str | os.PathLike[str] | Classifier | None = None,
) -> Report:
    """Write a report of a run: one HTML file, a Parquet file with a row for each photo, and plots as PNG files.

    The other files stand beside the HTML file and begin with its name. The plots are written where matplotlib is
    installed. An older report at the same place is replaced.

    Args:
        run: the run folder, or a classifier that has one.
        photos: where the photos of the run are now, or labelled photos that the run does not know; None where the
            photos of the run have not moved.
        out: the HTML file; by default ``report.html`` in the run folder, or ``against-NAME.html`` with ``before``.
        before: another run of the same photos. The report then begins with what changed from that run to this one.

    Raises:
        ConfigError: ``out`` is taken by a file that is no report, or cannot be written.
        DataError: no photo can be read, the photos have a class that a run does not know, or no photo was measured in
            both runs.
        RunError: a run is damaged.
    """
    began, folder = perf_counter(), run_path(run)
    name = f"against-{run_path(before).name}.html" if before is not None else "report.html"
    path = _writable(as_path(out, "out") if out is not None else folder / name)
    made = build(run, photos, before)
    facts, drawn, verdict = made.facts, made.drawn, made.verdict
    summary = [verdict.verdict.text(language) for language in ("en", "ko")]
    page = html_page(made.data, f"regraft: {made.data['name']}", summary, "page.js", _GENERATOR)
    table, written = _write(facts, drawn, page, path)
    return Report(
        report=str(written),
        table=str(table),
        figures=tuple(map(str, _write_figures(facts, drawn, path))),
        bytes=len(page.encode()),
        photos=len(facts.features),
        shown=len(drawn.chosen),
        thumbnails=len(made.data["thumbs"]),
        measured=facts.evaluation.n,
        measured_on=facts.measured_on,
        mistakes=len(facts.mistakes),
        suspects=len(facts.suspects),
        copies=len(facts.groups),
        missing=facts.missing,
        verdict=verdict.verdict.text(),
        limits=tuple(sentence.text() for sentence in verdict.limits),
        projection=drawn.method,
        seconds={"report": round(perf_counter() - began - made.projected, 2), "projection": round(made.projected, 2)},
        difference=made.compared.paired if made.compared else None,
    )


@dataclass(frozen=True, slots=True)
class BuiltReport:
    """A report in memory.

    Attributes:
        facts: the facts about all photos.
        drawn: what is drawn of the photos of the page.
        verdict: the verdict on the run, or on the change from the run before.
        compared: the comparison with the run before; None without one.
        data: the data of the page, with its thumbnails, as JSON values.
        projected: the seconds that the map of the photos took.
    """

    facts: Facts
    drawn: Drawn
    verdict: Verdict
    compared: RunComparison | None
    data: dict[str, Any]
    projected: float


def build(
    run: str | os.PathLike[str] | Classifier,
    photos: str | os.PathLike[str] | None = None,
    before: str | os.PathLike[str] | Classifier | None = None,
) -> BuiltReport:
    """Make the report of a run in memory, and write nothing. The arguments and the errors are those of `report`."""
    folder = run_path(run)
    facts = gather(_loaded(run), photos)
    verdict = judge(facts, os.fspath(folder))
    compared = None
    if before is not None:
        compared = compare_runs(gather(_loaded(before), photos or facts.classifier.source, known_only=True), facts)
    drawn, projected = _drawn(facts, (*compared.lost, *compared.gained) if compared else ())
    data = page_data(facts, verdict, drawn, {**run_facts(facts, os.fspath(folder)), "made_by": _made_by(facts)})
    data |= {"limit": LIMIT_MB, "curves": curves_data(_curves(folder)), "comparison": None}
    if compared and before is not None:
        names = run_path(before).name, folder.name
        verdict = judge_change(compared, *names)
        data["comparison"] = comparison_data(compared, verdict, drawn.place, *names)
    shown = drawn.pictures.within(picture_budget(data))
    return BuiltReport(facts, drawn, verdict, compared, with_thumbnails(data, shown), projected)


def _writable(path: Path) -> Path:
    """Return the path of a page, after a check that it and what stands beside it can be written. Raises ConfigError."""
    if path.suffix.lower() not in (".html", ".htm"):
        raise ConfigError(f"{path} does not end in .html; type {option('out', 'report.html')}")
    require_writable(path, _REPORT)
    require_writable(path.with_suffix(".parquet"), _TABLE)
    for name in _FIGURES if has_matplotlib() else ():
        require_writable(_figure_path(path, name), PLOT)
    return path


def _figure_path(page: Path, name: str) -> Path:
    """Return the path of a plot beside a page."""
    return page.with_name(f"{page.stem}-{name}.png")


def _write(facts: Facts, drawn: Drawn, page: str, path: Path) -> tuple[Path, Path]:
    """Write the table and the page, and return their paths."""
    with claimed(path.with_suffix(".parquet"), _TABLE, file=True) as table:
        write_table(facts, drawn, table.fresh)
    with claimed(path, _REPORT, file=True) as written:
        write_text(written.fresh, page)
    return table.path, written.path


def _loaded(run: str | os.PathLike[str] | Classifier) -> Classifier:
    return run if isinstance(run, Classifier) else Classifier.load(run)


def _drawn(facts: Facts, first: Sequence[int]) -> tuple[Drawn, float]:
    """Return what is drawn of the photos of the page, those of ``first`` before others, and the seconds of the map."""
    chosen = chosen_photos(facts, first)
    rows = last_stage(facts.features.x[chosen], facts.features.stages)
    began = perf_counter()
    with console.waiting_for("drawing the map of the photos"):
        points, method = project(rows)
    seconds = perf_counter() - began
    records = [facts.dataset.records[i] for i in chosen]
    transform = parts_of(facts.classifier.backbone)[-1].transform
    made = pictures(records, transform, picture_budget({}))
    near = facts.nearest(range(len(facts.features)))
    return Drawn(chosen, points, method, made, *_maps(facts, chosen), near), seconds


def _maps(facts: Facts, chosen: Sequence[int]) -> tuple[dict[int, Activation], str]:
    """Return the activation maps of the first photos of the page, for the answer and the label; and their kind."""
    maker = ActivationMaps(facts.classifier)
    first = list(chosen[: MAPPED if maker.kind == "exact" else COVERED])
    pairs = zip(facts.predicted[first].tolist(), facts.features.y[first].tolist(), strict=True)
    classes = [tuple(dict.fromkeys(pair)) for pair in pairs]
    records = [facts.dataset.records[i] for i in first]
    found: dict[int, Activation] = {}
    with console.progress("activation maps", len(first)) as advance:
        for position, activation in enumerate(maker.of_all(records, facts.features.x[first], classes)):
            if activation:
                found[position] = activation
            advance()
    return found, maker.kind


def _curves(folder: Path) -> Curves | None:
    """Return the learning curves of a run; None if it has none."""
    try:
        return read_curves(folder)
    except RunError:
        return None


def _write_figures(facts: Facts, drawn: Drawn, page: Path) -> list[Path]:
    """Write the main plots of a report beside its page, and return their paths; none where matplotlib is missing."""
    if not has_matplotlib():
        return []
    chosen, classes, found = list(drawn.chosen), facts.classifier.classes, facts.evaluation
    bins = [(b.confidence or 0.0, b.accuracy or 0.0, b.n) for b in found.reliability if b.n]
    wrong = np.isin(chosen, facts.mistakes)
    figures = {"map": map_figure(drawn.points, facts.features.y[chosen], classes, wrong, "Photos that look alike")}
    if found.n and found.confusion:
        figures["confusion"] = confusion_figure(found.confusion, classes, "Confusion matrix")
    if found.n:
        figures["reliability"] = reliability_figure(bins, "Reliability")
    paths = []
    for name, figure in figures.items():
        with claimed(_figure_path(page, name), PLOT, file=True) as place:
            place.fresh.write_bytes(png_of(figure))
        paths.append(place.path)
    return paths


def _made_by(facts: Facts) -> dict[str, str]:
    """Return the versions of what made the run."""
    if facts.classifier.path is None:
        return {}
    return {name: str(value) for name, value in read_manifest(facts.classifier.path).document["made_by"].items()}
