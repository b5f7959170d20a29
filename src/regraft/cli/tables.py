"""Print results as text on stdout. The tables are plain lines, which paste well and need no import."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from regraft.classifiers.paired_evaluation import points
from regraft.classifiers.prediction import Prediction
from regraft.cli.columns import print_columns
from regraft.cli.comparisons import beside_frozen, beside_older
from regraft.foundation.console import as_json, printable, say
from regraft.foundation.console import printed as print  # noqa: A004 (nothing here reaches a terminal unescaped)

if TYPE_CHECKING:  # `predict` prints none of these, and need not wait for their modules
    from regraft.classifiers.answer_files import Kept
    from regraft.classifiers.evaluation import Evaluation
    from regraft.classifiers.metrics import LeftOut, TrainingReport
    from regraft.exploring.similarity import SimilarPhotos
    from regraft.exporting.companions import Export
    from regraft.reporting.documents import (
        AuditReport,
        EmbedReport,
        EvaluationReport,
        ShardReport,
        SuspectPhoto,
        SweepReport,
    )
    from regraft.reporting.report_record import Report

NONE_OF_THESE = "none of these"
_UNEQUAL = 1.5
"""From this ratio of the largest class to the smallest on, the figures in which each class counts alike are printed."""

_MOST_NAMED = 10
"""The largest number of photos that are listed by name."""


def training(report: TrainingReport) -> None:
    """Print the report of `train` or `finetune`: counts, metrics, and the run folder."""
    counts: object = report.counts
    if report.folds:
        trained = report.counts if report.finetuned else "all trained on"
        counts = f"{trained}, and measured in {report.folds.k} folds"
    print(f"{report.counts.total} photos of {len(report.classes)} classes: {counts}")
    if report.groups:
        sides = ", ".join(f"{n} {side}" for side, n in report.groups.items())
        print(f"{sum(report.groups.values())} groups stay whole: {sides}")
    if report.problems:
        print(f"files left out: {len(report.problems)} (listed in metrics.json)")
    print(f"features: {report.features.computed} computed, {report.features.cached} cached")
    side, measured = report.measured
    if measured.n:
        evaluation(measured, side if report.folds is None else f"{report.folds.k} folds:")
        if report.finetuned:
            beside_frozen(report.finetuned, side)
    if report.grown:
        beside_older(report, side)
    print(f"run: {report.run}   ({report.seconds['total']:.1f} s)")
    print(f"look at it: regraft report {shlex.quote(report.run)}")


def sweep(report: SweepReport) -> None:
    """Print the trials of a sweep, the best first; then the best trial's test metrics, and the command to repeat it."""
    rows = [("trial", "val accuracy", "log loss", "seconds")]
    for trial in report.trials:
        rows.append((trial.name, _share(trial.accuracy), _share(trial.log_loss), f"{trial.seconds:.1f}"))
    print_columns(rows)
    for trial in report.trials:
        if trial.error:
            print(f"{trial.name} failed: {trial.error}")
    print()
    print(f"best, by val accuracy: {report.best.name}")
    if report.best.test.n:
        evaluation(report.best.test, "test")
    print(f"run: {report.best.run}   ({report.seconds:.1f} s)")
    print(f"again: {report.command}")


def audit(report: AuditReport) -> None:
    """Print the findings of `check`, the worst kind first, each kind with its worst photos."""
    print(f"{report.photos} photos of {len(report.counts)} classes can be read")
    print_columns([(label, str(count)) for label, count in report.counts.items()])
    for found in report.findings:
        print()
        print(f"{found.kind}: {found.count}   {found.why}")
        for line in found.classes:
            print(f"  {printable(line)}")
        _named(found.photos)
    print()
    if report.hint:
        print(printable(report.hint))
    if report.impossible:
        print(f"no classifier can be trained: {report.impossible}")
    else:
        print("nothing was found wrong" if not report.findings else "a classifier can be trained on these photos")
    if report.html:
        print(f"page: {report.html}   (open it in a browser)")


