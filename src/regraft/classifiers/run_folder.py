"""A run on disk: the names of its files, their contents, and the functions that read and write a run.

In: a run folder, which is not trusted, or a `Run`. Out: a `Run` of checked records, or the run folder.
Why: runs get copied, cut off and edited; an error must name the damaged file and key before any photo is answered.
Surprise: the split is read by a function of its own: it is large, and predictions do not need the split.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from regraft.classifiers.backbone_record import TUNED, BackboneRecord
from regraft.classifiers.calibration import Calibration
from regraft.classifiers.evaluation import require_evaluation
from regraft.classifiers.metrics import Metrics
from regraft.classifiers.model_card import model_card
from regraft.config.training import TrainConfig
from regraft.config.values import LARGEST
from regraft.errors import ConfigError, RunError
from regraft.foundation.claims import REPLACED
from regraft.foundation.documents import (
    MEBIBYTE,
    DamagedError,
    Fields,
    mended,
    read_json,
    read_tensors,
    read_toml,
    require_regular,
    write_tensors,
)
from regraft.foundation.files import digest_json, write_json, write_text
from regraft.heads import base as head_base
from regraft.heads.base import Head
from regraft.label_tools.corrections import NAME
from regraft.photos.sources.base import SIDES, flaw_of_label

SCHEMA = 4
"""The newest version of the run folder's layout: 3 has backbones side by side, 4 has corrections. All versions up to it
can be read."""


@dataclass(frozen=True, slots=True)
class Layout:
    """The names of the files and folders in a run folder.

    Attributes:
        manifest: the manifest; written last, so that a folder without a manifest is not a run.
        config: the options of the training, as TOML.
        head: the arrays of the head.
        calibration: the arrays of the novelty, where novelty was fitted.
        backbone: the backbone weights that fine-tuning changed.
        int8: the quantised graph of the backbone, whose weights are in the ``.bin`` file beside the graph.
        split: the digests of the photos on each side of the split.
        held_out: the out-of-fold answers, in a run with folds.
        metrics: the counts and metrics.
        labels: the class names, one on each line.
        card: the model card.
        logs: the folder of TensorBoard logs.
        exports: the folder of exports for which no other folder was given.
        history, curves: the learning curves of a fine-tuning, as JSON and as an image.
        unfinished: the options of a fine-tuning that is not finished.
        checkpoints: the folder of checkpoints of a fine-tuning that is not finished.
        replaced: the folder of the old run while a fine-tuning that replaces the old run is not finished.
        trial: the result of a sweep's trial, in a run that a sweep made.
        corrections: the corrections of labels that the run was trained with, where there were any.
    """

    manifest: str = "manifest.json"
    config: str = "config.toml"
    head: str = "head.safetensors"
    calibration: str = "calibration.safetensors"
    backbone: str = TUNED
    int8: str = "backbone-int8.xml"
    split: str = "split.json"
    held_out: str = "folds.safetensors"
    metrics: str = "metrics.json"
    labels: str = "labels.txt"
    card: str = "MODEL_CARD.md"
    logs: str = "logs"
    exports: str = "exports"
    history: str = "history.json"
    curves: str = "history.png"
    unfinished: str = "finetune.json"
    checkpoints: str = "checkpoints"
    replaced: str = REPLACED
    trial: str = "trial.json"
    corrections: str = NAME


LAYOUT = Layout()

# The largest sizes of files in bytes: a damaged or hostile file must not fill the memory.
_MOST_SMALL = 16 * MEBIBYTE  # of a manifest: twenty thousand class names take 2 MiB
_MOST_METRICS = 64 * MEBIBYTE  # without the confusion matrix, which has a number for each pair of classes
_MOST_SPLIT = 192 * MEBIBYTE  # enough for the digests of 2.6 million photos
_MOST_TENSORS = 2048 * MEBIBYTE  # the nearest-neighbour head keeps the features of every photo
_MEND = "train the run again, or take a whole copy of it"


@dataclass(frozen=True, slots=True)
class Manifest:
    """The manifest of a run.

    Attributes:
        schema: the version of the run folder's layout.
        classes: the class names, in the order of the probabilities.
        backbone: the backbone that computes the features.
        head: the name of the head.
        calibration: the numbers of the calibration, as `Calibration.to_dict` returns them.
        data: the digest of the photos of the training, as `Dataset.digest` returns it.
        source: the path or name of the source of these photos; empty in runs of an older regraft.
        made_by: the version of regraft that wrote the run.
        document: the whole JSON document of the manifest.
    """

    schema: int
    classes: tuple[str, ...]
    backbone: BackboneRecord
    head: str
    calibration: Mapping[str, float | None]
    data: str
    source: str
    made_by: str
    document: Mapping[str, Any] = field(repr=False, compare=False)

    @classmethod
    def of(cls, document: Mapping[str, Any], where: str | Path) -> Manifest:
        """Return the manifest of a JSON document. Raises DamagedError, whose message begins with ``where``."""
        fields = Fields(document, where)
        schema = fields.whole("schema", 1, SCHEMA)
        data, maker = fields.fields("data"), fields.fields("made_by")
        data.whole("photos")
        for name in maker.values:
            maker.text(name)
        return cls(
            schema,
            _classes(fields),
            BackboneRecord.from_fields(fields.fields("backbone")),
            fields.text("head"),
            Calibration.numbers_of(fields.fields("calibration")) if schema > 1 else Calibration().to_dict(),
            data.text("digest"),
            data.text("source") if data.has("source") else "",
            maker.text("regraft"),
            document,
        )

    @property
    def digest(self) -> str:
        """The first 16 hexadecimal digits of the document's digest, by which exports name their run."""
        return digest_json(self.document)[:16]


