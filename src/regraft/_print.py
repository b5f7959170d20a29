"""Results as text for people, on stdout. Plain lines: they paste well, and cost no import."""

from __future__ import annotations

import shlex
import sys
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import zip_longest
from typing import Any

from regraft._console import as_json, printable, say
from regraft._console import printed as print  # noqa: A004 (nothing here reaches a terminal unescaped)
from regraft.paired import points
from regraft.prediction import Prediction

NONE_OF_THESE = "none of these"
_MISTAKES = 10
_ANSWERED = {"right": "right", "wrong": "wrong", "refused": NONE_OF_THESE}


def training(document: Mapping[str, Any]) -> None:
    """What `train` did."""
    counts, seconds, features = document["counts"], document["seconds"], document["features"]
    total = sum(counts.values())
    print(f"{total} photos of {len(document['classes'])} classes: " + ", ".join(f"{n} {s}" for s, n in counts.items()))
    if groups := document.get("groups"):
        print(f"{sum(groups.values())} groups stay whole: " + ", ".join(f"{n} {s}" for s, n in groups.items()))
    if document["problems"]:
        print(f"files left out: {len(document['problems'])} (listed in metrics.json)")
    print(f"features: {features['computed']} computed, {features['cached']} cached")
    side = "test" if counts["test"] else "val"
    if counts[side]:
        evaluation({**document[side], "side": side})
        if "finetuned" in document:
            _beside_frozen(document["finetuned"], side)
    print(f"run: {document['run']}   ({seconds['total']:.1f} s)")


def _beside_frozen(finetuned: Mapping[str, Any], measured: str) -> None:
    """What fine-tuning changed on the same photos; of a run from before that was kept, the accuracy it began with."""
    if "beside" not in finetuned:
        print(f"before fine-tuning: {measured} accuracy {_share(finetuned['frozen'][measured])}")
        return
    print("fine-tuning, on the same photos:")
    for side, found in finetuned["beside"].items():
        before, after, right = found["before"], found["after"], found["accuracy"]
        print(
            f"  {side} accuracy {before['accuracy']:.1%} → {after['accuracy']:.1%} ({points(right)}, "
            f"{right['gained']} of {right['n']} photos became right, {right['lost']} wrong), "
            f"log loss {before['log_loss']:.3f} → {after['log_loss']:.3f}"
        )
        if after["rejected"] is not None:
            print(f"  {side} answered with none of these {before['rejected'] or 0:.1%} → {after['rejected']:.1%}")


def sweep(document: Mapping[str, Any]) -> None:
    """What was tried, the best first; then the best on test, and how to have it again."""
    rows = [("trial", "val accuracy", "log loss", "seconds")]
    for trial in document["trials"]:
        loss = "–" if trial["log_loss"] is None else f"{trial['log_loss']:.3f}"
        rows.append((trial["name"], _share(trial["accuracy"]), loss, f"{trial['seconds']:.1f}"))
    _table(rows)
    for trial in document["trials"]:
        if trial["error"]:
            print(f"{trial['name']} failed: {trial['error']}")
    print()
    print(f"best, by val accuracy: {document['best']['name']}")
    if document["best"]["test"]["n"]:
        evaluation({**document["best"]["test"], "side": "test"})
    print(f"run: {document['best']['run']}   ({document['seconds']:.1f} s)")
    print(f"again: {document['command']}")


def audit(document: Mapping[str, Any]) -> None:
    """What `check` found, the worst first, each kind with its worst photos."""
    counts, findings = document["counts"], document["findings"]
    print(f"{document['photos']} photos of {len(counts)} classes can be read")
    _table([(label, str(count)) for label, count in counts.items()])
    for found in findings:
        print()
        print(f"{found['kind']}: {found['count']}   {found['why']}")
        for line in found["classes"]:
            print(f"  {printable(line)}")
        for photo in found["photos"][:_MISTAKES]:
            print(f"  {printable(photo['path'])}: {printable(photo['reason'])}")
        if len(found["photos"]) > _MISTAKES:
            print(f"  … and {len(found['photos']) - _MISTAKES} more; --json names all")
    print()
    if document["hint"]:
        print(printable(document["hint"]))
    if document["impossible"]:
        print(f"no classifier can be trained: {document['impossible']}")
    else:
        print("nothing was found wrong" if not findings else "a classifier can be trained on these photos")


