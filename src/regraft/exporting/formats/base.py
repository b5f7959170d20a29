"""Export formats: the protocol of an exporter, the registry of formats, and the loading of exported artifacts.

In: a run. Out: an artifact, from pixels to probabilities and novelty, with all steps inside. Loaded: a `Predictor`.
Why: a common complaint about exported models is that they answer differently from the original.
Surprise: an exporter also loads what it wrote, so that evaluating an export needs no code of its own.
"""

from __future__ import annotations

import io
import json
import os
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from threading import Lock
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from regraft.classifiers.classifier import Classifier
from regraft.classifiers.predictor import Answered, Answers, Predictor, answer_all
from regraft.classifiers.run_folder import is_run
from regraft.errors import ExportError, ImageError
from regraft.exporting.facts import LONGEST
from regraft.exporting.facts import Facts as Facts
from regraft.foundation.cache_files import read_value, write_value
from regraft.foundation.documents import MEBIBYTE, Fields, mended, read_json
from regraft.foundation.files import as_path, cache_folder, digest_file, digest_json, thread_limit
from regraft.foundation.processes import call
from regraft.foundation.processor import processor_digest
from regraft.foundation.registry import Registry
from regraft.photos.images import Pixels, Problem
from regraft.photos.unlabelled import Found, Photo, loader

REPORT = "export.json"
"""The name of the report in an export's folder: the comparison with the run. It is written last."""

_MAX_REPORT = 16 * MEBIBYTE
_MOST_BYTES = 2 * 2**30  # of a file: the limit of ONNX, TensorFlow and LiteRT
_ROUNDING = 1e-2  # of a probability and of their sum: a step of eight bits is 0.004
_AHEAD = 64  # photos that are decoded before the runtime sees them

Run = Callable[[Pixels], tuple[NDArray[np.float32], NDArray[np.float32] | None]]
"""From photos, uint8 (N, S, S, 3), to probabilities (N, C) and novelty (N,); None where the export has no novelty."""


def text_in_archive(file: Path | io.BytesIO, name: str) -> str | None:
    """Return the text file ``name`` of a zip archive; None where there is no such archive or no such file.

    Raises:
        ExportError: the text is longer than `LONGEST`.
    """
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
    """A loaded export, which is a `Predictor`.

    Attributes:
        facts: the classes, transform and calibration that are stored in the export.
        run: the function that runs the graph on pixels; `ask` checks its results.
        path: the file or folder that was loaded.
        is_concurrent: whether several threads may call ``run`` at once; LiteRT and OpenVINO have one input for all.
    """

    facts: Facts
    run: Run
    path: Path = Path()
    is_concurrent: bool = False
    _one_at_a_time: Any = field(default_factory=Lock, init=False, repr=False, compare=False)

    @property
    def classes(self) -> tuple[str, ...]:
        """The labels, in the order of the probabilities."""
        return self.facts.classes

    @property
    def temperature(self) -> float:
        """The temperature: the number by which the graph divides the logits before the softmax."""
        return self.facts.temperature

    @property
    def threshold(self) -> float | None:
        """The novelty above which the answer is "none of these"; None for never."""
        return self.facts.threshold

    def predict_proba(self, images: Any, on_problem: Callable[[Problem], None] | None = None) -> NDArray[np.float32]:
        """Return class probabilities ``(N, C)``, as `Classifier.predict_proba` does, but without a feature cache."""
        return self.answers(images, on_problem).probabilities

    def answers(self, images: Photo | Iterable[Photo], on_problem: Callable[[Problem], None] | None = None) -> Answers:
        """Return probabilities and novelty, as `Classifier.answers` does, but without a feature cache."""
        return answer_all(images, len(self.classes), self._answer, on_problem)

    def _answer(self, photos: Sequence[Found]) -> Answered:
        """Yield the answer to each photo, or the reason why the photo cannot be read."""
        for index, pixels in self._decoded(photos):
            if isinstance(pixels, str):
                yield index, pixels
            else:
                row, novelty = self.ask(pixels[np.newaxis])
                yield [index], Answers(row, np.full(1, np.nan, np.float32) if novelty is None else novelty)

    def ask(self, photos: Pixels) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        """Run the graph on photos and check the results, since the file may be damaged or from an unknown source.

        Args:
            photos: pixels, uint8 (N, S, S, 3).

        Returns:
            Probabilities (N, C) and novelty (N,); None where the export has no novelty.

        Raises:
            ExportError: the runtime fails, or its results are not probabilities and novelty.
        """
        try:
            with nullcontext() if self.is_concurrent else self._one_at_a_time:
                found, novelty = self.run(photos)
        except Exception as error:  # runtimes raise errors of many types on damaged graphs
            raise ExportError(f"{self.path} cannot answer: {_reason(error)}; export it again") from error
        wanted = len(photos), len(self.classes)
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
        """Yield the index of each photo with its pixels (S, S, 3), or with the reason why it cannot be read."""

        def decode(photo: Found) -> Pixels | str:
            try:
                return loader(photo, self.facts.transform)()
            except ImageError as error:
                return str(error)

        with ThreadPoolExecutor(thread_limit()) as pool:
            for start in range(0, len(photos), _AHEAD):
                yield from enumerate(pool.map(decode, photos[start : start + _AHEAD]), start)


