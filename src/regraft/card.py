"""A run's manifest and metrics → MODEL_CARD.md: what it is, how good, how it was made, what it is not for.

In: the two dictionaries of the run folder. Out: Markdown.
Why: a classifier that is passed on without its data and its limits will be trusted where it should not be.
Surprise: it says nothing that was not measured or recorded; there is no template prose to fill in.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from regraft._console import printable
from regraft.images import Transform

# An underscore within a word means nothing; "://", "www." and "@" make links of themselves.
_MARKUP = re.compile(r"[\\`*\[\]<>&|~$@]|(?<![^\W_])_|_(?![^\W_])|:(?=//)|(?<=www)\.", re.IGNORECASE)


def markdown(text: str) -> str:
    """Return ``text`` as Markdown that shows it as it is, whatever a stranger wrote: no HTML, link, table or heading.

    Escaped by number, which every renderer understands; control characters stand as on the terminal.
    """
    return _MARKUP.sub(lambda found: f"&#{ord(found[0])};", printable(text))


def model_card(manifest: Mapping[str, Any], metrics: Mapping[str, Any], export: Mapping[str, Any] | None = None) -> str:
    """The card's text, of a run, or of an ``export`` of it (`Export.to_dict`)."""
    backbone, data, made_by = manifest["backbone"], manifest["data"], manifest["made_by"]
    counts = metrics["counts"]
    side = "test" if metrics["test"]["n"] else "val"
    lines = [
        f"# Classifier of {len(manifest['classes'])} classes",
        "",
        f"Classes: {', '.join(map(markdown, manifest['classes']))}.",
        f"A {markdown(manifest['head'])} head on {_features(metrics.get('finetuned'))} of {markdown(backbone['name'])} "
        f"(weights {markdown(backbone['licence'])}) at {backbone['transform']['size']} px, made by regraft "
        f"{markdown(made_by['regraft'])}.",
        "",
        "## Data",
        "",
        f"{data['photos']} photos: {counts['train']} train, {counts['val']} val, {counts['test']} test; "
        f"{len(metrics['problems'])} files were left out. Digest {markdown(data['digest'][:16])}.",
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
        *(_exported(export) if export else ["## Use", "", "```", "regraft predict RUN photo.jpg", "```", ""]),
    ]
    return "\n".join(lines)


def preprocessing(transform: Transform) -> str:
    """What an app must do to a photo before it goes into an export, as a short specification."""
    kept = (
        "Take the whole photo, whatever its shape."
        if transform.crop is None
        else f"Cut out the square in its centre, {transform.crop:.1%} of the shorter side long."
    )
    lines = [
        "# Before the model",
        "",
        "1. Decode the photo to RGB, 8 bits a channel, in sRGB; show transparency on white.",
        "2. Turn it upright by its EXIF orientation.",
        f"3. {kept}",
        f"4. Scale that to {transform.size} × {transform.size} pixels, {transform.resample} with antialiasing",
        "   (Pillow's `resize`, OpenCV's `INTER_AREA`; plain bilinear costs what the model card says).",
        f"5. Hand it over as uint8 of the shape (1, {transform.size}, {transform.size}, 3), red first. Nothing is "
        "subtracted or divided: mean, deviation, temperature and softmax are inside.",
        "",
        "Out come `probabilities` (1, C), in the order of `labels.txt`, and `novelty` (1,). Where novelty is above the",
        "threshold in the file's metadata, the photo is of none of the classes.",
        "",
    ]
    return "\n".join(lines)


def _exported(export: Mapping[str, Any]) -> list[str]:
    found = export["comparison"]
    low, high = found["interval"]
    plain, proper, n = found["plain"]
    quantized = f", quantised to {export['quantize']}" if export["quantize"] else ""
    artifact = export["artifact"].replace("\\", "/").rpartition("/")[2]
    return [
        "## This export",
        "",
        f"`{artifact}`: {export['format']}{quantized}, {export['bytes'] / 1e6:.1f} MB. It was read again in its own",
        f"runtime and asked about {found['n']} {found['side']} photos of the run: it gives the run's answer to",
        f"{found['agreement']:.1%}, its probabilities differ by at most {found['difference']:.2g}.",
        f"Accuracy {found['accuracy']:.1%} (95 % interval {low:.1%} to {high:.1%}), the run's "
        f"{found['run_accuracy']:.1%}.",
        *_none_of_these(found),
        f"Where photos are scaled without antialiasing, as most apps do, {plain:.1%} in place of {proper:.1%} (n={n}).",
        f"{found['ms']:g} ms a photo where it was made, {found['mebibytes']} MiB.",
        "",
        "## Use",
        "",
        "`PREPROCESSING.md` says what to do to a photo first; `example.py` does it:",
        "",
        "```",
        "python example.py photo.jpg",
        "regraft predict . photo.jpg",
        "```",
        "",
    ]


def _none_of_these(found: Mapping[str, Any]) -> list[str]:
    """How the export and its run decide on "none of these", two lines for each kind of photos."""
    strangers = "photos of none of the classes (noise, flat colours, solar cells where they are installed)"
    kinds = ((f"{found['side']} photos", found["known"]), (strangers, found["strangers"]))
    return [
        f'It answers "none of these" to {one["rejected"]:.1%} of {one["n"]} {photos},\n'
        f"the run to {one['run_rejected']:.1%}; both decide alike on {one['same']:.1%}."
        for photos, one in kinds
        if one and one["same"] is not None
    ]


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


def _answered(evaluation: Mapping[str, Any]) -> list[str]:
    """Runs made before these were counted do not tell."""
    if "right" not in evaluation:
        return []
    return [
        f"`regraft predict` answers {evaluation['right']} of them right, {evaluation['wrong']} wrong, and "
        f'{evaluation["refused"]} with "none of these".'
    ]


def _measured(evaluation: Mapping[str, Any], side: str) -> list[str]:
    if not evaluation["n"]:
        return ["Nothing: there were too few photos to keep any for measuring."]
    low, high = evaluation["interval"]
    chosen = "" if side == "test" else " These photos also chose the head, so the figures flatter a little."
    rows = [
        f"Accuracy on {evaluation['n']} {side} photos: {evaluation['accuracy']:.1%} (95 % interval {low:.1%} to "
        f"{high:.1%}). Log loss {evaluation['log_loss']:.3f}, calibration error "
        f"{evaluation['calibration_error']:.3f}.{chosen}",
        *_answered(evaluation),
        "",
        "| class | photos | precision | recall |",
        "|---|---|---|---|",
    ]
    for row in evaluation["per_class"]:
        precision, recall = ("–" if row[k] is None else f"{row[k]:.3f}" for k in ("precision", "recall"))
        rows.append(f"| {markdown(row['label'])} | {row['n']} | {precision} | {recall} |")
    return rows