def shards(document: Mapping[str, Any]) -> None:
    """What `shard` wrote."""
    print(f"{document['photos']} photos of {len(document['classes'])} classes in {document['out']}")
    _table([(shard["file"], str(shard["photos"])) for shard in document["shards"]])
    if document["problems"]:
        print(f"files left out: {len(document['problems'])}")
        for problem in document["problems"][:_MISTAKES]:
            print(f"  {printable(problem['path'])}: {printable(problem['reason'])}")
        if len(document["problems"]) > _MISTAKES:
            print(f"  … and {len(document['problems']) - _MISTAKES} more; --json names all")


def evaluation(document: Mapping[str, Any]) -> None:
    """An evaluation: the figures, each class, the surest mistakes."""
    if not document["n"]:
        print("no photo could be measured")
        return
    low, high = document["interval"]
    side = f"{document['side']} " if "side" in document else ""
    top5 = f", top-5 {document['top5']:.1%}" if document["top5"] is not None else ""
    print(f"{side}accuracy {document['accuracy']:.1%} (95 % interval {low:.1%} to {high:.1%}, n={document['n']}){top5}")
    before = document["uncalibrated"]
    print(
        f"log loss {document['log_loss']:.3f} (before scaling {before['log_loss']:.3f}), "
        f"calibration error {document['calibration_error']:.3f} ({before['calibration_error']:.3f})"
    )
    if "right" in document:  # runs made before these were counted do not tell
        counts = (f"{document[key]} {word}" for key, word in _ANSWERED.items())
        print(f"predict answers {', '.join(counts)}")
    print()
    rows = [("class", "photos", "precision", "recall", "F1")]
    for c in document["per_class"]:
        rows.append((c["label"], str(c["n"]), *(_share(c[k]) for k in ("precision", "recall", "f1"))))
    _table(rows)
    if document["mistakes"]:
        print()
        print(f"surest of {len(document['mistakes'])} mistakes:")
        _table([(f"{m['probability']:.0%}", f"{m['label']} → {m['predicted']}", m["path"]) for m in _first(document)])
    print()


def whole_evaluation(document: Mapping[str, Any]) -> None:
    """`evaluation`, then accuracy at coverage, reliability, and photos of none of the classes."""
    evaluation(document)
    if document["n"]:
        rows = [("answered", "accuracy", "probability from")]
        rows += [(f"{c['share']:.0%}", f"{c['accuracy']:.3f}", f"{c['probability']:.3f}") for c in document["coverage"]]
        _table(rows)
        print()
        _reliability(document)
    for group in document.get("unknown", []):
        low, high = group["interval"]
        print(
            f"unknown, {group['label']}: {group['rejected']:.1%} answered with none of these "
            f"(95 % interval {low:.1%} to {high:.1%}, n={group['n']})"
        )


def _reliability(document: Mapping[str, Any]) -> None:
    """How often answers of like confidence are right, before and after scaling; bins without photos left out."""
    rows: list[tuple[str, ...]] = [("confidence", "photos", "accuracy", "photos before scaling", "accuracy")]
    for after, before in zip(document["reliability"], document["uncalibrated"]["reliability"], strict=True):
        if after["n"] or before["n"]:
            cells = [cell for b in (after, before) for cell in (str(b["n"]), _share(b["accuracy"]))]
            rows.append((f"{after['low']:.2f} to {after['high']:.2f}", *cells))
    _table(rows)
    print()


def demo(document: Mapping[str, Any]) -> None:
    """`training`, then what to try next."""
    training(document)
    run = shlex.quote(document["run"])
    photo = shlex.quote(document["test"]["mistakes"][0]["path"]) if document["test"]["mistakes"] else "PHOTO.jpg"
    print()
    print("Trained on real photos of solar cells: is the cell functional or defective? Three commands to try next:")
    print(f"  regraft predict {run} {photo}")
    print(f"  tensorboard --logdir {run}/logs")
    print("  regraft train PHOTOS     where PHOTOS holds one folder of photos for each class")


def predictions(chunks: Iterable[Sequence[Prediction]], top: int, table: bool) -> Iterator[Prediction]:
    """Print answers as they come, errors on stderr, and yield each.

    Args:
        chunks: the answers, several at a time; each time all of them are printed, and none is kept back.
        top: how many classes of each answer are printed.
        table: print columns for a person, where *none of these* stands for a photo that is rejected; else a line of
            cells with tabs between them for a program: the path, the best label and its probability, ``true`` where
            the photo is rejected and ``false`` where not, and then the labels and probabilities that come next.
    """
    widths: list[int] = []
    for chunk in chunks:
        told = [replace(answer, top=answer.top[:top]) for answer in chunk if answer.error is None]
        if table:
            _table([_columns(answer) for answer in told], widths)
        else:
            for answer in told:
                print("\t".join(printable(cell) for cell in _tabbed(answer)))
        sys.stdout.flush()
        for answer in chunk:
            if answer.error is not None:
                print(f"regraft: {printable(str(answer.path))}: {printable(answer.error)}", file=sys.stderr)
        yield from chunk


