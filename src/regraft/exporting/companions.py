"""Write the files beside an exported artifact: model card, preprocessing, labels, example program, report.

In: a run, its artifact, and the comparison of both. Out: the files in the export's folder.
Why: an artifact alone says neither what its outputs mean nor how a photo has to be preprocessed.
Surprise: the report is written last, so that a folder without a report is not a complete export.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from regraft.classifiers.classifier import Classifier
from regraft.classifiers.metrics import Metrics
from regraft.classifiers.model_card import model_card
from regraft.classifiers.run_folder import LAYOUT, read_manifest
from regraft.exporting.comparison import Comparison
from regraft.exporting.example_program import example
from regraft.exporting.formats.base import REPORT, Exporter, Facts, digests
from regraft.foundation.files import write_json, write_text
from regraft.photos.images import Transform


@dataclass(frozen=True, slots=True)
class Export:
    """The result of `export`.

    Attributes:
        folder: the export's folder.
        artifact: the path of the exported file or folder, in ``folder``.
        format: the name of the format, such as ``onnx``.
        quantize: the quantisation, such as ``int8``; empty for none.
        bytes: the size of the artifact.
        comparison: how the artifact answers, beside the run.
    """

    folder: Path
    artifact: Path
    format: str
    quantize: str
    bytes: int
    comparison: Comparison

    def to_dict(self) -> dict[str, Any]:
        """Return the export as JSON values."""
        return {**asdict(self), "folder": str(self.folder), "artifact": str(self.artifact)}


def write_companions(folder: Path, classifier: Classifier, exporter: Exporter, made: Export) -> None:
    """Write model card, preprocessing, labels, example program and, at the end, the report.

    Args:
        folder: the folder that holds the artifact.
        classifier: the run that was exported.
        exporter: the exporter that wrote the artifact.
        made: the export, with its final paths and the comparison.
    """
    manifest = read_manifest(classifier.path or Path()).document
    facts = Facts.of(classifier)
    card = model_card(manifest, Metrics.from_dict(classifier.metrics), use_of(made))
    write_text(folder / LAYOUT.card, card)
    write_text(
        folder / "PREPROCESSING.md",
        _preprocessing_of(classifier),
    )
    write_text(folder / LAYOUT.labels, "".join(f"{label}\n" for label in facts.classes))
    write_text(folder / "example.py", example(exporter, made.format))
    report = {
        "schema": 1,
        **made.to_dict(),
        "files": digests(folder / exporter.artifact),
        "facts": json.loads(facts.to_json()),
    }
    write_json(folder / REPORT, report)


def use_of(export: Export) -> list[str]:
    """Return the lines of the model card that describe an export and its use."""
    found = export.comparison
    low, high = found.interval
    plain, proper, n = found.plain
    quantized = f", quantised to {export.quantize}" if export.quantize else ""
    return [
        "## This export",
        "",
        f"`{export.artifact.name}`: {export.format}{quantized}, {export.bytes / 1e6:.1f} MB. "
        "It was read again in its own",
        f"runtime and asked about {found.n} {found.side} photos of the run: it gives the run's answer to",
        f"{found.agreement:.1%}, its probabilities differ by at most {found.difference:.2g}.",
        f"Accuracy {found.accuracy:.1%} (95 % interval {low:.1%} to {high:.1%}), the run's {found.run_accuracy:.1%}.",
        *_none_of_these(found),
        f"Where photos are scaled without antialiasing, as most apps do, {plain:.1%} in place of {proper:.1%} (n={n}).",
        f"{found.ms:g} ms a photo where it was made, {found.mebibytes} MiB.",
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


def _none_of_these(found: Comparison) -> list[str]:
    """Return the lines of the model card on the answer "none of these", one text for each kind of photos."""
    strangers = "photos of none of the classes (noise, flat colours, solar cells where they are installed)"
    kinds = ((f"{found.side} photos", found.known), (strangers, found.strangers))
    return [
        f'It answers "none of these" to {one.rejected:.1%} of {one.n} {photos},\n'
        f"the run to {one.run_rejected:.1%}; both decide alike on {one.same:.1%}."
        for photos, one in kinds
        if one and one.same is not None
    ]


def _preprocessing_of(classifier: Classifier) -> str:
    """Return the text of ``PREPROCESSING.md`` for the export of a classifier."""
    novelty = classifier.calibration.novelty is not None
    return preprocessing(classifier.backbone.transform, novelty, classifier.threshold)


def preprocessing(transform: Transform, novelty: bool = False, threshold: float | None = None) -> str:
    """Return the text of ``PREPROCESSING.md``: what an app must do to a photo before it goes into an export.

    Args:
        transform: the transform of the backbone.
        novelty: whether the export has the output ``novelty``.
        threshold: the novelty above which a photo is of none of the classes; None for never.
    """
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
        f"Out come `probabilities` (1, C), in the order of `labels.txt`{', and `novelty` (1,)' if novelty else ''}.",
        *([] if threshold is None else [f"Where novelty is above {threshold:g}, the photo is of none of the classes."]),
        "",
    ]
    return "\n".join(lines)