def _are_probabilities(found: NDArray[np.float32]) -> bool:
    """Return whether rows (N, C) are finite, between 0 and 1, and sum to 1, up to rounding."""
    if found.dtype.kind != "f" or not np.isfinite(found).all():
        return False
    inside = (found >= -_ROUNDING).all() and (found <= 1 + _ROUNDING).all()
    return bool(inside and (np.abs(found.sum(axis=1, dtype=np.float64) - 1) <= _ROUNDING).all())


def _first(found: NDArray[np.float32]) -> str:
    """Return the first three numbers of an array as text, for a message."""
    return ", ".join(f"{number:.3g}" for number in found.ravel()[:3].tolist())


def _reason(error: Exception) -> str:
    """Return the message of a runtime's error in one line of at most 200 characters."""
    return " ".join(str(error).split())[:200] or type(error).__name__


class Exporter(Protocol):
    """One export format: how an artifact is written and loaded.

    Attributes:
        artifact: the name of the artifact, a file or folder, in an export's folder. A file's suffix is the format's.
        folder_holds: for a format that is a folder, the name of a file that identifies such a folder; else empty.
        writes: the packages that must be importable to write an artifact.
        reads: the packages that must be importable to load an artifact.
        extra: the extra of regraft that installs these packages; empty where none is needed.
        runtime: the name of the program that reads the format, such as ``LiteRT``.
        quantizations: the possible values of the option ``quantize``.
        example: Python code that defines ``load(folder)``, for the example program beside the export.
    """

    artifact: str
    folder_holds: str
    writes: tuple[str, ...]
    reads: tuple[str, ...]
    extra: str
    runtime: str
    quantizations: tuple[str, ...]
    example: str

    def write(self, classifier: Classifier, path: Path, quantize: str, photos: Pixels) -> None:
        """Write the artifact at ``path``; ``photos`` (N, S, S, 3) are the calibration photos of a quantisation.

        Raises:
            ExportError, BackboneError: this classifier cannot be exported to this format.
        """
        ...

    def load(self, path: Path) -> Artifact:
        """Load an artifact that `write` wrote. Raises ExportError where it is of another origin, or damaged."""
        ...


registry: Registry[type[Exporter]] = Registry("format", ExportError)
registry.register("litert", "regraft.exporting.formats.litert:LiteRT")
registry.register("onnx", "regraft.exporting.formats.onnx:Onnx")
registry.register("openvino", "regraft.exporting.formats.openvino:OpenVino")
registry.register("saved-model", "regraft.exporting.formats.saved_model:SavedModel")
registry.register("keras", "regraft.exporting.formats.keras:KerasFile")
registry.register("graph-def", "regraft.exporting.formats.graph_def:GraphDef")


def format_of_suffix(suffix: str) -> str | None:
    """Return the name of the format whose files have a suffix, such as ``.onnx``; None where no format has it."""
    wanted = suffix.lower()
    names = registry.lookup_order() if wanted else ()
    return next((name for name in names if _suffix(name) == wanted), None)


def file_suffixes() -> list[str]:
    """Return the suffixes of all formats that are files."""
    return [suffix for suffix in map(_suffix, registry.lookup_order()) if suffix]


def _suffix(name: str) -> str:
    """Return the file suffix of a format; empty for a format that is a folder."""
    return Path(registry.load(name).artifact).suffix.lower()


def _format_of(place: Path) -> str | None:
    """Return the format of a file by its suffix, or of a folder by a file in it; None where it has no format."""
    if not place.is_dir():
        return format_of_suffix(place.suffix) if place.is_file() else None
    marks = ((name, registry.load(name).folder_holds) for name in registry.lookup_order())
    return next((name for name, mark in marks if mark and (place / mark).is_file()), None)


def find_exporter(name: str, only_to_read: bool = False) -> Exporter:
    """Return the exporter of a format.

    Raises:
        ExportError: there is no format ``name``, or a package that it needs is not installed.
    """
    exporter = registry.load(name)()
    needed = exporter.reads if only_to_read else (*exporter.writes, *exporter.reads)
    missing = [module for module in dict.fromkeys(needed) if find_spec(module) is None]
    if missing:
        raise ExportError(f"the format {name} needs {', '.join(missing)}; type pip install 'regraft[{exporter.extra}]'")
    return exporter