def json_array(chunks: Iterable[Sequence[Prediction]], top: int) -> Iterator[Prediction]:
    """Print answers, each with ``top`` classes, as one JSON array, as they come, and yield each."""
    before = "[\n"
    for chunk in chunks:
        for answer in chunk:
            text = as_json(replace(answer, top=answer.top[:top]).to_dict())
            print(before + "  " + text.replace("\n", "\n  "), end="")
            before = ",\n"
        sys.stdout.flush()
        yield from chunk
    print("\n]" if before == ",\n" else "[]")


def answers_kept(document: Mapping[str, Any]) -> None:
    """Say what is in a file of answers."""
    before = f", {document['before']} of them before" if document["before"] else ""
    say(
        f"{document['photos']} answers are in {document['out']}{before}: {document['rejected']} {NONE_OF_THESE}, "
        f"{document['unreadable']} could not be read"
    )


def _columns(answer: Prediction) -> list[str]:
    top = [(label, f"{p:.4f}") for label, p in answer.top]
    top = [(NONE_OF_THESE, "-"), *top[:-1]] if answer.novel else top
    return [str(answer.path), *(part for pair in top for part in pair)]


def _tabbed(answer: Prediction) -> list[str]:
    best, *others = [(label, f"{p:.4f}") for label, p in answer.top]
    return [str(answer.path), *best, "true" if answer.novel else "false", *(part for pair in others for part in pair)]


def exported(document: Mapping[str, Any]) -> None:
    """An export, as a table of one row, and what to know beside it."""
    found = document["comparison"]
    low, high = found["interval"]
    head = ("file", "bytes", "agreement", "accuracy", "95 % interval", "ms per photo", "peak MiB")
    row = (
        document["artifact"],
        f"{document['bytes']:,}",
        f"{found['agreement']:.1%}",
        f"{found['accuracy']:.1%}",
        f"{low:.1%} to {high:.1%}",
        f"{found['ms']:g}",
        str(found["mebibytes"]),
    )
    _table([head, row])
    print()
    print(
        f"compared with the run on {found['n']} {found['side']} photos: its accuracy is {found['run_accuracy']:.1%}, "
        f"probabilities differ by at most {found['difference']:.2g}"
    )
    for name, decisions in ((f"{found['side']} photos", found["known"]), ("strangers", found["strangers"])):
        if decisions and decisions["same"] is not None:
            print(
                f"none of these: {decisions['rejected']:.1%} of {decisions['n']} {name}, the run "
                f"{decisions['run_rejected']:.1%}; both decide alike on {decisions['same']:.1%}"
            )
    plain, proper, n = found["plain"]
    print(f"photos scaled without antialiasing, as most apps do: {plain:.1%} in place of {proper:.1%}, n={n}")
    print(f"beside it: MODEL_CARD.md, PREPROCESSING.md, example.py, labels.txt in {document['folder']}")


def facts(document: Mapping[str, Any], indent: str = "") -> None:
    """Nested facts, a line each."""
    for key, value in document.items():
        if isinstance(value, Mapping):
            print(f"{indent}{key}:")
            facts(value, indent + "  ")
        elif isinstance(value, list | tuple) and value and isinstance(value[0], Mapping):
            columns = list(dict.fromkeys(name for item in value for name in item))
            cells = [["" if item.get(name) is None else str(item[name]) for name in columns] for item in value]
            _table([columns, *cells])
        else:
            text = ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
            print(f"{indent}{key}: {printable(text)}")


def _first(document: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return list(document["mistakes"][:_MISTAKES])


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _table(rows: Sequence[Sequence[str]], widest: list[int] | None = None) -> None:
    """Columns aligned by what a terminal shows: a Korean letter is two cells wide.

    ``widest`` holds the widths of the columns so far, where more rows than these make up the table.
    """
    cells = [[printable(cell) for cell in row] for row in rows]
    widths = [max(_width(row[i]) for row in cells) for i in range(len(cells[0]))] if cells else []
    if widest is not None and widths:
        widest[:] = [max(pair) for pair in zip_longest(widest, widths, fillvalue=0)]
        widths = widest
    for row in cells:
        print("  ".join(cell + " " * (w - _width(cell)) for cell, w in zip(row, widths, strict=True)).rstrip())


def _width(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 0 if unicodedata.combining(c) else 1 for c in text)
