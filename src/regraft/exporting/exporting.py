"""Export a run: write it in another format, load it in the format's runtime, and compare both on the run's photos.

In: a run folder and an `ExportConfig`. Out: a folder with the artifact, its card, an example and the `Comparison`.
Why: an export can be trusted only after it was loaded and compared.
Surprise: the run answers in float32 here, also where it was trained in bf16: phones and browsers do not compute bf16.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regraft.backbones.graphs import graph_path, is_quantised
from regraft.backbones.side_by_side import has_one_geometry, parts_of
from regraft.classifiers.backbone_record import BackboneRecord
from regraft.classifiers.classifier import Classifier, open_photos, run_path, sides_of
from regraft.classifiers.metrics import Metrics, require_accuracy
from regraft.classifiers.run_folder import LAYOUT
from regraft.config.exporting import ExportConfig
from regraft.config.values import options_of
from regraft.engines.int8 import CALIBRATION, pixels_of
from regraft.engines.probe import limit_tensorflow
from regraft.errors import ConfigError, ExportError, option
from regraft.exporting.companions import Export, write_companions
from regraft.exporting.comparison import compare, require_equal
from regraft.exporting.formats.base import find_exporter, format_of_suffix, is_export, vouch_for
from regraft.foundation.files import as_path, folder_size
from regraft.foundation.places import Product, claimed
from regraft.photos.dataset import Dataset, ImageRecord
from regraft.photos.splitting import Split

COMPARED = 1000
"""The most photos on which an export is compared with its run."""

_EXPORT = Product("an export", is_export)


def export(
    run: str | os.PathLike[str] | Classifier,
    out: str | os.PathLike[str] | None = None,
    config: ExportConfig | Mapping[str, Any] | str | os.PathLike[str] | None = None,
    photos: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    min_accuracy: float | None = None,
) -> Export:
    """Write a run in another format, load it, and compare it with the run; where they differ, nothing is kept.

    Args:
        run: the run folder, or the classifier that was loaded from it.
        out: the export's folder; by default ``exports/FORMAT`` (with ``-QUANTIZE`` where it is quantised) in the run.
        config: the options, as an `ExportConfig`, a dict of values by name, or the path of a TOML file.
        photos: where the run's photos are now, if they were moved.
        overwrite: whether to replace an export at ``out``.
        min_accuracy: the accuracy, in 0..1, that the lower end of the 95 % interval must reach: that of the export, or
            that of the run's folds, since the export of a run with folds is compared on training photos.

    Returns:
        The export, with its comparison.

    Raises:
        ConfigError: the format has no such quantisation.
        DataError: the photos of the run are not found.
        ExportError: a package that the format needs is not installed, the run cannot be exported to this format, or
            the export answers differently from the run.
        TrainingError: the accuracy may be below ``min_accuracy``; nothing is kept or replaced.
        RunError: ``run`` is not a run folder, or ``out`` exists already.
    """
    run, config = run_path(run), options_of(ExportConfig, config)
    exporter = find_exporter(config.format)
    if config.quantize and config.quantize not in exporter.quantizations:
        known = ", ".join(exporter.quantizations) or "none"
        raise ConfigError(f"the format {config.format} has no quantization {config.quantize!r}; choose from {known}")
    limit_tensorflow()
    classifier = Classifier.load(run)
    _require_one_geometry(classifier)
    name = "-".join(filter(None, (config.format, config.quantize)))
    folder = run / LAYOUT.exports / name if out is None else as_path(out, "out")
    if format_of_suffix(folder.suffix):
        raise ExportError(
            f"{option('out')} names the folder of the export, not a file; type {option('out')} {folder.with_suffix('')}"
        )
    with claimed(folder, _EXPORT, overwrite) as place:
        fresh = place.fresh
        dataset = open_photos(classifier, photos)
        side, compared, others = _chosen(dataset, sides_of(classifier, dataset))
        artifact = fresh / exporter.artifact
        calibration = pixels_of(classifier.backbone, others) if "int8" in config.quantize else _no_photos(classifier)
        exporter.write(classifier, artifact, config.quantize, calibration)
        found = compare(classifier, artifact, compared, side, {record.digest for record in dataset.records})
        require_equal(found, config, bool(config.quantize) or _rounds(classifier))
        if side == "train":
            require_accuracy(*Metrics.from_dict(classifier.metrics).measured, min_accuracy)
        else:
            require_accuracy(side, found, min_accuracy)
        size = folder_size(artifact) if artifact.is_dir() else sum(_sizes(fresh))
        made = Export(folder, folder / exporter.artifact, config.format, config.quantize, size, found)
        write_companions(fresh, classifier, exporter, made)
    vouch_for(place.path / exporter.artifact)
    return replace(made, folder=place.path, artifact=place.path / exporter.artifact)


def _rounds(classifier: Classifier) -> bool:
    """Return whether the backbone itself is quantised: each runtime then rounds a little differently."""
    return any(is_quantised(graph_path(part)) for part in parts_of(classifier.backbone))


def _require_one_geometry(classifier: Classifier) -> None:
    """Raise ExportError where the backbones take photos of several sizes: an export takes photos of one size."""
    if not has_one_geometry(classifier.backbone):
        sizes = BackboneRecord.of(classifier.backbone).sizes
        raise ExportError(
            f"{classifier.path} has features of photos that are scaled in several ways ({sizes} px), and an export "
            f"takes photos that are scaled in one; train with {option('resolution', 'PIXELS')}"
        )


def _chosen(dataset: Dataset, sides: Split) -> tuple[str, list[ImageRecord], list[ImageRecord]]:
    """Return the side of the split to compare on, its photos, and the calibration photos of a quantised export."""
    side = next(side for side in ("val", "test", "train") if getattr(sides, side))
    compared = getattr(sides, side)
    return side, _some(dataset, compared, COMPARED), _some(dataset, sides.train or compared, CALIBRATION)


def _some(dataset: Dataset, indices: Sequence[int], most: int) -> list[ImageRecord]:
    """Return at most ``most`` records, evenly spaced, as records are sorted by label and all classes must be in."""
    return [dataset.records[i] for i in indices[:: -(-len(indices) // most)]]


def _no_photos(classifier: Classifier) -> NDArray[np.uint8]:
    """Return an empty array of photos, for an export that needs no calibration photos."""
    size = classifier.backbone.transform.size
    return np.empty((0, size, size, 3), np.uint8)


def _sizes(folder: Path) -> list[int]:
    """Return the sizes of the files in a folder in bytes."""
    return [file.stat().st_size for file in folder.iterdir() if file.is_file()]
