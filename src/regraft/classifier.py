"""Transform + backbone + head + classes: the whole thing, and the folder it lives in.

In: what `train` learned, or a run folder. Out: probabilities for photos.
Why: a head without its preprocessing, class order and backbone version is a source of wrong answers.
Surprise: ``manifest.json`` is written last, and the folder appears at once; a run without it is none.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regraft import _console, heads
from regraft._files import as_path, write_json, write_text
from regraft.accelerator import AnyEngine, load_engine
from regraft.backbones import Backbone, load_backbone
from regraft.backbones._graphs import SEAL
from regraft.calibration import Answers, Calibration
from regraft.card import model_card
from regraft.computing import compute
from regraft.config import TrainConfig
from regraft.dataset import Dataset, ImageRecord, takes_levels
from regraft.engine import Engine
from regraft.errors import DataError, ImageError, RunError
from regraft.features import extract
from regraft.heads import Head
from regraft.images import Problem, Transform
from regraft.sources import SIDES
from regraft.splitting import Split
from regraft.unlabelled import Found, Photo, loader, path_of, photos_in

SCHEMA = 2
"""Number of the run folder's layout. A reader takes its own and all before it."""

TUNED = "backbone.safetensors"
"""Where a run folder keeps fine-tuned weights."""

_INT8 = "backbone-int8.xml"
_CALIBRATION = "calibration.safetensors"

MANY = 8
"""From so many photos on, the engine is compiled for throughput."""


