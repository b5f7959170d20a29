"""Run → an export that was proved: written, read again in its own runtime, compared on the run's own photos.

In: a run folder and an `ExportConfig`. Out: a folder with the artifact, its card, an example and the `Comparison`.
Why: an export that was not reloaded and compared does not exist.
Surprise: the run answers in float32 here, whatever it was trained in: bf16 is not what phones and browsers compute.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regraft._files import as_path, folder_size, write_json, write_text
from regraft._places import Product, claimed
from regraft._values import options_of
from regraft.backbones._graphs import graph_path, is_quantised
from regraft.card import model_card, preprocessing
from regraft.classifier import Classifier, open_photos, run_path, sides_of
from regraft.config import ExportConfig
from regraft.dataset import Dataset, ImageRecord
from regraft.errors import ConfigError, ExportError
from regraft.exporters import REPORT, Exporter, Facts, digests, find_exporter, is_export, vouch_for
from regraft.exporters._comparison import Comparison, compare, require_equal
from regraft.exporters._example import example
from regraft.probe import limit_tensorflow
from regraft.quantisation import CALIBRATION, pixels_of
from regraft.run_folder import LAYOUT, read_manifest
from regraft.splitting import Split

COMPARED = 1000
"""The most photos that are compared."""

_EXPORT = Product("an export", is_export)


@dataclass(frozen=True, slots=True)
class Export:
    """What `export` made.

    Attributes:
        folder: where it is.
        artifact: the file, or folder, in it.
        format, quantize: as asked for.
        bytes: the artifact's size.
        comparison: what was found.
    """

    folder: Path
    artifact: Path
    format: str
    quantize: str
    bytes: int
    comparison: Comparison

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {**asdict(self), "folder": str(self.folder), "artifact": str(self.artifact)}


def export(
    run: str | os.PathLike[str] | Classifier,
    out: str | os.PathLike[str] | None = None,
    config: ExportConfig | Mapping[str, Any] | str | os.PathLike[str] | None = None,
    photos: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
) -> Export:
    """Write a run in another format, read it again, and compare. Where they differ nothing is kept.

    Args:
        run: the run folder, or the classifier that was loaded from it.
        out: the export's folder; by default ``exports/FORMAT`` in the run.
        config: the options.
        photos: where the run's photos are now, if not where they were.
        overwrite: replace an export at ``out``.

    Raises:
        ConfigError: the format has no such quantization.
        ExportError: what the format needs is not installed, this run cannot be exported so, or the export answers
            differently.
        RunError: ``run`` is no run, or ``out`` is in the way.
    """
    run, config = run_path(run), options_of(ExportConfig, config)
    exporter = find_exporter(config.format)
    if config.quantize and config.quantize not in exporter.quantizations:
        known = ", ".join(exporter.quantizations) or "none"
        raise ConfigError(f"the format {config.format} has no quantization {config.quantize!r}; there is {known}")
    limit_tensorflow()
    classifier = Classifier.load(run)
    name = "-".join(filter(None, (config.format, config.quantize)))
    folder = run / LAYOUT.exports / name if out is None else as_path(out, "out")
    if folder.suffix in (".tflite", ".onnx", ".xml", ".keras", ".pb"):
        raise ExportError(f"--out is a folder, in which the file will be; type --out {folder.with_suffix('')}")
    with claimed(folder, _EXPORT, overwrite) as place:
        fresh = place.fresh
        dataset = open_photos(classifier, photos)
        side, compared, others = _chosen(dataset, sides_of(classifier, dataset))
        artifact = fresh / exporter.artifact
        calibration = pixels_of(classifier.backbone, others) if "int8" in config.quantize else _no_photos(classifier)
        exporter.write(classifier, artifact, config.quantize, calibration)
        found = compare(classifier, artifact, compared, side, {record.digest for record in dataset.records})
        require_equal(found, config, bool(config.quantize) or _rounds(classifier))
        size = folder_size(artifact) if artifact.is_dir() else sum(_sizes(fresh))
        made = Export(folder, folder / exporter.artifact, config.format, config.quantize, size, found)
        _write_companions(fresh, classifier, exporter, made)
    vouch_for(place.path / exporter.artifact)
    return replace(made, folder=place.path, artifact=place.path / exporter.artifact)


def _rounds(classifier: Classifier) -> bool:
    """Whether the backbone itself computes in eight bits: what is nearly equal is then not rounded alike everywhere."""
    return is_quantised(graph_path(classifier.backbone))


def _chosen(dataset: Dataset, sides: Split) -> tuple[str, list[ImageRecord], list[ImageRecord]]:
    """The side to compare on, its photos, and those that calibrate."""
    side = next(side for side in ("val", "test", "train") if getattr(sides, side))
    compared = getattr(sides, side)
    return side, _some(dataset, compared, COMPARED), _some(dataset, sides.train or compared, CALIBRATION)


def _some(dataset: Dataset, indices: Sequence[int], most: int) -> list[ImageRecord]:
    """At most so many, evenly from all: records are sorted by label."""
    return [dataset.records[i] for i in indices[:: -(-len(indices) // most)]]


def _no_photos(classifier: Classifier) -> NDArray[np.uint8]:
    size = classifier.backbone.transform.size
    return np.empty((0, size, size, 3), np.uint8)


def _sizes(folder: Path) -> list[int]:
    return [file.stat().st_size for file in folder.iterdir() if file.is_file()]


def _write_companions(folder: Path, classifier: Classifier, exporter: Exporter, made: Export) -> None:
    """What goes with the artifact; the report last."""
    manifest = read_manifest(classifier.path or Path()).document
    facts = Facts.of(classifier)
    card = model_card(manifest, classifier.metrics, made.to_dict())
    write_text(folder / LAYOUT.card, card)
    write_text(folder / "PREPROCESSING.md", preprocessing(facts.transform))
    write_text(folder / LAYOUT.labels, "".join(f"{label}\n" for label in facts.classes))
    write_text(folder / "example.py", example(exporter, made.format))
    report = {
        "schema": 1,
        **made.to_dict(),
        "files": digests(folder / exporter.artifact),
        "facts": json.loads(facts.to_json()),
    }
    write_json(folder / REPORT, report)