def load_predictor(path: str | os.PathLike[str]) -> Predictor:
    """Load the predictor of a run folder, an export's folder or an exported file.

    Args:
        path: the path of the folder or file.

    Returns:
        A `Classifier` for a run folder, otherwise a loaded export.

    Raises:
        ConfigError: ``path`` is no path.
        ExportError: the export at ``path`` cannot be read, or its runtime is not installed.
        RunError: there is neither a run nor an export at ``path``, or the run cannot be read.
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
    """Load an exported file in this process, which a damaged file may crash. Raises ExportError for another file."""
    found = _artifact_in(path)
    if found is None:
        raise ExportError(f"{path} is no export")
    return _loaded(found[0], find_exporter(found[0], only_to_read=True), found[1])


def ask_once(artifact: str) -> None:
    """Load an exported file and ask it about a grey photo. Call it in a process of its own, which may crash."""
    predictor = load_artifact(Path(artifact))
    size = predictor.facts.transform.size
    predictor.ask(np.full((1, size, size, 3), 128, np.uint8))


def vouch_for(artifact: Path) -> None:
    """Remember in the cache that an artifact was asked on this processor without crashing its runtime."""
    write_value(_voucher(digests(artifact)), {"artifact": artifact.name})


def runtime_of(artifact: Path) -> str:
    """Return the name of the program that reads an artifact, such as ``LiteRT``."""
    found = _artifact_in(artifact)
    return registry.load(found[0])().runtime if found else "its runtime"


def _loaded(name: str, exporter: Exporter, file: Path) -> Artifact:
    """Load an artifact; each error of its runtime becomes an ExportError."""
    try:
        return replace(exporter.load(file), path=file)
    except ExportError:
        raise
    except Exception as error:  # runtimes raise errors of many types on damaged bytes
        raise ExportError(f"{file} cannot be read as {name}: {_reason(error)}") from error


def _require_alive(file: Path, contents: Mapping[str, str], runtime: str) -> None:
    """Raise ExportError where a file crashes its runtime; each file is tried once on each type of processor."""
    if read_value(_voucher(contents)) is None:
        call(
            "regraft.exporting.formats.base:ask_once",
            {"artifact": str(file)},
            f"{file} in {runtime}",
            "tensorflow",
            ExportError,
        )
        vouch_for(file)


def _voucher(contents: Mapping[str, str]) -> Path:
    """Return the cache file that says that an artifact with these digests did not crash on this processor."""
    return cache_folder("probes") / f"export-{digest_json([dict(contents), processor_digest()])[:32]}.json"


def digests(artifact: Path) -> dict[str, str]:
    """Return the SHA-256 digests of an artifact's files by their paths: for ``model.xml`` also ``model.bin``."""
    inside = sorted(artifact.rglob("*")) if artifact.is_dir() else sorted(artifact.parent.glob(f"{artifact.stem}.*"))
    files = [file for file in inside if file.is_file()]
    return {file.relative_to(artifact.parent).as_posix(): digest_file(file) for file in files}


def _require_whole(artifact: Path) -> dict[str, str]:
    """Return the digests of an artifact. Raises ExportError where they differ from those in the report beside it.

    Runtimes do not notice a flipped bit in the weights, and some crash the process on greater damage.
    """
    size = artifact.stat().st_size
    if size > _MOST_BYTES:
        raise ExportError(f"{artifact} has {size:,} bytes, more than the {_MOST_BYTES:,} that an export may have")
    found = digests(artifact)
    if any(found.get(name) != digest for name, digest in _known_digests(artifact.parent / REPORT).items()):
        raise ExportError(
            f"{artifact} is damaged: it differs from the file that {REPORT} beside it describes; export it again"
        )
    return found


def _known_digests(report: Path) -> dict[str, str]:
    """Return the digests in a report; none where there is no report, or an older or unknown one without digests."""
    if not report.is_file() or report.stat().st_size > LONGEST:
        return {}
    try:
        files = json.loads(report.read_text(encoding="utf-8"))["files"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return {}
    return files if isinstance(files, dict) else {}


def _artifact_in(place: Path) -> tuple[str, Path] | None:
    """Return the format and the path of the artifact that ``place`` is or contains; None where it is no export."""
    if is_export(place):
        name = read_report(place)["format"]
        return name, place / registry.load(name)().artifact
    if is_run(place):  # tested first, so that a run, the usual case, imports no exporter
        return None
    name = _format_of(place)
    return (name, place) if name else None


def is_export(folder: Path) -> bool:
    """Return whether a folder holds an export's report."""
    return (folder / REPORT).exists()


def read_report(folder: Path) -> dict[str, Any]:
    """Read the report of an export as JSON values. Raises ExportError where it is damaged."""
    path = folder / REPORT
    with mended(ExportError, "export the run again"):
        fields = Fields(read_json(path, _MAX_REPORT), f"{path} is damaged")
        fields.whole("schema", 1, 1)
        known = registry.names()
        fields.text("format", f"one of {', '.join(known)}", known.__contains__)
        return dict(fields.values)
