"""Exports at the paths that old commands name, their format by the suffix; and the runs behind them."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from regraft import _console
from regraft._documents import MEBIBYTE, DamagedError, read_text
from regraft._files import write_text
from regraft._places import Product, claimed, require_free
from regraft.classifier import Classifier
from regraft.config import ExportConfig
from regraft.errors import ExportError
from regraft.evaluation import Predictor
from regraft.exporters import Artifact, find_exporter
from regraft.exporters.graph_def import name_output
from regraft.exporting import export
from regraft.run_folder import is_run, read_manifest

_SAVED_MODEL = Product(
    "a SavedModel", lambda path: (path / "saved_model.pb").is_file(), option="path", error=ExportError, overwrite=""
)
_GRAPH = Product("a file", Path.is_file, option="path", error=ExportError, overwrite="")  # as the old commands did it
_LABELS = Product("a text file", lambda path: _is_text(path), option="path", error=ExportError, overwrite="")
_FORMATS = {".pb": "graph-def", ".tflite": "litert", ".onnx": "onnx", ".xml": "openvino", ".keras": "keras"}


def require_writable(path: Path, saved_model: bool = False) -> str:
    """The format of what is to be at ``path``. Raises ExportError as `write_output` does, but for the comparison."""
    kind = "saved-model" if saved_model or not path.suffix else _FORMATS.get(path.suffix.lower(), "")
    if not kind:
        raise ExportError(
            f"{path} has the suffix of no format; there is {', '.join(_FORMATS)}, or none for a SavedModel"
        )
    require_free(path, _SAVED_MODEL if kind == "saved-model" else _GRAPH)
    find_exporter(kind)
    return kind


def run_behind(predictor: Predictor, folder: str) -> Classifier | None:
    """The run in ``folder`` from which a graph was written, or a run itself; None where it was written from another."""
    if isinstance(predictor, Classifier):
        return predictor
    if not isinstance(predictor, Artifact) or not is_run(Path(folder)):
        return None
    return Classifier.load(folder) if read_manifest(Path(folder)).digest == predictor.facts.run else None


def write_output(
    classifier: Classifier, path: Path, tensor: str = "", saved_model: bool = False, quantize: str = ""
) -> None:
    """Export a run to ``path``: a file whose suffix tells the format, or a SavedModel's folder.

    Args:
        classifier: with its run folder.
        path: where; a file is replaced, of folders only a SavedModel.
        tensor: another name for the probabilities, in a ``.pb``.
        saved_model: whether a folder is wanted, whatever its name.
        quantize: as in `ExportConfig`.

    Raises:
        ExportError: the suffix is that of no format, what the format needs is not installed, something else is in
            the way, or the export was refused.
    """
    kind = require_writable(path, saved_model)
    with tempfile.TemporaryDirectory() as name:
        made = export(str(classifier.path), Path(name) / "export", ExportConfig(kind, quantize))
        if kind == "graph-def" and tensor:
            name_output(made.artifact, tensor)
        if kind == "saved-model":
            with claimed(path, _SAVED_MODEL) as place:
                shutil.copytree(made.artifact, place.fresh, dirs_exist_ok=True)
        else:
            for file in sorted(made.artifact.parent.glob(f"{made.artifact.stem}.*")):
                if file.suffix in (path.suffix, ".bin"):
                    with claimed(path.with_suffix(file.suffix), _GRAPH, file=True) as place:
                        shutil.copyfile(file, place.fresh)
    found = made.comparison
    _console.say(f"{path}: {made.bytes:,} bytes, gives the run's answer to {found.agreement:.1%} of {found.n} photos")


def write_labels(classes: Sequence[str], path: Path) -> None:
    """Write class names to a text file, one a line. Raises ExportError where something else than a text is there."""
    with claimed(path, _LABELS, file=True) as place:
        write_text(place.fresh, "".join(f"{label}\n" for label in classes))


def _is_text(path: Path) -> bool:
    try:
        read_text(path, MEBIBYTE)
    except DamagedError:
        return False
    return True
