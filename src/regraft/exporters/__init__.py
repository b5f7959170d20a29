"""Classifier → a file that another runtime reads; and back: one protocol, one registry, a file a format.

In: a run. Out: an artifact: bytes of photos in, probabilities and novelty out, all else inside. Loaded, a `Predictor`.
Why: the most repeated complaint in the field is an exported model that answers differently.
Surprise: an exporter also reads what it wrote, so that evaluating an export needs no code of its own.
"""

from __future__ import annotations

import io
import json
import os
import zipfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from regraft._documents import MEBIBYTE, Fields, mended, read_json
from regraft._places import expanded
from regraft._registry import Registry
from regraft.calibration import Answers
from regraft.classifier import Classifier, Photo, loader, path_of
from regraft.errors import ExportError, ImageError
from regraft.evaluation import Predictor
from regraft.images import Pixels, Problem, Transform
from regraft.run_folder import read_manifest

FACTS = 1
"""Number of the facts' layout."""

REPORT = "export.json"
"""In an export's folder: what was compared. Written last."""

_REPORT = 16 * MEBIBYTE
_LARGEST = 4096  # pixels a side
_LONGEST = 16 * 2**20  # bytes of a text in an archive
_AHEAD = 64  # photos that are decoded before the runtime sees them

Run = Callable[[Pixels], tuple[NDArray[np.float32], NDArray[np.float32] | None]]
"""uint8 photos (N, S, S, 3) to probabilities (N, C) and novelty (N,), None where the export has none."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What an artifact knows of itself, in its own metadata.

    Attributes:
        classes: the labels, in the order of the probabilities.
        transform: what is done to a photo before it goes in; mean, std and channel order are inside the artifact.
        temperature: what logits were divided by, inside.
        threshold: the novelty above which the answer is none of these; None for never.
        run: digest of the run's manifest.
        backbone: its full name.
        licence: of the backbone's weights.
        regraft: the version that wrote it.
    """

    classes: tuple[str, ...]
    transform: Transform
    temperature: float
    threshold: float | None
    run: str
    backbone: str
    licence: str
    regraft: str

    @classmethod
    def of(cls, classifier: Classifier) -> Facts:
        """Those of a run."""
        if classifier.path is None:
            raise ExportError("the classifier has no run folder; save it first")
        manifest = read_manifest(classifier.path)
        return cls(
            classifier.classes,
            classifier.backbone.transform,
            classifier.temperature,
            classifier.threshold,
            manifest.digest,
            classifier.backbone.name,
            classifier.backbone.licence,
            manifest.made_by,
        )

    def require_labels(self, text: str | None, path: Path) -> None:
        """Raise ExportError where labels that ``path`` holds for others, one a line, are not these."""
        if text is None or tuple(text.splitlines()) != self.classes:
            raise ExportError(f"{path} has two lists of labels that differ; export it again")

    def to_json(self) -> str:
        """As text, in ASCII: not every format's metadata takes more."""
        return json.dumps({"facts": FACTS, **asdict(self)})

    @classmethod
    def from_json(cls, text: str | bytes | None, path: Path) -> Facts:
        """Inverse of `to_json`. Raises ExportError where ``path`` holds none, or newer ones."""
        if not text:
            raise ExportError(
                f"{path} does not say which classes it knows or how it wants photos: it was not written by "
                f"`regraft export`; as a backbone it may do: regraft train PHOTOS --backbone file:{path}"
            )
        try:
            values = json.loads(text)
            if values.pop("facts") > FACTS:
                raise ExportError(f"{path} was written by a newer regraft; type: pip install -U regraft")
            values["transform"] = _checked(Transform.from_dict(values["transform"]))
            return cls(**{**values, "classes": tuple(map(str, values["classes"]))})
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ExportError(f"{path} has damaged metadata ({error}); export it again") from error


def _checked(transform: Transform) -> Transform:
    """Raise ValueError for what a file of a stranger may say, and no photo can be."""
    if not 1 <= transform.size <= _LARGEST or (transform.crop is not None and not 0 < transform.crop <= 1):
        raise ValueError(f"photos of {transform.size} pixels, of which {transform.crop} is kept")
    if transform.resample not in ("bilinear", "bicubic"):
        raise ValueError(f"photos scaled by {transform.resample}")
    return transform


def text_in_archive(file: Path | io.BytesIO, name: str) -> str | None:
    """A text in a zip archive; None where there is none. Raises ExportError where it is unreasonably long."""
    if not zipfile.is_zipfile(file):
        return None
    with zipfile.ZipFile(file) as archive:
        if name not in archive.namelist():
            return None
        if archive.getinfo(name).file_size > _LONGEST:
            raise ExportError(f"{name} in it is longer than {_LONGEST // 2**20} MiB: is it an export?")
        return archive.read(name).decode("utf-8")


