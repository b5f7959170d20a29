"""How notebooks display the objects of regraft: the HTML that their `_repr_html_` returns.

In: an object, such as a `Dataset` or an `Evaluation`. Out: HTML without scripts, which loads nothing.
Why: people look at photos and results in notebooks, where ``repr`` shows them a page of numbers.
Surprise: nobody imports this module. A class names its function here as text (`displayed_by`), so that photos and
classifiers do not depend on how they look, and nothing is loaded until something is displayed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from regraft.classifiers.class_metrics import ClassMetrics
from regraft.classifiers.classifier import Classifier
from regraft.classifiers.evaluation import Evaluation
from regraft.classifiers.metrics import Metrics
from regraft.classifiers.prediction import Prediction
from regraft.drawing.charts import (
    BLUE,
    GREY,
    bar,
    heat_table,
    interval_text,
    line_chart,
    percent,
    reliability_chart,
)
from regraft.drawing.html import Html, beside, escaped, joined, name, panel, paragraph, picture, table, together
from regraft.errors import ImageError
from regraft.exploring.auditing import Audit, Finding, Suspect
from regraft.photos.dataset import Dataset, ImageRecord
from regraft.photos.images import decode, read
from regraft.sweeping.sweeping import Sweep
from regraft.sweeping.trials import AXES

MOST_THUMBNAILS = 40
"""The largest number of photos in one display, which keeps it below 300 kB."""

_MOST_CLASSES = 40  # rows of a table of classes
_MOST_CONFUSED = 10  # classes of a confusion matrix
_MOST_TRIALS = 40
_MOST_NAMED = 5  # photos of a finding
_MOST_BESIDE = 3  # copies beside a photo
_MOST_BARS = 10  # classes of one answer
_SIDE = 64  # pixels of a thumbnail


def dataset_html(dataset: Dataset) -> str:
    """Return the display of a data set: each class with its number of photos and a few of them."""
    counts, records = dataset.counts(), defaultdict[str, list[ImageRecord]](list)
    for record in dataset.records:
        records[record.label].append(record)
    shown = dataset.classes[:_MOST_CLASSES]
    each = min(8, MOST_THUMBNAILS // max(len(shown), 1))
    most = max(counts.values(), default=1)
    rows = [
        (name(label), f"{counts[label]:,}", _size(counts[label] / most), _strip(records[label], each))
        for label in shown
    ]
    return panel(
        f"{_number(len(dataset.records), 'photo')} of {_number(len(dataset.classes), 'class', 'classes')}",
        table(rows, ("class", "photos", "", "")) if rows else "",
        _further(len(dataset.classes) - len(shown), "classes"),
        _quiet(f"{_number(len(dataset.problems), 'file')} left out") if dataset.problems else "",
        _quiet(dataset.hint),
    )


def audit_html(audit: Audit) -> str:
    """Return the display of an audit: the findings with their counts, and the worst photos of each."""
    thumbnails = _Thumbnails(audit.dataset)
    count = len(audit.dataset.records)
    title = f"{_number(count, 'photo')}: {_number(len(audit.findings), 'kind')} of problems found"
    if not audit.findings:
        title = f"{_number(count, 'photo')}: no problem found"
    rows = [(found.kind, f"{len(found.photos) or len(found.classes):,}", found.why) for found in audit.findings]
    return panel(
        title,
        paragraph(f"No classifier can be trained on these photos: {audit.impossible}.") if audit.impossible else "",
        table(rows, ("problem", "count", "what it means")) if rows else "",
        *(_finding(found, thumbnails) for found in audit.findings),
        _quiet(audit.dataset.hint),
    )


def classifier_html(classifier: Classifier) -> str:
    """Return the display of a classifier: what it is, how good it is, and a table of its classes."""
    backbone = classifier.backbone
    facts = f"{classifier.config.head} head on {backbone.name} at {backbone.transform.size} px"
    title = f"Classifier of {len(classifier.classes)} classes"
    where = _quiet("run: ", str(classifier.path)) if classifier.path else ""
    try:
        metrics = Metrics.from_dict(classifier.metrics)
    except ValueError:  # the classifier was put together by hand, or its run was written by another version
        return panel(title, _quiet(facts), _named(classifier.classes), where)
    side, evaluation = metrics.measured
    counts: object = metrics.counts
    if metrics.folds:
        side = f"{metrics.folds.k} folds"
        counts = f"{_number(metrics.folds.n, 'photo')}, each answered by a classifier that was not trained on it"
    return panel(
        title,
        _quiet(facts),
        _verdict(evaluation, side),
        _quiet(f"photos: {counts}"),
        _classes(evaluation.per_class) if evaluation.per_class else _named(classifier.classes),
        _refusals(classifier.threshold is not None, evaluation),
        where,
    )


def evaluation_html(evaluation: Evaluation) -> str:
    """Return the display of an evaluation: its figures, the confusion matrix, reliability and coverage."""
    if not evaluation.n:
        return panel("Evaluation of no photo")
    bins, covered = evaluation.filled_bins, [(c.share, c.accuracy) for c in evaluation.coverage]
    charts = [
        _headed("Is the confidence right?", reliability_chart(_reliability_title(evaluation), bins)) if bins else "",
        _headed(
            "Accuracy where only the surest photos are answered",
            line_chart("accuracy by share of photos answered", ("share of photos answered", "accuracy"), covered),
        )
        if len(covered) > 1
        else "",
    ]
    return panel(
        f"Evaluation on {_number(evaluation.n, 'photo')}",
        _figures(evaluation),
        _confusion(evaluation),
        beside(*filter(None, charts)),
    )


def prediction_html(prediction: Prediction) -> str:
    """Return the display of an answer: the photo, and its most probable classes as bars."""
    if prediction.error is not None:
        return panel(name(prediction.path.name), paragraph("cannot be read: ", prediction.error))
    title: Html = name(prediction.top[0][0]) if prediction.top else escaped("no answer")
    if prediction.novel:
        title = escaped("none of these")
    colour = GREY if prediction.novel else BLUE
    rows = [(name(label), bar(p, colour=colour, width=160), percent(p)) for label, p in prediction.top[:_MOST_BARS]]
    note = "The photo is unlike all photos of the training; its most probable classes would be these."
    return panel(
        title,
        beside(
            _thumbnail(lambda: read(prediction.path), prediction.path.name, 2 * _SIDE) or "",
            joined((paragraph(note, kind="quiet") if prediction.novel else "", table(rows))),
        ),
        _quiet(name(prediction.path.name)),
    )


def sweep_html(sweep: Sweep) -> str:
    """Return the display of a sweep: its trials, the best first, and how good the best one is on test."""
    varied = [axis for axis in AXES if len({trial.options.get(axis, "") for trial in sweep.trials}) > 1]
    rows = []
    for place, trial in enumerate(sweep.trials[:_MOST_TRIALS]):
        values = [name(trial.options.get(axis) or "default") for axis in varied or AXES[:1]]
        loss = "–" if trial.log_loss is None else f"{trial.log_loss:.3f}"
        figures = (percent(trial.accuracy), bar(trial.accuracy), loss, f"{trial.seconds:.1f} s")
        failed = Html(f"failed: {escaped(trial.error)}") if trial.error else ""
        rows.append(("★ best" if place == 0 and not trial.error else failed, *values, *figures))
    header = ("", *(axis.replace("_", " ") for axis in varied or AXES[:1]), "val accuracy", "", "log loss", "time")
    return panel(
        f"Sweep of {_number(len(sweep.trials), 'trial')}",
        table(rows, header) if rows else "",
        _further(len(sweep.trials) - _MOST_TRIALS, "trials"),
        _best(sweep.best.metrics),
        _quiet(Html(f"<code>{escaped(sweep.command)}</code>")),
    )


def _best(metrics: Mapping[str, object]) -> str:
    """Return the sentence of the best trial on test; nothing where it was not measured there."""
    try:
        test = Metrics.from_dict(metrics).test
    except ValueError:
        return ""
    return _verdict(test, "test", "The best trial: ") if test and test.n else ""


class _Thumbnails:
    """Thumbnails of the photos of a data set, a limited number of them."""

    def __init__(self, dataset: Dataset) -> None:
        self._records = {record.path: record for record in dataset.records}
        self._left = MOST_THUMBNAILS

    def of(self, path: Path) -> Html | None:
        """Return a thumbnail; None where the photo cannot be decoded, or all thumbnails are used up."""
        record = self._records.get(path)
        found = _thumbnail(record.read, path.name) if record and self._left else None
        self._left -= found is not None
        return found


def _thumbnail(load: Callable[[], bytes], text: str, side: int = _SIDE) -> Html | None:
    """Return the thumbnail of the photo whose bytes ``load`` returns; None where it cannot be decoded."""
    try:
        return picture(decode(load(), side), text, side)
    except ImageError:
        return None


def _strip(records: Sequence[ImageRecord], count: int) -> Html:
    """Return the thumbnails of ``count`` photos, from the first one to the last one at equal distances."""
    chosen = np.unique(np.linspace(0, len(records) - 1, min(count, len(records))).astype(int)).tolist()
    found = (_thumbnail(records[i].read, records[i].path.name) for i in chosen)
    return joined(thumbnail for thumbnail in found if thumbnail is not None)


def _finding(found: Finding, thumbnails: _Thumbnails) -> Html:
    """Return the worst photos of a finding, each beside its copies; or its classes."""
    if found.classes:
        return _headed(found.kind, _named(found.classes))
    rows = []
    for suspect in found.photos[:_MOST_NAMED]:
        pictures = [thumbnails.of(path) for path in (suspect.path, *suspect.others[:_MOST_BESIDE])]
        rows.append((together(p for p in pictures if p is not None), *_named_photo(suspect)))
    return _headed(found.kind, joined((table(rows), _further(len(found.photos) - _MOST_NAMED, "photos"))))


def _named_photo(suspect: Suspect) -> tuple[Html, str]:
    """Return the name of a photo, with its folder, and what is wrong with it."""
    return name("/".join(suspect.path.parts[-2:])), suspect.reason


def _verdict(evaluation: Evaluation, side: str, before: str = "") -> Html:
    """Return the sentence with the accuracy and its interval."""
    if evaluation.accuracy is None or evaluation.interval is None:
        return paragraph("Nothing was measured: no photo was kept for measuring.")
    accuracy = Html(f"<b>{percent(evaluation.accuracy)}</b>")
    within = interval_text(evaluation.interval)
    photos = _number(evaluation.n, "photo")
    chart = bar(evaluation.accuracy, evaluation.interval)
    return paragraph(before, accuracy, f" accuracy on {photos} ({side}); 95 % interval {within} ", chart)


def _figures(evaluation: Evaluation) -> Html:
    """Return the figures of an evaluation as a table; figures that were not measured are left out."""
    e = evaluation
    shares = (
        ("accuracy", e.accuracy, e.interval),
        ("balanced accuracy", e.balanced_accuracy, None),
        ("top-5 accuracy", e.top5, None),
        ("answered “none of these”", e.rejected, None),
    )
    numbers = (("macro-F1", e.macro_f1), ("log loss", e.log_loss), ("calibration error", e.calibration_error))
    rows = [(what, percent(v), interval_text(i), bar(v, i)) for what, v, i in shares if v is not None]
    rows += [(what, f"{v:.3f}", "", Html("")) for what, v in numbers if v is not None]
    return table(rows, ("", "", "95 % interval", ""))


def _confusion(evaluation: Evaluation) -> Html:
    """Return the confusion matrix; of many classes, that of the classes that are confused most."""
    counts = np.array(evaluation.confusion, int)
    labels = [row.label for row in evaluation.per_class]
    if not labels or counts.shape != (len(labels), len(labels)):  # an older regraft wrote the evaluation
        return Html("")
    note = ""
    if len(labels) > _MOST_CONFUSED:
        wrong = counts - np.diag(np.diag(counts))
        chosen = np.sort(np.argsort(-(wrong.sum(0) + wrong.sum(1)), kind="stable")[:_MOST_CONFUSED]).tolist()
        note = f"The {_MOST_CONFUSED} most confused of {len(labels)} classes; mistakes with other classes are left out."
        counts, labels = counts[np.ix_(chosen, chosen)], [labels[i] for i in chosen]
    return _headed("Confusion matrix", joined((_quiet(note), heat_table(counts.tolist(), labels))))


def _classes(rows: Sequence[ClassMetrics]) -> Html:
    """Return the table of recall and precision; of many classes, that of the classes with the lowest recall."""
    shown = list(rows)
    if len(rows) > _MOST_CLASSES:
        shown = sorted(rows, key=lambda row: 2.0 if row.recall is None else row.recall)[:_MOST_CLASSES]
    cells = [
        (name(r.label), f"{r.n:,}", percent(r.recall), bar(r.recall, r.recall_interval), percent(r.precision))
        for r in shown
    ]
    note = f"The {len(shown)} classes with the lowest recall, of {len(rows)}." if len(shown) < len(rows) else ""
    return joined((_quiet(note), table(cells, ("class", "photos", "recall", "95 % interval", "precision"))))


def _refusals(can: bool, evaluation: Evaluation) -> Html:
    """Return the sentence that says how often the answer is "none of these"."""
    if not can:
        return _quiet("It answers every photo with one of its classes, also a photo of something else.")
    share = "" if evaluation.rejected is None else f"; so were {percent(evaluation.rejected)} of the measured photos"
    return _quiet(f"Photos unlike those of the training are answered “none of these”{share}.")


def _reliability_title(evaluation: Evaluation) -> str:
    error = evaluation.calibration_error
    return "accuracy by confidence" + ("" if error is None else f"; calibration error {error:.3f}")


def _named(classes: Sequence[str]) -> Html:
    """Return a list of names, of which those beyond `_MOST_CLASSES` are only counted."""
    listed = paragraph(joined(map(name, classes[:_MOST_CLASSES]), ", "))
    return joined((listed, _further(len(classes) - _MOST_CLASSES, "classes")))


def _headed(head: str, piece: object) -> Html:
    return joined((paragraph(head, kind="head"), piece))


def _quiet(*pieces: object) -> Html:
    """Return a paragraph in a lighter colour; nothing for no text."""
    return paragraph(*pieces, kind="quiet") if any(pieces) else Html("")


def _further(count: int, what: str) -> Html:
    return _quiet(f"and {count:,} more {what}") if count > 0 else Html("")


def _size(share: float) -> Html:
    """Return a bar for the size of a class, as a share of the largest class."""
    return bar(share, colour=GREY, width=80)


def _number(count: int, one: str, many: str = "") -> str:
    """Return a number with its noun in the singular or plural."""
    return f"{count:,} {one if count == 1 else many or f'{one}s'}"