@dataclass(frozen=True, slots=True)
class Sides:
    """The digests (64 hexadecimal digits) of the photos on each side of a run's split."""

    train: tuple[str, ...]
    val: tuple[str, ...]
    test: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Run:
    """The contents of a run folder, without the split.

    Attributes:
        manifest: the manifest.
        config: the options of the training.
        metrics: the counts and metrics, as JSON values.
        head: the fitted head.
        calibration: the calibration, which computes answers from the head's logits.
        int8: the path of the backbone's quantised graph; None where features are not computed in int8.
    """

    manifest: Manifest
    config: TrainConfig
    metrics: Mapping[str, Any]
    head: Head
    calibration: Calibration
    int8: Path | None = None


def is_run(folder: Path) -> bool:
    """Return whether a folder holds a run, which means that it has a manifest."""
    return (folder / LAYOUT.manifest).is_file()


def is_unfinished(folder: Path) -> bool:
    """Return whether a folder holds a fine-tuning that is not finished."""
    return (folder / LAYOUT.unfinished).is_file() and not is_run(folder)


def read_run(folder: Path) -> Run:
    """Read and check all contents of a run folder except the split.

    Raises:
        RunError: the folder is not a run, is damaged, or is from a newer regraft; the message names file and key.
    """
    manifest = read_manifest(folder)
    with mended(RunError, _MEND):
        config = _read_config(folder / LAYOUT.config)
        metrics = read_metrics(folder, manifest)
        head = _head(folder / LAYOUT.head, manifest.head, len(manifest.classes), manifest.backbone.num_features)
        calibration = _read_calibration(folder / LAYOUT.calibration, manifest)
        if manifest.backbone.options.get("tuned"):
            require_regular(folder / LAYOUT.backbone, _MOST_TENSORS)
        int8 = folder / LAYOUT.int8 if config.precision == "int8" else None
        for path in (int8, int8.with_suffix(".bin")) if int8 else ():
            require_regular(path, _MOST_TENSORS)
    return Run(manifest, config, metrics, head, calibration, int8)


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest of a run.

    Raises:
        RunError: the folder is not a run, its manifest is damaged, or a newer regraft wrote the run.
    """
    if not folder.exists():
        raise RunError(f"there is no run folder {folder}; `regraft train PHOTOS --out {folder}` makes one")
    if not folder.is_dir():
        raise RunError(f"{folder} is no folder; wanted a run folder, which `regraft train PHOTOS` makes")
    path = folder / LAYOUT.manifest
    if is_unfinished(folder):
        old = folder / LAYOUT.replaced
        where = f"; the run that it is to replace is in {old}" if old.is_dir() else ""
        raise RunError(f"{folder} is a fine-tuning that is not finished; go on with `regraft finetune --resume`{where}")
    if not path.exists():
        raise RunError(f"{folder} is not a run folder: it has no {LAYOUT.manifest}")
    with mended(RunError, _MEND):
        document = read_json(path, _MOST_SMALL)
        schema = Fields(document, path).whole("schema")
    if schema > SCHEMA:
        raise RunError(
            f"{folder} has schema {schema}; this regraft reads schemas up to {SCHEMA}; type: pip install -U regraft"
        )
    with mended(RunError, _MEND):
        return Manifest.of(document, f"{path} is damaged")


def read_metrics(folder: Path, manifest: Manifest) -> dict[str, Any]:
    """Read and check the metrics of a run, as JSON values. Raises DamagedError."""
    path, pairs = folder / LAYOUT.metrics, len(manifest.classes) ** 2
    metrics: dict[str, Any] = read_json(path, _MOST_METRICS + 24 * pairs, 128 * pairs)
    _require_metrics(Fields(metrics, f"{path} is damaged"))
    return metrics


def read_head(path: Path, name: str, classes: int, width: int) -> Head:
    """Read the file of a head of kind ``name`` with ``classes`` classes and ``width`` features. Raises RunError."""
    with mended(RunError, _MEND):
        return _head(path, name, classes, width)


def read_split(folder: Path) -> Sides:
    """Read the digests of the photos on each side of a run's split. Raises RunError."""
    path = folder / LAYOUT.split
    with mended(RunError, _MEND):
        fields = Fields(read_json(path, _MOST_SPLIT), f"{path} is damaged")
        sides = {side: fields.texts(side) for side in SIDES}
        for side, digests in sides.items():
            if any(len(digest) != 64 for digest in digests) or not re.fullmatch("[0-9a-f]*", "".join(digests)):
                raise DamagedError(f"{path} is damaged: {side} has digests that are not 64 hexadecimal digits")
    return Sides(**sides)


