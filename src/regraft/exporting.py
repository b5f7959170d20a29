"""Run → an export that was proved: written, read again in its own runtime, compared on the run's own photos.

In: a run folder and an `ExportConfig`. Out: a folder with the artifact, its card, an example and the `Comparison`.
Why: an export that was not reloaded and compared does not exist.
Surprise: the run answers in float32 here, whatever it was trained in: bf16 is not what phones and browsers compute.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regraft import _console
from regraft._files import folder_size, write_json, write_text
from regraft._places import Product, claimed, expanded
from regraft.backbones._graphs import child, graph_path
from regraft.calibration import is_novel
from regraft.card import model_card, preprocessing
from regraft.classifier import Classifier, open_photos, sides_of
from regraft.config import ExportConfig
from regraft.dataset import Dataset, ImageRecord
from regraft.errors import ConfigError, DataError, ExportError
from regraft.evaluation import wilson_interval
from regraft.exporters import REPORT, Exporter, Facts, find_exporter, is_export
from regraft.exporters._example import example
from regraft.quantisation import CALIBRATION, pixels_of
from regraft.run_folder import LAYOUT, read_manifest

COMPARED = 1000
"""The most photos that are compared."""

TOLERANCE = 1e-3
"""How much a probability of a float export may differ from the run's."""

_NOVELTY_TOLERANCE = 1e-2  # on val novelty has its median at 0 and its 95th percentile near 2


_EXPORT = Product("an export", is_export)


