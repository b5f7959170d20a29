"""A run on disk: which files there are, what stands in them, one function that reads them and one that writes them.

In: a folder that anybody may have filled, or a `Run`. Out: a `Run` of checked records, or the folder.
Why: a run is copied, mailed, cut off and edited; what is wrong with it must be told by file and key, before any answer.
Surprise: the split is read apart: it names every photo by its digest, and to predict nobody needs it.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from regraft import heads
from regraft._claims import REPLACED
from regraft._documents import (
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
from regraft._files import digest_json, write_json, write_text
from regraft._values import LARGEST
from regraft.calibration import Calibration
from regraft.card import model_card
from regraft.config import TrainConfig
from regraft.errors import ConfigError, RunError
from regraft.evaluation import require_evaluation
from regraft.heads import Head
from regraft.images import Transform
from regraft.sources import SIDES, flaw_of_label

SCHEMA = 2
"""Number of the run folder's layout. A reader takes its own and all before it."""


@dataclass(frozen=True, slots=True)
class Layout:
    """The names of all that a run folder can hold.

    Attributes:
        manifest: what the run is; written last, so that a folder without it is no run.
        config: the options, TOML.
        head: the head's arrays.
        calibration: the arrays of novelty, where it was fitted.
        backbone: the weights that fine-tuning changed.
        int8: the backbone's quantised graph; its weights are in the ``.bin`` beside it.
        split: the digests of the photos of each side.
        metrics: what was counted and measured.
        labels: the class names, one a line.
        card: the model card.
        logs: TensorBoard's folder.
        exports: the folder of exports that were given no other place.
        history, curves: each epoch of a fine-tuning, as JSON and drawn.
        unfinished: what a fine-tuning that is under way was begun with.
        checkpoints: the folder of such a fine-tuning's weights.
        replaced: the folder to which the run that such a fine-tuning replaces is moved meanwhile.
        trial: in a run that a sweep made, what the sweep found.
    """

    manifest: str = "manifest.json"
    config: str = "config.toml"
    head: str = "head.safetensors"
    calibration: str = "calibration.safetensors"
    backbone: str = "backbone.safetensors"
    int8: str = "backbone-int8.xml"
    split: str = "split.json"
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


LAYOUT = Layout()

_SMALL = 16 * MEBIBYTE  # twenty thousand class names take two
_METRICS = 64 * MEBIBYTE  # and more where there are many classes: a confusion matrix has a number for each pair
_SPLIT = 192 * MEBIBYTE  # of 2.6 million photos
_TENSORS = 2048 * MEBIBYTE  # nearest neighbours keep the features of every photo
_OPTIONS = ("stages", "weights", "pixels", "tuned")
_MEND = "train the run again, or take a whole copy of it"


@dataclass(frozen=True, slots=True)
class BackboneRecord:
    """The backbone of a run.

    Attributes:
        name: the full ``source:name``.
        fingerprint: that of the backbone on which the run was trained.
        num_features: D, how many features its head takes.
        options: stages, weights, pixels; ``tuned`` where the run has weights of its own.
        transform: what is done to a photo before it.
    """

    name: str
    fingerprint: str
    num_features: int
    options: Mapping[str, str]
    transform: Transform


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a run is.

    Attributes:
        schema: the number of its layout.
        classes: the class names, in the order of the probabilities.
        backbone: what computes its features.
        head: the name of its head.
        calibration: temperature, threshold and largest logit that counts, as `Calibration.to_dict` has them.
        data: the digest of the photos that it was trained on, as `Dataset.digest` gives it.
        source: what names those photos; empty in old runs.
        made_by: the version of regraft that wrote it.
        document: all of this, and more, as it stands in the file.
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
        """Read a JSON document. Raises DamagedError, which begins with ``where``."""
        fields = Fields(document, where)
        schema = fields.whole("schema", 1, SCHEMA)
        data, maker = fields.fields("data"), fields.fields("made_by")
        data.whole("photos")
        for name in maker.values:
            maker.text(name)
        return cls(
            schema,
            _classes(fields),
            _backbone(fields.fields("backbone")),
            fields.text("head"),
            Calibration.numbers_of(fields.fields("calibration")) if schema > 1 else Calibration().to_dict(),
            data.text("digest"),
            data.text("source") if data.has("source") else "",
            maker.text("regraft"),
            document,
        )

    @property
    def digest(self) -> str:
        """The first 16 digits of the document's digest, by which exports name their run."""
        return digest_json(self.document)[:16]