def write_run(folder: Path, run: Run, sides: Sides) -> None:
    """Write a run and its split into an empty folder, the manifest last.

    Raises:
        RunError: an array or metric holds a number that is not finite, which `read_run` would refuse.
    """
    manifest, state = run.manifest, run.head.state()
    with mended(RunError, "nothing is kept; train with other options"):
        for name, array in {**state, **run.calibration.state()}.items():
            if not np.isfinite(array).all():
                raise DamagedError(f"what was learned has numbers that are not finite, in {name}")
        _require_metrics(Fields(run.metrics, "what was measured"))
    write_tensors(folder / LAYOUT.head, state)
    if learned := run.calibration.state():
        write_tensors(folder / LAYOUT.calibration, learned)
    if run.int8:
        for suffix in (".xml", ".bin"):
            shutil.copyfile(run.int8.with_suffix(suffix), (folder / LAYOUT.int8).with_suffix(suffix))
    write_text(folder / LAYOUT.config, run.config.to_toml())
    write_text(folder / LAYOUT.labels, "".join(f"{label}\n" for label in manifest.classes))
    write_json(folder / LAYOUT.split, {"salt": run.config.salt, **asdict(sides)})
    write_measured(folder, manifest, run.metrics)
    write_json(folder / LAYOUT.manifest, manifest.document)


def write_measured(folder: Path, manifest: Manifest, metrics: Mapping[str, Any]) -> None:
    """Write the metrics of a run, and the model card, which shows the metrics."""
    write_json(folder / LAYOUT.metrics, metrics)
    write_text(folder / LAYOUT.card, model_card(manifest.document, Metrics.from_dict(metrics)))


def _classes(fields: Fields) -> tuple[str, ...]:
    """Return the class names of a manifest. Raises DamagedError."""
    classes = fields.texts("classes", "a list of class names")
    if len(classes) < 2 or len(set(classes)) < len(classes):
        raise fields.wrong("classes", "at least two class names, each of them once")
    for label in classes:
        if flaw := flaw_of_label(label):
            raise fields.wrong("classes", f"class names, of which {label!r} {flaw}")
    return classes


def _read_config(path: Path) -> TrainConfig:
    try:
        return TrainConfig.from_dict(read_toml(path, LARGEST))
    except ConfigError as error:
        raise DamagedError(f"{path} is damaged: {error}") from error


def _head(path: Path, name: str, classes: int, width: int) -> Head:
    state = read_tensors(path, _MOST_TENSORS)
    try:
        return head_base.restore(name, state, classes, width)
    except (ConfigError, ValueError) as error:
        raise DamagedError(f"{path} is damaged: {error}") from error


def _read_calibration(path: Path, manifest: Manifest) -> Calibration:
    numbers = manifest.calibration
    state = read_tensors(path, _MOST_SMALL) if numbers["surest"] is not None else {}
    try:
        found = Calibration.from_state(numbers, state)
    except (KeyError, ValueError) as error:
        raise DamagedError(f"{path} is damaged: {error}") from error
    if found.novelty and len(found.novelty.basis) > manifest.backbone.num_features:
        raise DamagedError(f"{path} is damaged: novelty_basis is of more features than the backbone has")
    return found


def _require_metrics(fields: Fields) -> None:
    """Check the metrics that other commands read; further metrics are allowed. Raises DamagedError."""
    counts = fields.fields("counts")
    for side in SIDES:
        counts.whole(side)
    for problem in fields.each("problems"):
        problem.text("path")
        problem.text("reason")
    for measured in ("val", "folds" if fields.has("folds") else "test"):
        require_evaluation(fields.fields(measured))
    if fields.has("before"):
        require_evaluation(fields.fields("before"))
    if fields.has("duplicate_groups"):
        for name in ("groups", "photos"):
            fields.fields("duplicate_groups").whole(name)
    if fields.has("finetuned"):
        tuned = fields.fields("finetuned")
        for name in ("blocks", "epochs"):
            tuned.whole(name)
        for side in ("val", "test"):
            tuned.fields("frozen").number_or_none(side, 0, 1)
