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
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from regraft._cache import read_value, write_value
from regraft._documents import MEBIBYTE, Fields, mended, read_json
from regraft._files import as_path, cache_folder, digest_file, digest_json, thread_limit
from regraft._processes import call
from regraft._processor import processor_digest
from regraft._registry import Registry
from regraft.calibration import Answers
from regraft.classifier import Classifier
from regraft.errors import ExportError, ImageError
from regraft.evaluation import Predictor
from regraft.exporters._facts import LONGEST
from regraft.exporters._facts import Facts as Facts
from regraft.images import Pixels, Problem
from regraft.unlabelled import Found, Photo, loader, path_of, photos_in

REPORT = "export.json"
"""In an export's folder: what was compared. Written last."""

_REPORT = 16 * MEBIBYTE
_MOST_BYTES = 2 * 2**30  # of a file: ONNX, TensorFlow and LiteRT know no larger ones
_ROUNDING = 1e-2  # of probabilities, and of their sum: eight bits know a probability to 0.004
_AHEAD = 64  # photos that are decoded before the runtime sees them

Run = Callable[[Pixels], tuple[NDArray[np.float32], NDArray[np.float32] | None]]
"""uint8 photos (N, S, S, 3) to probabilities (N, C) and novelty (N,), None where the export has none."""


def text_in_archive(file: Path | io.BytesIO, name: str) -> str | None:
    """A text in a zip archive; None where there is none. Raises ExportError where it is unreasonably long."""
    if not zipfile.is_zipfile(file):
        return None
    with zipfile.ZipFile(file) as archive:
        if name not in archive.namelist():
            return None
        if archive.getinfo(name).file_size > LONGEST:
            raise ExportError(f"{name} in it is longer than {LONGEST // 2**20} MiB: is it an export?")
        return archive.read(name).decode("utf-8")


@dataclass(frozen=True, slots=True)
class Artifact:
    """A loaded export; a `Predictor`.

    Attributes:
        facts: what it knows of itself.
        run: what computes; `ask` checks what it gives.
        path: the file or folder that was loaded.
    """

    facts: Facts
    run: Run
    path: Path = Path()

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
        self, images: Photo | Iterable[Photo], on_problem: Callable[[Problem], None] | None = None
    ) -> NDArray[np.float32]:
        """As `Classifier.predict_proba`, without a cache."""
        return self.answers(images, on_problem).probabilities

    def answers(self, images: Photo | Iterable[Photo], on_problem: Callable[[Problem], None] | None = None) -> Answers:
        """As `Classifier.answers`, without a cache."""
        photos = list(photos_in(images))
        probabilities = np.full((len(photos), len(self.classes)), np.nan, np.float32)
        novelty = np.full(len(photos), np.nan, np.float32)
        for index, pixels in self._decoded(photos):
            if isinstance(pixels, str):
                problem = Problem(path_of(photos[index], index), pixels)
                if on_problem is None:
                    raise ImageError(f"{problem.path}: {problem.reason}")
                on_problem(problem)
                continue
            row, strange = self.ask(pixels[np.newaxis])
            probabilities[index] = row[0]
            if strange is not None:
                novelty[index] = strange[0]
        return Answers(probabilities, novelty)

    def ask(self, photos: Pixels) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        """What the artifact answers to photos (N, S, S, 3), as `run`; checked, since the file may come from anyone.

        Raises:
            ExportError: the runtime fails, or what it gives is no probabilities or no novelty.
        """
        try:
            found, novelty = self.run(photos)
        except Exception as error:  # runtimes raise what they like on damaged graphs
            raise ExportError(f"{self.path} cannot answer: {_reason(error)}; export it again") from error
        wanted = (len(photos), len(self.classes))
        if found.shape != wanted or not _are_probabilities(found):
            raise ExportError(
                f"{self.path} gives no probabilities: numbers of the shape {found.shape}, of which the first are "
                f"{_first(found)}; wanted {wanted} between 0 and 1, which add up to 1 for each photo; export it again"
            )
        missing = novelty is None and self.threshold is not None
        if missing or (novelty is not None and (novelty.shape != wanted[:1] or not np.isfinite(novelty).all())):
            told = "none" if novelty is None else f"{_first(novelty)}, of the shape {novelty.shape}"
            raise ExportError(f"{self.path} gives no novelty of its photos: {told}; export it again")
        return found, novelty

    def _decoded(self, photos: Sequence[Found]) -> Iterator[tuple[int, Pixels | str]]:
        def decode(photo: Found) -> Pixels | str:
            try:
                return loader(photo, self.facts.transform)()
            except ImageError as error:
                return str(error)

        with ThreadPoolExecutor(thread_limit()) as pool:
            for start in range(0, len(photos), _AHEAD):
                yield from enumerate(pool.map(decode, photos[start : start + _AHEAD]), start)