@dataclass(frozen=True, slots=True)
class Sides:
    """The digests (64 hexadecimal digits) of the photos on each side of a run's split."""

    train: tuple[str, ...]
    val: tuple[str, ...]
    test: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Run:
    """All that a run folder holds, but for its split.

    Attributes:
        manifest: what it is.
        config: the options it was trained with.
        metrics: what was counted and measured, as JSON values.
        head: its head, fitted.
        calibration: what stands between the head's logits and answers.
        int8: the backbone's quantised graph, where features are computed in int8.
    """

    manifest: Manifest
    config: TrainConfig
    metrics: Mapping[str, Any]
    head: Head
    calibration: Calibration
    int8: Path | None = None


def is_run(folder: Path) -> bool:
    """Return whether a folder says that it is a run."""
    return (folder / LAYOUT.manifest).is_file()


def is_unfinished(folder: Path) -> bool:
    """Return whether a fine-tuning was begun in a folder and is not finished."""
    return (folder / LAYOUT.unfinished).is_file() and not is_run(folder)


def read_run(folder: Path) -> Run:
    """Read a run folder, and check all that is in it but for the split.

    Raises:
        RunError: it is no run, damaged, or written by a newer regraft; the message names the file and the key.
    """
    manifest = read_manifest(folder)
    with mended(RunError, _MEND):
        config = _read_config(folder / LAYOUT.config)
        metrics = read_metrics(folder, manifest)
        head = _head(folder / LAYOUT.head, manifest.head, len(manifest.classes), manifest.backbone.num_features)
        calibration = _read_calibration(folder / LAYOUT.calibration, manifest)
        if manifest.backbone.options.get("tuned"):
            require_regular(folder / LAYOUT.backbone, _TENSORS)
        int8 = folder / LAYOUT.int8 if config.precision == "int8" else None
        for path in (int8, int8.with_suffix(".bin")) if int8 else ():
            require_regular(path, _TENSORS)
    return Run(manifest, config, metrics, head, calibration, int8)


def read_manifest(folder: Path) -> Manifest:
    """Read a run's manifest.

    Raises:
        RunError: the folder is no run, its manifest is damaged, or it is one of a newer regraft.
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
        document = read_json(path, _SMALL)
        schema = Fields(document, path).whole("schema")
    if schema > SCHEMA:
        raise RunError(
            f"{folder} is of schema {schema}, this regraft reads up to {SCHEMA}; type: pip install -U regraft"
        )
    with mended(RunError, _MEND):
        return Manifest.of(document, f"{path} is damaged")


def read_metrics(folder: Path, manifest: Manifest) -> dict[str, Any]:
    """Read what was measured of a run, as JSON values. Raises DamagedError."""
    path, pairs = folder / LAYOUT.metrics, len(manifest.classes) ** 2
    metrics: dict[str, Any] = read_json(path, _METRICS + 24 * pairs, 128 * pairs)
    _require_metrics(Fields(metrics, f"{path} is damaged"))
    return metrics


def read_head(path: Path, name: str, classes: int, width: int) -> Head:
    """Read the head called ``name``, for so many classes and features. Raises RunError."""
    with mended(RunError, _MEND):
        return _head(path, name, classes, width)


def read_split(folder: Path) -> Sides:
    """Read which photos were on which side of a run's split. Raises RunError."""
    path = folder / LAYOUT.split
    with mended(RunError, _MEND):
        fields = Fields(read_json(path, _SPLIT), f"{path} is damaged")
        sides = {side: fields.texts(side) for side in SIDES}
        for side, digests in sides.items():
            if any(len(digest) != 64 for digest in digests) or not re.fullmatch("[0-9a-f]*", "".join(digests)):
                raise DamagedError(f"{path} is damaged: {side} has digests that are not 64 hexadecimal digits")
    return Sides(**sides)


