"""The records of the JSON documents that `--json` prints. The JSON Schema of a document is made from its record.

In: a document as JSON values. Out: a record, whose fields are checked and typed.
Why: code that prints a document reads typed fields, and other programs can rely on the shape of the document.
Surprise: keys that a record does not have are ignored, so that a newer regraft may add keys.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from regraft.classifiers.answer_files import Kept
from regraft.classifiers.evaluation import Evaluation
from regraft.classifiers.metrics import Counts, LeftOut, TrainingReport
from regraft.classifiers.prediction import PredictionReport, Rejection
from regraft.exploring.drift_record import Drift
from regraft.exploring.next_photos import NextPhotos
from regraft.exploring.similarity import SimilarPhotos
from regraft.exporting.companions import Export
from regraft.reporting.report_record import Report
from regraft.sweeping.trials import Trial


@dataclass(frozen=True, slots=True)
class EvaluationReport(Evaluation):
    """The document of `evaluate`: an evaluation, the files left out, and the result on photos of none of the classes.

    Attributes:
        problems: the files that could not be read and were left out.
        unknown: with ``--unknown``, the share of photos of none of the classes that were answered "none of these".
        epoch: with ``--once`` and ``--watch``, the epoch of the fine-tuning that was measured; else None.
    """

    problems: tuple[LeftOut, ...] = ()
    unknown: tuple[Rejection, ...] = ()
    epoch: int | None = None


@dataclass(frozen=True, slots=True)
class BestTrial:
    """The best trial of a sweep: its run folder, its name, and its evaluations on the val and test splits."""

    run: str
    name: str
    val: Evaluation
    test: Evaluation


@dataclass(frozen=True, slots=True)
class SweepReport:
    """The document of `sweep`.

    Attributes:
        out: the folder of the trials.
        trials: the trials, the best first.
        best: the best trial, which is measured on test too.
        command: the command that trains the same classifier again.
        seconds: the duration of the sweep, in seconds.
    """

    out: str
    trials: tuple[Trial, ...]
    best: BestTrial
    command: str
    seconds: float


@dataclass(frozen=True, slots=True)
class SuspectPhoto:
    """A photo in a finding of `check`.

    Attributes:
        path: the path of the photo.
        label: the label of the photo; empty where no label could be read.
        reason: what is wrong with the photo.
        score: the score of the photo, where a lower score is worse; None where there is no score.
        others: the related photos; for a copy, the photo to keep.
        suggested: for a doubtful label, the label that is more probable; empty otherwise.
        probability: the probability of the suggested label, 0 to 1; None otherwise.
    """

    path: str
    label: str
    reason: str
    score: float | None
    others: tuple[str, ...]
    suggested: str
    probability: float | None


@dataclass(frozen=True, slots=True)
class FindingReport:
    """A finding of `check`: all classes or photos with the same kind of problem.

    Attributes:
        kind: the kind of the problem.
        why: the meaning of the problem.
        count: the number of photos, or classes, with the problem.
        classes: the classes with the problem, each with its figures.
        photos: the photos with the problem, the worst first.
    """

    kind: str
    why: str
    count: int
    classes: tuple[str, ...]
    photos: tuple[SuspectPhoto, ...]


@dataclass(frozen=True, slots=True)
class AuditReport:
    """The document of `check`.

    Attributes:
        photos: the number of photos that can be read.
        counts: the number of photos of each class.
        trainable: whether a classifier can be trained on the photos.
        impossible: the reason why no classifier can be trained; None where one can be trained.
        features: the number of photos whose features were computed, and of those whose features were in the cache.
        hint: advice to use an option, such as ``--label-from``; empty where there is no advice.
        findings: the findings, the worst first.
        html: the page of ``--html``; empty without it.
    """

    photos: int
    counts: Mapping[str, int]
    trainable: bool
    impossible: str | None
    features: Mapping[str, int]
    hint: str
    findings: tuple[FindingReport, ...]
    html: str = ""


@dataclass(frozen=True, slots=True)
class Shard:
    """A file that `shard` wrote, and the number of photos in this file."""

    file: str
    photos: int


@dataclass(frozen=True, slots=True)
class ShardReport:
    """The document of `shard`.

    Attributes:
        out: the folder of the shards.
        format: the format of the shards, ``tfrecord`` or ``webdataset``.
        classes: the class names, in the order of the class indices.
        photos: the number of photos in all shards.
        shards: the files of the shards.
        problems: the files that could not be read and were left out.
    """

    out: str
    format: str
    classes: tuple[str, ...]
    photos: int
    shards: tuple[Shard, ...]
    problems: tuple[LeftOut, ...]


@dataclass(frozen=True, slots=True)
class EmbedReport:
    """The document of `embed`.

    Attributes:
        out: the Parquet file of the features.
        photos: the number of photos in the file, which is its number of rows.
        features: the number of features of each photo.
        backbone: the full name of the backbone, such as ``embedded:efficientnet_lite0``.
        computed: the number of photos whose features were computed.
        cached: the number of photos whose features were in the cache, or are those of a copy.
        problems: the files that could not be read and were left out.
    """

    out: str
    photos: int
    features: int
    backbone: str
    computed: int
    cached: int
    problems: tuple[LeftOut, ...]


@dataclass(frozen=True, slots=True)
class ChosenPrecision:
    """The precision that was chosen for a backbone on this processor.

    Attributes:
        backbone: the name of the backbone, or ``any network`` for the test whether a precision works at all.
        precision: the chosen precision, ``bf16`` or ``f32``.
        isa: the limit on the instructions of the processor, as an environment variable; empty without a limit.
        processor: the name of the processor.
        openvino: the version of OpenVINO.
        failed: the precisions that did not work, each with the reason.
        f32_photos_per_s, bf16_photos_per_s: the measured speed in each precision; None where it was not measured.
    """

    backbone: str
    precision: str
    isa: str
    processor: str
    openvino: str
    failed: str
    f32_photos_per_s: float | None = None
    bf16_photos_per_s: float | None = None


@dataclass(frozen=True, slots=True)
class InstallationInfo:
    """The document of `info` without an argument: versions, the cache folder, and the chosen precisions.

    Attributes:
        regraft, keras, openvino, numpy, pillow, pyarrow, python: the versions.
        cache: the cache folder.
        precision: the choices on this processor; a sentence where there is none yet.
    """

    regraft: str
    keras: str
    openvino: str
    numpy: str
    pillow: str
    pyarrow: str
    python: str
    cache: str
    precision: tuple[ChosenPrecision, ...] | str


@dataclass(frozen=True, slots=True)
class BackboneInfo:
    """The facts about a backbone.

    Attributes:
        name: the full name, such as ``embedded:efficientnet_lite0``.
        size: the side of the square of pixels that the network takes.
        parameters: the number of parameters, in words.
        top1: the published accuracy on ImageNet, in percent; None where none is known.
        licence: the licence of the weights.
        missing: why the backbone cannot be used or measured; empty where it can be.
        photos_per_s: with ``--measure``, the photos per second of the network, without decoding.
        MiB: with ``--measure``, the peak memory.
        features: with ``--measure``, the number of features of a photo.
    """

    name: str
    size: int
    parameters: str
    top1: float | None
    licence: str
    missing: str = ""
    photos_per_s: float | None = None
    MiB: int | None = None
    features: int | None = None


@dataclass(frozen=True, slots=True)
class BackbonesInfo:
    """The document of `info backbones`."""

    backbones: tuple[BackboneInfo, ...]


@dataclass(frozen=True, slots=True)
class CachedFeatures:
    """The features of one engine in the cache.

    Attributes:
        backbone: the name of the backbone; ``unknown`` where an earlier version wrote the files.
        fingerprint: the name of the folder of the files: the first half of the fingerprint of the engine.
        photos: the number of rows of features.
        bytes: the size of the files.
    """

    backbone: str
    fingerprint: str
    photos: int
    bytes: int


@dataclass(frozen=True, slots=True)
class CacheInfo:
    """The document of `info cache`.

    Attributes:
        folder: the cache folder.
        photos: the number of rows of features in the cache, over all backbones.
        features: the features of each engine.
        bytes: the size of each folder of the cache, in bytes.
        limit_bytes: the size from which on the cache is made smaller, in bytes; None for no limit.
        freed_bytes: with ``--clear``, the number of bytes that were deleted.
        not_deleted: with ``--clear``, the paths that could not be deleted.
    """

    folder: str
    photos: int
    features: tuple[CachedFeatures, ...]
    bytes: Mapping[str, int]
    limit_bytes: int | None
    freed_bytes: int
    not_deleted: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SideInfo:
    """The figures of a run on one side of the split, a part of `Evaluation`; None where there are no photos."""

    n: int
    accuracy: float | None
    interval: tuple[float, float] | None
    log_loss: float | None
    calibration_error: float | None


@dataclass(frozen=True, slots=True)
class RunInfo:
    """The document of `info RUN`.

    Attributes:
        run: the run folder.
        classes: the class names, in the order of the probabilities.
        backbone: the name of the backbone.
        size: the side of the square of pixels that the network takes.
        head: the name of the head.
        counts: the number of photos on each side of the split.
        val, test, folds: the figures on the val side, on the test side, and over all folds; None where there are none.
        made_by: the versions of Python and of the packages that made the run, and the precision of the features.
    """

    run: str
    classes: tuple[str, ...]
    backbone: str
    size: int
    head: str
    counts: Counts
    val: SideInfo
    made_by: Mapping[str, str]
    test: SideInfo | None = None
    folds: SideInfo | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportInfo(Export):
    """The document of `info EXPORT`: the report that stands beside an export.

    Attributes:
        schema: the version of the report.
        files: the SHA-256 of each file of the artifact.
        facts: what a program that runs the artifact must know: transform, classes and calibration.
    """

    schema: int
    files: Mapping[str, str]
    facts: Mapping[str, Any]


DOCUMENTS: Mapping[str, type[Any]] = {
    "train": TrainingReport,
    "demo": TrainingReport,
    "finetune": TrainingReport,
    "sweep": SweepReport,
    "evaluate": EvaluationReport,
    "predict": tuple[PredictionReport, ...],  # a JSON array
    "predict --out": Kept,
    "export": Export,
    "check": AuditReport,
    "check --against": Drift,
    "report": Report,
    "shard": ShardReport,
    "embed": EmbedReport,
    "similar": tuple[SimilarPhotos, ...],  # a JSON array
    "next": NextPhotos,
    "info": InstallationInfo,
    "info backbones": BackbonesInfo,
    "info cache": CacheInfo,
    "info RUN": RunInfo,
    "info EXPORT": ExportInfo,
}
"""By command, the record of the document that `--json` prints."""