def report(report: Report) -> None:
    """Print what `report` wrote: the verdict, the counts, and the files."""
    print(report.verdict)
    for sentence in report.limits:
        print(f"- {sentence}")
    print(
        f"{report.measured} photos measured: {report.mistakes} mistakes; of all {report.photos} photos "
        f"{report.suspects} have a suspected label, and {report.copies} groups show the same picture"
    )
    if report.shown < report.photos:
        print(f"the page holds {report.shown} of the photos: mistakes and suspected labels first, others by chance")
    if report.difference:
        print(f"the difference: {points(report.difference)}, n={report.difference.n}")
    print(f"beside it: {', '.join((report.table, *report.figures))}")
    print(f"report: {report.report}   ({report.bytes / 1e6:.1f} MB; open it in a browser)")


def shards(report: ShardReport) -> None:
    """Print the files that `shard` wrote, with the number of photos in each, and the files that were left out."""
    print(f"{report.photos} photos of {len(report.classes)} classes in {report.out}")
    print_columns([(shard.file, str(shard.photos)) for shard in report.shards])
    if report.problems:
        print(f"files left out: {len(report.problems)}")
        _named(report.problems)


def embedded(report: EmbedReport) -> None:
    """Print what `embed` wrote, and the files that were left out."""
    print(f"{report.photos} photos with {report.features} features each, of {report.backbone}, in {report.out}")
    print(f"features: {report.computed} computed, {report.cached} cached")
    if report.problems:
        print(f"files left out: {len(report.problems)}")
        _named(report.problems)


def similar(reports: Sequence[SimilarPhotos], table: bool) -> None:
    """Print similar photos on stdout and errors on stderr.

    Args:
        reports: the similar photos of each photo that was asked about.
        table: True to print aligned columns under each photo for a person. False to print a line of cells separated by
            tabs for a program: the photo that was asked about, the similarity, the label, the path of the similar
            photo, and ``true`` or ``false`` for whether both have the same bytes.
    """
    for report in reports:
        if report.error:
            print(f"regraft: {printable(str(report.path))}: {printable(report.error)}", file=sys.stderr)
            continue
        rows = [(f"{one.similarity:.4f}", one.label or "", str(one.path), one.same) for one in report.similar]
        if table:
            print(printable(str(report.path)))
            print_columns([("", *cells, "the same photo" if same else "") for *cells, same in rows])
        else:
            for *cells, same in rows:
                print("\t".join(map(printable, (str(report.path), *cells, "true" if same else "false"))))


def _named(photos: Sequence[LeftOut | SuspectPhoto]) -> None:
    """Print the first photos of a list, each with the reason why it is listed."""
    for photo in photos[:_MOST_NAMED]:
        print(f"  {printable(photo.path)}: {printable(photo.reason)}")
    if len(photos) > _MOST_NAMED:
        print(f"  … and {len(photos) - _MOST_NAMED} more; --json names all")


def evaluation(found: Evaluation, side: str = "") -> None:
    """Print an evaluation: the metrics, the table of classes, and the surest mistakes.

    Args:
        found: the evaluation.
        side: the words before "accuracy", such as the side of the split; may be empty.
    """
    if found.interval is None or found.uncalibrated is None:
        print("no photo could be measured")
        return
    low, high = found.interval
    top5 = f", top-5 {found.top5:.1%}" if found.top5 is not None else ""
    print(
        f"{side}{' ' if side else ''}accuracy {found.accuracy:.1%} (95 % interval {low:.1%} to {high:.1%}, "
        f"n={found.n}){top5}"
    )
    before = found.uncalibrated
    print(
        f"log loss {found.log_loss:.3f} (before scaling {before.log_loss:.3f}), "
        f"calibration error {found.calibration_error:.3f} ({before.calibration_error:.3f})"
    )
    sizes = [c.n for c in found.per_class if c.n]
    if found.balanced_accuracy is not None and max(sizes) > _UNEQUAL * min(
        sizes
    ):  # an older regraft has no such figure
        print(f"each class counting alike: accuracy {found.balanced_accuracy:.1%}, macro-F1 {found.macro_f1:.3f}")
    if found.tells_answers:
        print(f"predict answers {found.right} right, {found.wrong} wrong, {found.refused} {NONE_OF_THESE}")
    print()
    rows: list[tuple[str, ...]] = [("class", "photos", "precision", "recall", "F1")]
    for c in found.per_class:
        rows.append((c.label, str(c.n), *(_share(share) for share in (c.precision, c.recall, c.f1))))
    print_columns(rows)
    if found.mistakes:
        print()
        surest = found.mistakes[:_MOST_NAMED]
        count = len(found.mistakes)
        print("the one mistake:" if count == 1 else f"surest of {count} mistakes:")
        print_columns([(f"{m.probability:.0%}", f"{m.label} → {m.predicted}", str(m.path)) for m in surest])
    print()


