"""Exports at the paths that old commands name, their format by the suffix; and the runs behind them."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from regraft import _console
from regraft._files import atomic_file, atomic_folder, digest_json
from regraft.classifier import Classifier, read_manifest
from regraft.config import ExportConfig
from regraft.errors import ExportError
from regraft.evaluation import Predictor
from regraft.exporters import Artifact, find_exporter
from regraft.exporters.graph_def import name_output
from regraft.exporting import export

_FORMATS = {".pb": "graph-def", ".tflite": "litert", ".onnx": "onnx", ".xml": "openvino", ".keras": "keras"}


def require_writable(path: Path, saved_model: bool = False) -> str:
    """The format of what is to be at ``path``. Raises ExportError as `write_output` does, but for the comparison."""
    kind = "saved-model" if saved_model or not path.suffix else _FORMATS.get(path.suffix.lower(), "")
    if not kind:
        raise ExportError(
            f"{path} has the suffix of no format; there is {', '.join(_FORMATS)}, or none for a SavedModel"
        )
    if path.is_dir() and (kind != "saved-model" or (any(path.iterdir()) and not (path / "saved_model.pb").is_file())):
        raise ExportError(f"{path} is a folder and no SavedModel, so it is not replaced")
    find_exporter(kind)
    return kind


def run_behind(predictor: Predictor, folder: str) -> Classifier | None:
    """The run in ``folder`` from which a graph was written, or a run itself; None where it was written from another."""
    if isinstance(predictor, Classifier):
        return predictor
    if not isinstance(predictor, Artifact) or not (Path(folder) / "manifest.json").is_file():
        return None
    known = digest_json(read_manifest(Path(folder)))[:16]
    return Classifier.load(folder) if known == predictor.facts.run else None


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
            with atomic_folder(path) as fresh:
                shutil.copytree(made.artifact, fresh, dirs_exist_ok=True)
        else:
            for file in sorted(made.artifact.parent.glob(f"{made.artifact.stem}.*")):
                if file.suffix in (path.suffix, ".bin"):
                    with atomic_file(path.with_suffix(file.suffix)) as fresh:
                        shutil.copyfile(file, fresh)
    found = made.comparison
    _console.say(f"{path}: {made.bytes:,} bytes, gives the run's answer to {found.agreement:.1%} of {found.n} photos")