@dataclass(frozen=True, slots=True)
class Artifact:
    """A loaded export; a `Predictor`.

    Attributes:
        facts: what it knows of itself.
        run: what computes.
    """

    facts: Facts
    run: Run

    @property
    def classes(self) -> tuple[str, ...]:
        """The labels, in the order of the probabilities."""
        return self.facts.classes

    @property
    def temperature(self) -> float:
        """What logits were divided by."""
        return self.facts.temperature

    @property
    def threshold(self) -> float | None:
        """The novelty above which the answer is none of these; None for never."""
        return self.facts.threshold

    def predict_proba(
        self, images: Sequence[Photo], on_problem: Callable[[Problem], None] | None = None
    ) -> NDArray[np.float32]:
        """As `Classifier.predict_proba`, without a cache."""
        return self.answers(images, on_problem).probabilities

    def answers(self, images: Sequence[Photo], on_problem: Callable[[Problem], None] | None = None) -> Answers:
        """As `Classifier.answers`, without a cache."""
        probabilities = np.full((len(images), len(self.classes)), np.nan, np.float32)
        novelty = np.full(len(images), np.nan, np.float32)
        for index, pixels in self._decoded(images):
            if isinstance(pixels, str):
                problem = Problem(path_of(images[index], index), pixels)
                if on_problem is None:
                    raise ImageError(f"{problem.path}: {problem.reason}")
                on_problem(problem)
                continue
            row, strange = self.run(pixels[np.newaxis])
            if row.shape != (1, len(self.classes)):
                raise ExportError(f"it gives {row.shape[-1]} numbers a photo, and names {len(self.classes)} classes")
            probabilities[index] = row[0]
            if strange is not None:
                novelty[index] = strange[0]
        return Answers(probabilities, novelty)

    def _decoded(self, images: Sequence[Photo]) -> Iterator[tuple[int, Pixels | str]]:
        def decode(image: Photo) -> Pixels | str:
            try:
                return loader(image, self.facts.transform)()
            except ImageError as error:
                return str(error)

        with ThreadPoolExecutor() as pool:
            for start in range(0, len(images), _AHEAD):
                yield from enumerate(pool.map(decode, images[start : start + _AHEAD]), start)


class Exporter(Protocol):
    """One format.

    Attributes:
        artifact: the name of its file, or folder, in an export's folder.
        writes, reads: what must be importable to write one, and to read one.
        extra: the extra that installs them; empty where none is needed.
        quantizations: what ``--quantize`` may be.
        example: Python that defines ``load(folder)``, for the example beside the export.
    """

    artifact: str
    writes: tuple[str, ...]
    reads: tuple[str, ...]
    extra: str
    quantizations: tuple[str, ...]
    example: str

    def write(self, classifier: Classifier, path: Path, quantize: str, photos: Pixels) -> None:
        """Write the artifact at ``path``. ``photos`` (N, S, S, 3) calibrate what is quantised.

        Raises:
            ExportError, BackboneError: this classifier cannot be exported so.
        """
        ...

    def load(self, path: Path) -> Artifact:
        """Read one that `write` wrote. Raises ExportError where it is none, or damaged."""
        ...


registry: Registry[type[Exporter]] = Registry("format", ExportError)
registry.register("litert", "regraft.exporters.litert:LiteRT")
registry.register("onnx", "regraft.exporters.onnx:Onnx")
registry.register("openvino", "regraft.exporters.openvino:OpenVino")
registry.register("saved-model", "regraft.exporters.saved_model:SavedModel")
registry.register("keras", "regraft.exporters.keras:KerasFile")
registry.register("graph-def", "regraft.exporters.graph_def:GraphDef")

_SUFFIXES = {".tflite": "litert", ".onnx": "onnx", ".xml": "openvino", ".keras": "keras", ".pb": "graph-def"}


def find_exporter(name: str, only_to_read: bool = False) -> Exporter:
    """The exporter called ``name``. Raises ExportError where there is none, or what it needs is not installed."""
    exporter = registry.load(name)()
    needed = exporter.reads if only_to_read else (*exporter.writes, *exporter.reads)
    missing = [module for module in dict.fromkeys(needed) if find_spec(module) is None]
    if missing:
        raise ExportError(f"the format {name} needs {', '.join(missing)}; type pip install 'regraft[{exporter.extra}]'")
    return exporter


def load_predictor(path: str | os.PathLike[str]) -> Predictor:
    """A run folder, an export's folder, or an exported file.

    Raises:
        ExportError: it is an export that cannot be read.
        RunError: it is neither.
    """
    place = expanded(path)
    found = _artifact_in(place)
    if found is None:
        return Classifier.load(place)
    name, file = found
    try:
        return find_exporter(name, only_to_read=True).load(file)
    except ExportError:
        raise
    except Exception as error:  # runtimes raise what they like on damaged bytes
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ExportError(f"{file} cannot be read as {name}: {reason}") from error


def _artifact_in(place: Path) -> tuple[str, Path] | None:
    """The format and the artifact that ``place`` is or holds; None where it is neither."""
    if (place / "saved_model.pb").is_file():
        return "saved-model", place
    if place.is_file():
        name = _SUFFIXES.get(place.suffix.lower())
        return (name, place) if name else None
    if is_export(place):
        name = read_report(place)["format"]
        return name, place / registry.load(name)().artifact
    return None


def is_export(folder: Path) -> bool:
    """Return whether a folder says that it is an export."""
    return (folder / REPORT).exists()


def read_report(folder: Path) -> dict[str, Any]:
    """Read what `export` told of an export, as JSON values. Raises ExportError."""
    path = folder / REPORT
    with mended(ExportError, "export the run again"):
        fields = Fields(read_json(path, _REPORT), f"{path} is damaged")
        fields.whole("schema", 1, 1)
        known = registry.names()
        fields.text("format", f"one of {', '.join(known)}", known.__contains__)
        return dict(fields.values)