@dataclass(frozen=True)
class Classifier:
    """A trained classifier; a `Predictor`.

    Attributes:
        backbone: what computes the features.
        head: what turns them into logits.
        classes: the labels, in the order of the probabilities.
        config: the options it was trained with.
        metrics: what `train` measured and counted, as in ``metrics.json``.
        path: its run folder, where it has one.
        int8: the backbone's quantised graph, where it is computed in int8.
        source: the photos it was trained on: a whole path, or whatever else `Dataset.open` takes.
        calibration: what stands between the head's logits and answers.
        precision: what its training photos were computed in, so that others are too: ``bf16`` or ``f32``; empty for
            the fastest of this processor.
    """

    backbone: Backbone
    head: Head
    classes: tuple[str, ...]
    config: TrainConfig
    metrics: Mapping[str, Any] = field(default_factory=dict)
    path: Path | None = None
    int8: Path | None = None
    source: str = ""
    calibration: Calibration = field(default_factory=Calibration)
    precision: str = ""

    @property
    def temperature(self) -> float:
        """What logits are divided by."""
        return self.calibration.temperature

    @property
    def threshold(self) -> float | None:
        """The novelty above which the answer is none of these; None for never."""
        return self.calibration.threshold

    @cached_property
    def _engines(self) -> tuple[AnyEngine, AnyEngine]:
        few, many = (load_engine(self.backbone, self.config, many, self.int8, self.precision) for many in (False, True))
        return few, many

    def predict_proba(
        self, images: Photo | Iterable[Photo], on_problem: Callable[[Problem], None] | None = None
    ) -> NDArray[np.float32]:
        """Class probabilities.

        Args:
            images: the photos, as `photos_in` takes them: one or several, a folder, a data set. Features of
                `ImageRecord` s are taken from the cache and added to it; of others, computed and forgotten.
            on_problem: told of each photo that cannot be read, whose row is then NaN.

        Returns:
            (N, C) float32, each row summing to 1.

        Raises:
            DataError: ``images`` are no photos.
            ImageError: a photo cannot be read and there is no ``on_problem``.
        """
        return self.answers(images, on_problem).probabilities

    def answers(self, images: Photo | Iterable[Photo], on_problem: Callable[[Problem], None] | None = None) -> Answers:
        """`predict_proba`, and the novelty of each photo: NaN where it cannot be read, or in a run that does not tell.

        Raises:
            ImageError: a photo cannot be read and there is no ``on_problem``.
        """
        photos = list(photos_in(images))
        x, problems = self._features(photos)
        for problem in problems:
            if on_problem is None:
                raise ImageError(f"{problem.path}: {problem.reason}")
            on_problem(problem)
        probabilities = np.full((len(photos), len(self.classes)), np.nan, np.float32)
        novelty = np.full(len(photos), np.nan, np.float32)
        good = ~np.isnan(x[:, 0])
        probabilities[good], novelty[good] = self.calibration.answers(x[good], self.head.logits(x[good]))
        return Answers(probabilities, novelty)

    def features(self, images: Photo | Iterable[Photo]) -> tuple[NDArray[np.float32], tuple[Problem, ...]]:
        """Feature rows (N, D) of photos, NaN for those that cannot be read, and why not."""
        return self._features(list(photos_in(images)))

    def _features(self, photos: Sequence[Found]) -> tuple[NDArray[np.float32], tuple[Problem, ...]]:
        engine = self._engines[len(photos) >= MANY]
        if photos and all(isinstance(photo, ImageRecord) for photo in photos):
            found = extract([photo for photo in photos if isinstance(photo, ImageRecord)], engine)
            return found.x, found.problems
        x = np.full((len(photos), self.backbone.num_features), np.nan, np.float32)
        problems: dict[int, Problem] = {}
        for index, row in compute([loader(photo, self.backbone.transform) for photo in photos], engine):
            if isinstance(row, str):
                problems[index] = Problem(path_of(photos[index], index), row)
            else:
                x[index] = row
        return x, tuple(problems[i] for i in sorted(problems))

    def trained_digests(self) -> frozenset[str]:
        """Identities of the photos it was trained on; none where it has no run folder that tells."""
        if self.path is None:
            return frozenset()
        try:
            return frozenset(json.loads((self.path / "split.json").read_text(encoding="utf-8"))["train"])
        except (OSError, ValueError, KeyError) as error:
            raise RunError(
                f"{self.path / 'split.json'} is missing or damaged ({error}); train the run again"
            ) from error

    def save(self, folder: Path, dataset: Dataset, split: Mapping[str, Sequence[int]]) -> None:
        """Write the run into an empty ``folder``; the manifest last."""
        from safetensors.numpy import save_file

        state = {name: np.ascontiguousarray(array) for name, array in self.head.state().items()}
        save_file(state, folder / "head.safetensors")
        if learned := self.calibration.state():
            save_file({name: np.ascontiguousarray(array) for name, array in learned.items()}, folder / _CALIBRATION)
        if self.int8:
            for file in (f for f in map(self.int8.with_suffix, (".xml", ".bin", SEAL)) if f.exists()):
                shutil.copyfile(file, (folder / _INT8).with_suffix(file.suffix))
        write_text(folder / "config.toml", self.config.to_toml())
        write_text(folder / "labels.txt", "".join(f"{label}\n" for label in self.classes))
        sides = {side: [dataset.records[i].identity for i in indices] for side, indices in split.items()}
        write_json(folder / "split.json", {"salt": self.config.salt, **sides})
        write_json(folder / "metrics.json", self.metrics)
        manifest = self._manifest(dataset)
        write_text(folder / "MODEL_CARD.md", model_card(manifest, self.metrics))
        write_json(folder / "manifest.json", manifest)

    def _manifest(self, dataset: Dataset) -> dict[str, Any]:
        from importlib.metadata import version

        return {
            "schema": SCHEMA,
            "classes": self.classes,
            "backbone": {
                "name": self.backbone.name,
                "fingerprint": self.backbone.fingerprint,
                "num_features": self.backbone.num_features,
                "stages": self.backbone.stages,
                "licence": self.backbone.licence,
                "options": _options(self.backbone),
                "transform": self.backbone.transform.to_dict(),
            },
            "head": self.config.head,
            "calibration": self.calibration.to_dict(),
            "data": {"digest": dataset.digest, "photos": len(dataset.records), "source": self.source},
            "made_by": {
                "regraft": version("regraft"),
                "python": platform.python_version(),
                "platform": f"{sys.platform}-{platform.machine()}",
                **_computed_in(self._engines[1]),
                **{package: version(package) for package in ("numpy", "openvino", "pillow")},
            },
        }

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Classifier:
        """Read a run folder.

        Raises:
            ConfigError: ``path`` is no path.
            RunError: it is no run, damaged, or written by a newer regraft.
            BackboneError: its backbone is not installed here.
        """
        folder = as_path(path, "the run")
        manifest = read_manifest(folder)
        try:
            from safetensors import SafetensorError
            from safetensors.numpy import load_file

            record = manifest["backbone"]
            transform = Transform.from_dict(record["transform"])
            state = load_file(folder / "head.safetensors")
            head = heads.registry.load(manifest["head"])
            config = TrainConfig.from_dict(_read_config(folder))
            metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
            fitted = head.from_state(state)
            calibration = _read_calibration(folder, manifest)
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            raise RunError(f"{folder} is damaged ({type(error).__name__}: {error}); train it again") from error
        options = dict(record.get("options", {}))
        if options.get("tuned"):
            options["tuned"] = str((folder / options["tuned"]).resolve())
        backbone = load_backbone(record["name"], transform.size, **options)
        if backbone.fingerprint != record["fingerprint"]:
            raise RunError(
                f"{folder} was trained on another version of {record['name']} than is installed; "
                f"type: pip install regraft=={manifest['made_by']['regraft']}, or train it again"
            )
        int8 = folder / _INT8 if config.precision == "int8" else None
        if int8 and not int8.is_file():
            raise RunError(f"{folder} is damaged ({_INT8} is missing); train it again")
        return cls(
            backbone,
            fitted,
            tuple(manifest["classes"]),
            config,
            metrics,
            folder,
            int8,
            manifest["data"].get("source", ""),
            calibration,
            _trained_in(manifest),
        )


