"""A run's manifest and metrics → MODEL_CARD.md: what it is, how good, how it was made, what it is not for.

In: the two dictionaries of the run folder. Out: Markdown.
Why: a classifier that is passed on without its data and its limits will be trusted where it should not be.
Surprise: it says nothing that was not measured or recorded; there is no template prose to fill in.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def model_card(manifest: Mapping[str, Any], metrics: Mapping[str, Any]) -> str:
    """The card's text."""
    backbone, data, made_by = manifest["backbone"], manifest["data"], manifest["made_by"]
    counts = metrics["counts"]
    side = "test" if metrics["test"]["n"] else "val"
    lines = [
        f"# Classifier of {len(manifest['classes'])} classes",
        "",
        f"Classes: {', '.join(manifest['classes'])}.",
        f"A {manifest['head']} head on {_features(metrics.get('finetuned'))} of {backbone['name']} "
        f"(weights {backbone['licence']}) at {backbone['transform']['size']} px, made by regraft {made_by['regraft']}.",
        "",
        "## Data",
        "",
        f"{data['photos']} photos: {counts['train']} train, {counts['val']} val, {counts['test']} test; "
        f"{len(metrics['problems'])} files were left out. Digest `{data['digest'][:16]}`.",
        *_copies(metrics.get("duplicate_groups")),
        "",
        "## Measured",
        "",
        *_measured(metrics[side], side),
        "",
        "## Limits",
        "",
        *_limits(manifest.get("calibration", {}), metrics[side]),
        "The figures hold for photos taken like those it was trained on; measure it on your own with",
        "`regraft evaluate RUN PHOTOS`.",
        "",
        "## Use",
        "",
        "```",
        "regraft predict RUN photo.jpg",
        "```",
        "",
    ]
    return "\n".join(lines)


def _features(finetuned: Mapping[str, Any] | None) -> str:
    if not finetuned:
        return "frozen features"
    return (
        f"features, {'all' if not finetuned['blocks'] else 'the last ' + str(finetuned['blocks'])} blocks fine-tuned,"
    )


def _limits(calibration: Mapping[str, Any], measured: Mapping[str, Any]) -> list[str]:
    if calibration.get("threshold") is None:
        return ["It answers with one of its classes whatever it is shown, also a photo of none of them."]
    share = f"; so were {measured['rejected']:.1%} of these photos" if measured["n"] else ""
    return [
        f"Photos unlike those it was trained on (novelty above {calibration['threshold']:.3f}) are answered with",
        f'"none of these"{share}. That catches many photos of other things, never all of them.',
    ]


def _copies(found: Mapping[str, int] | None) -> list[str]:
    """Runs made before copies were looked for do not tell."""
    if not found or not found["groups"]:
        return []
    return [f"{found['photos']} photos are copies of each other, in {found['groups']} groups, each on one side."]


def _measured(evaluation: Mapping[str, Any], side: str) -> list[str]:
    if not evaluation["n"]:
        return ["Nothing: there were too few photos to keep any for measuring."]
    low, high = evaluation["interval"]
    chosen = "" if side == "test" else " These photos also chose the head, so the figures flatter a little."
    rows = [
        f"Accuracy on {evaluation['n']} {side} photos: {evaluation['accuracy']:.1%} (95 % interval {low:.1%} to "
        f"{high:.1%}). Log loss {evaluation['log_loss']:.3f}, calibration error "
        f"{evaluation['calibration_error']:.3f}.{chosen}",
        "",
        "| class | photos | precision | recall |",
        "|---|---|---|---|",
    ]
    for row in evaluation["per_class"]:
        precision, recall = ("–" if row[k] is None else f"{row[k]:.3f}" for k in ("precision", "recall"))
        rows.append(f"| {row['label'].replace('|', chr(92) + '|')} | {row['n']} | {precision} | {recall} |")
    return rows