@dataclass(frozen=True, slots=True)
class Comparison:
    """An export beside its run, on the same photos.

    Attributes:
        side: of which side of the run's split the photos are.
        n: photos that both could read.
        agreement: the share to which both give the same class.
        difference: the largest difference of a probability.
        novelty_difference: the largest difference of the novelty; None where the run tells none.
        ties: photos with another answer whose two most probable classes are closer than the tolerance.
        accuracy: the export's, and its 95 % interval; beside it the run's.
        rejected: share that the export answers with none of these; None where it never does.
        plain: accuracy where photos are scaled without antialiasing, as most apps do, the export's on the same photos
            as they should be, and how many of them were tried.
        ms: milliseconds a photo on this machine, the median.
        mebibytes: the most memory of a process that loads and asks it.
    """

    side: str
    n: int
    agreement: float
    difference: float
    novelty_difference: float | None
    ties: int
    accuracy: float
    interval: tuple[float, float]
    run_accuracy: float
    rejected: float | None
    plain: tuple[float, float, int]
    ms: float
    mebibytes: int


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
    run: str | os.PathLike[str],
    out: str | os.PathLike[str] | None = None,
    config: ExportConfig | None = None,
    photos: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
) -> Export:
    """Write a run in another format, read it again, and compare. Where they differ nothing is kept.

    Args:
        run: the run folder.
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
    config = config or ExportConfig()
    exporter = find_exporter(config.format)
    if config.quantize and config.quantize not in exporter.quantizations:
        known = ", ".join(exporter.quantizations) or "none"
        raise ConfigError(f"the format {config.format} has no quantization {config.quantize!r}; there is {known}")
    classifier = Classifier.load(run)
    name = "-".join(filter(None, (config.format, config.quantize)))
    folder = expanded(out) if out else expanded(run) / LAYOUT.exports / name
    if folder.suffix in (".tflite", ".onnx", ".xml", ".keras", ".pb"):
        raise ExportError(f"--out is a folder, in which the file will be; type --out {folder.with_suffix('')}")
    with claimed(folder, _EXPORT, overwrite) as place:
        fresh = place.fresh
        dataset = open_photos(classifier, photos)
        side, compared, others = _chosen(classifier, dataset)
        artifact = fresh / exporter.artifact
        calibration = pixels_of(classifier.backbone, others) if "int8" in config.quantize else _no_photos(classifier)
        exporter.write(classifier, artifact, config.quantize, calibration)
        found = compare(classifier, artifact, Dataset(tuple(compared), dataset.classes), side)
        _require_equal(found, config, bool(config.quantize) or _rounds(classifier))
        size = folder_size(artifact) if artifact.is_dir() else sum(_sizes(fresh))
        made = Export(folder, folder / exporter.artifact, config.format, config.quantize, size, found)
        _write_companions(fresh, classifier, exporter, made)
    return replace(made, folder=place.path, artifact=place.path / exporter.artifact)


def compare(classifier: Classifier, artifact: Path, dataset: Dataset, side: str = "val") -> Comparison:
    """Ask a run, in float32, and an artifact, in a process of its own, about the same encoded photos.

    Raises:
        BackboneError: the artifact cannot be read, or fails.
        ExportError: it has other classes, or no photo can be compared.
    """
    reference = replace(classifier, config=replace(classifier.config, precision="fp32"), int8=None)
    expected = reference.answers(list(dataset.records), on_problem=lambda _: None)
    told = _asked(artifact, dataset.records)
    if tuple(told["classes"].tolist()) != classifier.classes:
        raise ExportError(f"{artifact.name} names the classes otherwise than the run: it is not kept")
    good = ~np.isnan(expected.probabilities[:, 0])
    if not good.any():
        raise ExportError("no photo can be read to compare the export on; type --photos FOLDER")
    index = {label: i for i, label in enumerate(classifier.classes)}
    y = np.array([index.get(r.label, -1) for r in dataset.records], np.int64)  # it may have been filed anew since
    p, q = expected.probabilities[good], told["probabilities"][good]
    ordered = np.sort(p, axis=1)
    same = p.argmax(axis=1) == q.argmax(axis=1)
    right = q.argmax(axis=1) == y[good]
    tried = ~np.isnan(told["plain"][:, 0])
    plain, proper = (
        float((told[kind].argmax(axis=1) == y)[tried].mean()) if tried.any() else 0.0
        for kind in ("plain", "probabilities")
    )
    threshold = classifier.threshold
    strange = _apart(expected.novelty[good], told["novelty"][good]) if classifier.calibration.novelty else None
    return Comparison(
        side=side,
        n=int(good.sum()),
        agreement=float(same.mean()),
        difference=_apart(p, q),
        novelty_difference=strange,
        ties=int((~same & (ordered[:, -1] - ordered[:, -2] < 2 * TOLERANCE)).sum()),
        accuracy=float(right.mean()),
        interval=wilson_interval(int(right.sum()), len(right)),
        run_accuracy=float((p.argmax(axis=1) == y[good]).mean()),
        rejected=None if threshold is None else float(is_novel(told["novelty"][good], threshold).mean()),
        plain=(plain, proper, int(tried.sum())),
        ms=round(float(told["ms"]), 2),
        mebibytes=int(told["MiB"]),
    )


def _apart(expected: NDArray[np.float32], found: NDArray[np.float32]) -> float:
    """The largest difference; infinite where something was not answered."""
    return float(np.abs(expected - found).max()) if np.isfinite(found).all() else float("inf")


def _rounds(classifier: Classifier) -> bool:
    """Whether the backbone itself computes in eight bits: what is nearly equal is then not rounded alike everywhere."""
    return "FakeQuantize" in graph_path(classifier.backbone).read_text(encoding="utf-8")


def _require_equal(found: Comparison, config: ExportConfig, quantised: bool) -> None:
    if quantised:
        if found.agreement < config.min_agreement:
            raise ExportError(
                f"the {config.quantize or config.format} export gives the run's answer to {found.agreement:.1%} of "
                f"{found.n} {found.side} photos, wanted {config.min_agreement:.1%}: it is not kept; type another "
                "--quantize or --min-agreement"
            )
        return
    others = round((1 - found.agreement) * found.n) - found.ties
    strange = found.novelty_difference or 0.0
    if found.difference > TOLERANCE or strange > _NOVELTY_TOLERANCE or others:
        raise ExportError(
            f"the export does not answer as the run does: probabilities differ by up to {found.difference:.2g} "
            f"(wanted: {TOLERANCE:g}), novelty by {strange:.2g}, the answer on {others} of {found.n} {found.side} "
            "photos: it is not kept; please report this"
        )


def _chosen(classifier: Classifier, dataset: Dataset) -> tuple[str, list[ImageRecord], list[ImageRecord]]:
    """The side to compare on, its photos, and those that calibrate."""
    sides = sides_of(classifier, dataset)
    for side in ("val", "test", "train"):
        if indices := getattr(sides, side):
            others = sides.train or indices
            return side, _some(dataset, indices, COMPARED), _some(dataset, others, CALIBRATION)
    raise DataError(f"none of the photos of {classifier.path} are there to compare the export on; type --photos FOLDER")


def _some(dataset: Dataset, indices: Sequence[int], most: int) -> list[ImageRecord]:
    """At most so many, evenly from all: records are sorted by label."""
    return [dataset.records[i] for i in indices[:: -(-len(indices) // most)]]


def _no_photos(classifier: Classifier) -> NDArray[np.uint8]:
    size = classifier.backbone.transform.size
    return np.empty((0, size, size, 3), np.uint8)


def _asked(artifact: Path, records: Sequence[ImageRecord]) -> dict[str, NDArray[Any]]:
    """What a process in which nothing else runs is answered by the artifact."""
    photos = [[str(r.path), [str(r.part.file), r.part.offset, r.part.length] if r.part else None] for r in records]
    with tempfile.TemporaryDirectory() as name:
        job, out = Path(name) / "job.json", Path(name) / "answers.npz"
        write_json(job, {"artifact": str(artifact), "photos": photos})
        with _console.progress("comparing", 0):
            child("regraft._trial", str(job), str(out), what=artifact.name, keras="tensorflow")
        with np.load(out) as found:
            return {key: found[key] for key in found.files}


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
    report = {"schema": 1, **made.to_dict(), "facts": json.loads(facts.to_json())}
    write_json(folder / REPORT, report)