def whole_evaluation(report: EvaluationReport) -> None:
    """Print the report of `evaluate`: the evaluation, accuracy at coverage, reliability, and unknown photos.

    With an epoch in the report (``--once`` and ``--watch``), only the evaluation is printed.
    """
    if report.epoch is not None:
        evaluation(report, f"epoch {report.epoch}:")
        sys.stdout.flush()
        return
    evaluation(report)
    if report.n:
        rows = [("answered", "accuracy", "probability from")]
        rows += [(f"{c.share:.0%}", f"{c.accuracy:.3f}", f"{c.probability:.3f}") for c in report.coverage]
        print_columns(rows)
        print()
        _reliability(report)
    for group in report.unknown:
        low, high = group.interval
        print(
            f"unknown, {group.label}: {group.rejected:.1%} answered with none of these "
            f"(95 % interval {low:.1%} to {high:.1%}, n={group.n})"
        )


def _reliability(found: Evaluation) -> None:
    """Print the accuracy in each confidence bin that has photos, with and without temperature scaling."""
    rows: list[tuple[str, ...]] = [("confidence", "photos", "accuracy", "photos before scaling", "accuracy")]
    bins_before = found.uncalibrated.reliability if found.uncalibrated else ()
    for after, before in zip(found.reliability, bins_before, strict=True):
        if after.n or before.n:
            cells = [cell for b in (after, before) for cell in (str(b.n), _share(b.accuracy))]
            rows.append((f"{after.low:.2f} to {after.high:.2f}", *cells))
    print_columns(rows)
    print()


def demo(report: TrainingReport) -> None:
    """Print the report of `demo`: the report of the training, and three commands to try next."""
    training(report)
    run = shlex.quote(report.run)
    mistakes = report.measured[1].mistakes
    photo = shlex.quote(str(mistakes[0].path)) if mistakes else "PHOTO.jpg"
    print()
    print("Trained on real photos of solar cells: is the cell functional or defective? Three commands to try next:")
    print(f"  regraft predict {run} {photo}")
    print(f"  tensorboard --logdir {run}/logs")
    print("  regraft train PHOTOS     where PHOTOS holds one folder of photos for each class")


def predictions(chunks: Iterable[Sequence[Prediction]], top: int, table: bool) -> Iterator[Prediction]:
    """Print answers on stdout and errors on stderr as soon as they come, and yield each answer.

    Args:
        chunks: the answers in chunks; each chunk is printed before the next is computed.
        top: the number of classes of each answer that are printed.
        table: True to print aligned columns for a person, with *none of these* for a photo that is rejected. False to
            print a line of cells separated by tabs for a program: the path, the best label and its probability,
            ``true`` or ``false`` for whether the photo is rejected, and then the next labels and probabilities.
    """
    widths: list[int] = []
    for chunk in chunks:
        readable = [replace(answer, top=answer.top[:top]) for answer in chunk if answer.error is None]
        if table:
            print_columns([_columns(answer) for answer in readable], widths)
        else:
            for answer in readable:
                print("\t".join(printable(cell) for cell in _tabbed(answer)))
        sys.stdout.flush()
        for answer in chunk:
            if answer.error is not None:
                print(f"regraft: {printable(str(answer.path))}: {printable(answer.error)}", file=sys.stderr)
        yield from chunk


