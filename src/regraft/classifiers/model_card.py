"""The manifest and metrics of a run → MODEL_CARD.md: classes, accuracy, training data and limits of the classifier.

In: the manifest and the metrics of a run. Out: Markdown.
Why: a classifier that is passed on without its data and its limits will be trusted where it should not be.
Surprise: the card says nothing that was not measured or recorded; there is no template prose to fill in.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from regraft.classifiers.evaluation import Evaluation
from regraft.classifiers.metrics import Copies, FineTuned, Metrics
from regraft.foundation.console import printable

# The characters that Markdown would not show as they are. An underscore within a word is plain text. "://", "www." and
# "@" are in the pattern because renderers turn addresses into links.
_MARKUP = re.compile(r"[\\`*\[\]<>&|~$@]|(?<![^\W_])_|_(?![^\W_])|:(?=//)|(?<=www)\.", re.IGNORECASE)


def markdown(text: str) -> str:
    """Return Markdown that shows ``text`` literally: nothing in the text acts as HTML, link, table or heading.

    Special characters become numeric character references, which every renderer understands; control characters are
    escaped as on the terminal.
    """
    return _MARKUP.sub(lambda found: f"&#{ord(found[0])};", printable(text))


_USE = ("## Use", "", "```", "regraft predict RUN photo.jpg", "```", "")


def model_card(manifest: Mapping[str, Any], metrics: Metrics, use: Sequence[str] = _USE) -> str:
    """Return the model card of a run as Markdown.

    Args:
        manifest: the document of the run's manifest.
        metrics: the counts and metrics of the run.
        use: the last lines of the card, which say how to use the classifier.
    """
    backbone, data, made_by = manifest["backbone"], manifest["data"], manifest["made_by"]
    side, measured = metrics.measured
    lines = [
        f"# Classifier of {len(manifest['classes'])} classes",
        "",
        f"Classes: {', '.join(map(markdown, manifest['classes']))}.",
        f"A {markdown(manifest['head'])} head on {_features(metrics.finetuned, backbone)} of "
        f"{markdown(backbone['name'])} (weights {markdown(backbone['licence'])}) at {_sizes(backbone)} px, made by "
        f"regraft {markdown(made_by['regraft'])}.",
        "",
        "## Data",
        "",
        f"{data['photos']} photos: {metrics.counts}; "
        f"{len(metrics.problems)} files were left out. Digest {markdown(data['digest'][:16])}.",
        *_copies(metrics.duplicate_groups),
        "",
        "## Measured",
        "",
        *_measured(measured, side, "all of them" if metrics.finetuned is None else "all but those of val"),
        "",
        "## Limits",
        "",
        *_limits(manifest.get("calibration", {}), measured),
        "The figures hold for photos taken like those it was trained on; measure it on your own with",
        "`regraft evaluate RUN PHOTOS`.",
        "",
        *use,
    ]
    return "\n".join(lines)


def _sizes(backbone: Mapping[str, Any]) -> str:
    """Return the photo sizes of a backbone and its parts in pixels, with a plus between them."""
    parts = backbone.get("parts") or [backbone]
    return "+".join(dict.fromkeys(str(part["transform"]["size"]) for part in parts))


def _features(finetuned: FineTuned | None, backbone: Mapping[str, Any]) -> str:
    """Return the words for the features: frozen, or fine-tuned in so many blocks or for an older run."""
    if finetuned is None:
        return "the fine-tuned features" if backbone.get("options", {}).get("tuned") else "frozen features"
    return f"features, {f'the last {finetuned.blocks}' if finetuned.blocks else 'all'} blocks fine-tuned,"


def _limits(calibration: Mapping[str, Any], measured: Evaluation) -> list[str]:
    """Return the lines about photos of none of the classes."""
    if calibration.get("threshold") is None:
        return ["The classifier answers every photo with one of its classes, also a photo of something else."]
    share = f"; so were {measured.rejected or 0:.1%} of these photos" if measured.n else ""
    return [
        f"Photos unlike those it was trained on (novelty above {calibration['threshold']:.3f}) are answered with",
        f'"none of these"{share}. That catches many photos of other things, never all of them.',
    ]


def _copies(found: Copies | None) -> list[str]:
    """Return the line about photos that show the same picture; no line where there are none."""
    if found is None or not found.groups:
        return []
    return [f"{found.photos} photos are copies of each other, in {found.groups} groups."]


def _answered(evaluation: Evaluation) -> list[str]:
    """Return the lines that count the answers of `predict`; no line for the evaluation of an older regraft."""
    if not evaluation.tells_answers:
        return []
    return [
        f"`regraft predict` answers {evaluation.right} of them right, {evaluation.wrong} wrong, and "
        f'{evaluation.refused} with "none of these".'
    ]


_HOW = {
    "test": "",
    "val": " The head was chosen on these photos too, so the figures are a little too good.",
    "folds": " Each photo was answered by a classifier that was not trained on it, in turns (cross-validation); the "
    "classifier itself is trained on {trained}.",
}
"""By what was measured, the sentence that says how."""


def _alike(evaluation: Evaluation) -> str:
    """Return the sentence with the metrics in which each class counts alike; empty for those of an older regraft."""
    if evaluation.balanced_accuracy is None:
        return ""
    return f" Balanced accuracy {evaluation.balanced_accuracy:.1%}, macro-F1 {evaluation.macro_f1:.3f}."


def _measured(evaluation: Evaluation, side: str, trained: str) -> list[str]:
    """Return the lines with the metrics on one side of the split, and a table of the classes.

    Args:
        evaluation: the metrics.
        side: ``test``, ``val`` or ``folds``.
        trained: on which photos the classifier is trained where folds measure it.
    """
    if evaluation.interval is None:
        return ["Nothing: no photo was kept for measuring."]
    low, high = evaluation.interval
    photos = "photos" if side == "folds" else f"{side} photos"
    rows = [
        f"Accuracy on {evaluation.n} {photos}: {evaluation.accuracy:.1%} (95 % interval {low:.1%} to "
        f"{high:.1%}). Log loss {evaluation.log_loss:.3f}, calibration error "
        f"{evaluation.calibration_error:.3f}.{_alike(evaluation)}{_HOW[side].format(trained=trained)}",
        *_answered(evaluation),
        "",
        "| class | photos | precision | recall |",
        "|---|---|---|---|",
    ]
    for row in evaluation.per_class:
        precision, recall = ("–" if share is None else f"{share:.3f}" for share in (row.precision, row.recall))
        rows.append(f"| {markdown(row.label)} | {row.n} | {precision} | {recall} |")
    return rows