def _computed_in(engine: AnyEngine) -> dict[str, str]:
    """The precision of an engine, and the limit of the processor's instructions where it needs one."""
    isa = engine.choice.isa if isinstance(engine, Engine) and engine.choice.precision == "bf16" else ""
    return {"precision": engine.precision, **({"onednn_isa": isa} if isa else {})}


def _trained_in(manifest: Mapping[str, Any]) -> str:
    """The precision that a run's manifest tells, ``bf16`` or ``f32``; empty for any other, and where it tells none."""
    told = manifest.get("made_by", {}).get("precision", "")
    return told if told in ("bf16", "f32") else ""


def run_path(run: Any) -> Path:
    """Return the folder of a run: the path that ``run`` is, or that of a classifier.

    Raises:
        ConfigError: it is neither.
        RunError: the classifier has no run folder.
    """
    if isinstance(run, Classifier):
        if run.path is None:
            raise RunError("the classifier has no run folder; save it, or train it with out=FOLDER")
        return run.path
    return as_path(run, "the run")


def read_manifest(folder: Path) -> dict[str, Any]:
    """A run's manifest. Raises RunError where the folder is no run, or one of a newer regraft."""
    if not folder.is_dir():
        raise RunError(f"there is no run folder {folder}; `regraft train PHOTOS --out {folder}` makes one")
    try:
        manifest: dict[str, Any] = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        schema = manifest["schema"]
    except FileNotFoundError as error:
        raise RunError(f"{folder} is not a run folder: it has no manifest.json") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{folder / 'manifest.json'} is damaged ({error}); train the run again") from error
    if not isinstance(schema, int) or schema > SCHEMA:
        raise RunError(
            f"{folder} is of schema {schema}, this regraft reads up to {SCHEMA}; type: pip install -U regraft"
        )
    return manifest


def open_photos(classifier: Classifier, photos: str | os.PathLike[str] | None = None) -> Dataset:
    """The photos that a run was trained on, or ``photos`` if they are no longer where they were. Warns of lost ones.

    Raises:
        DataError: none of them is there.
        RunError: the run does not say where they were.
    """
    source = os.fspath(photos or classifier.source)
    if not source:
        raise RunError(f"{classifier.path} does not say where its photos are; type --photos FOLDER")
    known = {digest for digests in _split_of(classifier).values() for digest in digests}
    if not photos and Path(source).is_absolute() and not Path(source).exists():
        told = f"the {len(known)} photos of {classifier.path} were in {source}, which is not there any more"
        raise DataError(f"{told}; type --photos FOLDER")
    named = takes_levels(source)  # the photos may be in a table by now
    levels = (classifier.config.label_from, classifier.config.group_from) if named else ()
    dataset = Dataset.open(source, *levels)
    found = len(known & {digest for record in dataset.records for digest in (record.identity, record.digest)})
    told = f"{found} of the {len(known)} photos of {classifier.path} are in {source}"
    if known and not found:
        raise DataError(f"{told}; type --photos FOLDER")
    if found < len(known):
        _console.warn(f"only {told}; if the others are elsewhere, type --photos FOLDER")
    return dataset


def sides_of(classifier: Classifier, dataset: Dataset) -> Split:
    """On which side of the run's split each photo was; one that the run did not know is on none."""
    place = {digest: side for side, digests in _split_of(classifier).items() for digest in digests}
    # Runs of old shards know their photos by the shards' bytes, all others by the photos that those were made from.
    found = [place.get(record.identity, place.get(record.digest)) for record in dataset.records]
    return Split(**{side: tuple(i for i, at in enumerate(found) if at == side) for side in SIDES})


def _split_of(classifier: Classifier) -> dict[str, list[str]]:
    """The digests of the photos on each side of a run's split."""
    known = json.loads(((classifier.path or Path()) / "split.json").read_text(encoding="utf-8"))
    return {side: known[side] for side in ("train", "val", "test")}


def _read_calibration(folder: Path, manifest: Mapping[str, Any]) -> Calibration:
    if manifest["schema"] < 2:
        return Calibration()
    from safetensors.numpy import load_file

    path = folder / _CALIBRATION
    return Calibration.from_state(manifest["calibration"], load_file(path) if path.is_file() else {})


def _options(backbone: Backbone) -> dict[str, str]:
    options = {key: getattr(backbone.options, key) for key in ("stages", "weights", "pixels")}
    return {**options, "tuned": TUNED} if backbone.options.tuned else options


def _read_config(folder: Path) -> dict[str, Any]:
    import tomllib

    return tomllib.loads((folder / "config.toml").read_text(encoding="utf-8"))