def json_array(chunks: Iterable[Sequence[Prediction]], top: int) -> Iterator[Prediction]:
    """Print answers, each with ``top`` classes, as one JSON array as soon as they come, and yield each answer."""
    before = "[\n"
    for chunk in chunks:
        for answer in chunk:
            text = as_json(replace(answer, top=answer.top[:top]).to_dict())
            print(before + "  " + text.replace("\n", "\n  "), end="")
            before = ",\n"
        sys.stdout.flush()
        yield from chunk
    print("\n]" if before == ",\n" else "[]")


def answers_kept(report: Kept) -> None:
    """Print on stderr how many answers are in a file of answers, and how many of them are rejected or errors."""
    before = f", {report.before} of them before" if report.before else ""
    say(
        f"{report.photos} answers are in {report.out}{before}: {report.rejected} {NONE_OF_THESE}, "
        f"{report.unreadable} could not be read"
    )


def _columns(answer: Prediction) -> list[str]:
    """Return the cells of an answer for the table that a person reads."""
    top = [(label, f"{p:.4f}") for label, p in answer.top]
    top = [(NONE_OF_THESE, "-"), *top[:-1]] if answer.novel else top
    return [str(answer.path), *(part for pair in top for part in pair)]


def _tabbed(answer: Prediction) -> list[str]:
    """Return the cells of an answer for the line that a program reads."""
    best, *others = [(label, f"{p:.4f}") for label, p in answer.top]
    return [str(answer.path), *best, "true" if answer.novel else "false", *(part for pair in others for part in pair)]


def exported(report: Export) -> None:
    """Print the report of `export`: the artifact in a table of one row, and its comparison with the run."""
    found = report.comparison
    low, high = found.interval
    head = ("file", "bytes", "agreement", "accuracy", "95 % interval", "ms per photo", "peak MiB")
    row = (
        str(report.artifact),
        f"{report.bytes:,}",
        f"{found.agreement:.1%}",
        f"{found.accuracy:.1%}",
        f"{low:.1%} to {high:.1%}",
        f"{found.ms:g}",
        str(found.mebibytes),
    )
    print_columns([head, row])
    print()
    print(
        f"compared with the run, computed in fp32, on {found.n} {found.side} photos: its accuracy is "
        f"{found.run_accuracy:.1%}, "
        f"probabilities differ by at most {found.difference:.2g}"
    )
    for name, decisions in ((f"{found.side} photos", found.known), ("strangers", found.strangers)):
        if decisions and decisions.same is not None:
            print(
                f"none of these: {decisions.rejected:.1%} of {decisions.n} {name}, the run "
                f"{decisions.run_rejected:.1%}; both decide alike on {decisions.same:.1%}"
            )
    plain, proper, n = found.plain
    print(f"photos scaled without antialiasing, as most apps do: {plain:.1%} in place of {proper:.1%}, n={n}")
    print(f"beside it: MODEL_CARD.md, PREPROCESSING.md, example.py, labels.txt in {report.folder}")


def facts(document: Mapping[str, Any], indent: str = "") -> None:
    """Print a document of nested facts, one fact on each line; a list of records becomes a table."""
    for key, value in document.items():
        if isinstance(value, Mapping):
            print(f"{indent}{key}:")
            facts(value, indent + "  ")
        elif isinstance(value, list | tuple) and value and isinstance(value[0], Mapping):
            columns = list(dict.fromkeys(name for item in value for name in item))
            cells = [["" if item.get(name) is None else str(item[name]) for name in columns] for item in value]
            print_columns([columns, *cells])
        else:
            text = ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
            print(f"{indent}{key}: {printable(text)}")


def _share(value: float | None) -> str:
    """Return a metric with three decimals, or a dash where the metric is missing."""
    return "–" if value is None else f"{value:.3f}"