def _are_probabilities(found: NDArray[np.float32]) -> bool:
    """Whether rows (N, C) are finite, between 0 and 1, and add up to 1, but for rounding."""
    if found.dtype.kind != "f" or not np.isfinite(found).all():
        return False
    inside = (found >= -_ROUNDING).all() and (found <= 1 + _ROUNDING).all()
    return bool(inside and (np.abs(found.sum(axis=1, dtype=np.float64) - 1) <= _ROUNDING).all())


def _first(found: NDArray[np.float32]) -> str:
    return ", ".join(f"{number:.3g}" for number in found.ravel()[:3].tolist())


def _reason(error: Exception) -> str:
    """A runtime's error in one line of at most 200 characters."""
    return " ".join(str(error).split())[:200] or type(error).__name__


class Exporter(Protocol):
    """One format.

    Attributes:
        artifact: the name of its file, or folder, in an export's folder.
        writes, reads: what must be importable to write one, and to read one.
        extra: the extra that installs them; empty where none is needed.
        runtime: what users call the program that reads it.
        quantizations: what ``--quantize`` may be.
        example: Python that defines ``load(folder)``, for the example beside the export.
    """

    artifact: str
    writes: tuple[str, ...]
    reads: tuple[str, ...]
    extra: str
    runtime: str
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
        ConfigError: ``path`` is no path.
        ExportError: it is an export that cannot be read.
        RunError: it is neither.
    """
    place = as_path(path, "the run or export")
    found = _artifact_in(place)
    if found is None:
        return Classifier.load(place)
    name, file = found
    contents = _require_whole(file)
    exporter = find_exporter(name, only_to_read=True)
    _require_alive(file, contents, exporter.runtime)
    return _loaded(name, exporter, file)


def load_artifact(path: Path) -> Artifact:
    """Load an exported file in this process, which its runtime may end. Raises ExportError where it is none."""
    found = _artifact_in(path)
    if found is None:
        raise ExportError(f"{path} is no export")
    return _loaded(found[0], find_exporter(found[0], only_to_read=True), found[1])


def ask_once(artifact: str) -> None:
    """Load an exported file and ask it about a grey photo. Runs in a process of its own, which may die of it."""
    predictor = load_artifact(Path(artifact))
    size = predictor.facts.transform.size
    predictor.ask(np.full((1, size, size, 3), 128, np.uint8))


def vouch_for(artifact: Path) -> None:
    """Remember that an artifact was asked in a process of its own on this processor, and that its runtime lived."""
    write_value(_voucher(digests(artifact)), {"artifact": artifact.name})


def runtime_of(artifact: Path) -> str:
    """What users call the program that reads an artifact, such as ``LiteRT``."""
    found = _artifact_in(artifact)
    return registry.load(found[0])().runtime if found else "its runtime"


def _loaded(name: str, exporter: Exporter, file: Path) -> Artifact:
    try:
        return replace(exporter.load(file), path=file)
    except ExportError:
        raise
    except Exception as error:  # runtimes raise what they like on damaged bytes
        raise ExportError(f"{file} cannot be read as {name}: {_reason(error)}") from error


def _require_alive(file: Path, contents: Mapping[str, str], runtime: str) -> None:
    """Raise ExportError where the runtime dies of a file that nobody on this processor has asked before."""
    if read_value(_voucher(contents)) is None:
        call("regraft.exporters:ask_once", {"artifact": str(file)}, f"{file} in {runtime}", "tensorflow", ExportError)
        vouch_for(file)


def _voucher(contents: Mapping[str, str]) -> Path:
    return cache_folder("probes") / f"export-{digest_json([dict(contents), processor_digest()])[:32]}.json"


def digests(artifact: Path) -> dict[str, str]:
    """SHA-256 digests of the files that an artifact consists of, by their paths beside it, or within it, if a folder.

    ``model.xml`` comes with its weights, ``model.bin``.
    """
    inside = sorted(artifact.rglob("*")) if artifact.is_dir() else sorted(artifact.parent.glob(f"{artifact.stem}.*"))
    files = [file for file in inside if file.is_file()]
    return {file.relative_to(artifact.parent).as_posix(): digest_file(file) for file in files}


def _require_whole(artifact: Path) -> dict[str, str]:
    """The digests of an artifact. Raises ExportError where it is not the one that the report beside it is about.

    Runtimes do not notice a bit that tipped over in the weights, and some would end the process over worse damage.
    """
    size = artifact.stat().st_size
    if size > _MOST_BYTES:
        raise ExportError(f"{artifact} has {size:,} bytes, more than the {_MOST_BYTES:,} that an export may have")
    found = digests(artifact)
    if any(found.get(name) != digest for name, digest in _known_digests(artifact.parent / REPORT).items()):
        raise ExportError(
            f"{artifact} is damaged: it is not the file that {REPORT} beside it was written about; export it again"
        )
    return found


def _known_digests(report: Path) -> dict[str, str]:
    """The digests that a report holds; none where there is no report, or one that is older or is of somebody else."""
    if not report.is_file() or report.stat().st_size > LONGEST:
        return {}
    try:
        files = json.loads(report.read_text(encoding="utf-8"))["files"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return {}
    return files if isinstance(files, dict) else {}


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