def write_run(folder: Path, run: Run, sides: Sides) -> None:
    """Write a run into an empty folder, the manifest last.

    Raises:
        RunError: what was learned or measured has a number that is not finite, so that no reader would take it.
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
    """Write what was measured of a run, and the model card that tells of it."""
    write_json(folder / LAYOUT.metrics, metrics)
    write_text(folder / LAYOUT.card, model_card(manifest.document, metrics))


def _classes(fields: Fields) -> tuple[str, ...]:
    classes = fields.texts("classes", "a list of class names")
    if len(classes) < 2 or len(set(classes)) < len(classes):
        raise fields.wrong("classes", "at least two class names, each of them once")
    for label in classes:
        if flaw := flaw_of_label(label):
            raise fields.wrong("classes", f"class names, of which {label!r} {flaw}")
    return classes


def _backbone(fields: Fields) -> BackboneRecord:
    fields.texts("stages")
    fields.text("licence")
    options = fields.fields("options") if fields.has("options") else Fields({}, "")
    if unknown := set(options.values) - set(_OPTIONS):
        raise fields.wrong("options", f"options among {', '.join(_OPTIONS)}, not {min(unknown)!r}")
    known = {name: options.text(name) for name in options.values}
    if known.get("tuned") not in (None, "", LAYOUT.backbone):  # a path of a stranger could lead anywhere
        raise options.wrong("tuned", LAYOUT.backbone)
    return BackboneRecord(
        fields.text("name", "the name of a backbone", len),
        fields.text("fingerprint", "a fingerprint", len),
        fields.whole("num_features", 1, 2**20),
        known,
        Transform.from_fields(fields.fields("transform")),
    )


def _read_config(path: Path) -> TrainConfig:
    try:
        return TrainConfig.from_dict(read_toml(path, LARGEST))
    except ConfigError as error:
        raise DamagedError(f"{path} is damaged: {error}") from error


def _head(path: Path, name: str, classes: int, width: int) -> Head:
    state = read_tensors(path, _TENSORS)
    try:
        return heads.restore(name, state, classes, width)
    except (ConfigError, ValueError) as error:
        raise DamagedError(f"{path} is damaged: {error}") from error


def _read_calibration(path: Path, manifest: Manifest) -> Calibration:
    numbers = manifest.calibration
    state = read_tensors(path, _SMALL) if numbers["surest"] is not None else {}
    try:
        found = Calibration.from_state(numbers, state)
    except (KeyError, ValueError) as error:
        raise DamagedError(f"{path} is damaged: {error}") from error
    if found.novelty and len(found.novelty.basis) > manifest.backbone.num_features:
        raise DamagedError(f"{path} is damaged: it is of more features than the backbone has")
    return found


def _require_metrics(fields: Fields) -> None:
    """Raise DamagedError unless the values that other verbs read are there and can be. Others may stand beside them."""
    counts = fields.fields("counts")
    for side in SIDES:
        counts.whole(side)
    for problem in fields.each("problems"):
        problem.text("path")
        problem.text("reason")
    for side in ("val", "test"):
        require_evaluation(fields.fields(side))
    if fields.has("duplicate_groups"):
        for name in ("groups", "photos"):
            fields.fields("duplicate_groups").whole(name)
    if fields.has("finetuned"):
        tuned = fields.fields("finetuned")
        for name in ("blocks", "epochs"):
            tuned.whole(name)
        for side in ("val", "test"):
            tuned.fields("frozen").number_or_none(side, 0, 1)
