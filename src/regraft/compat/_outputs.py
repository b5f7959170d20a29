"""Write exports to the paths that classic commands name, with the format of the suffix; find the run of an export."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from regraft.classifiers.classifier import Classifier
from regraft.classifiers.predictor import Predictor
from regraft.classifiers.run_folder import is_run, read_manifest
from regraft.config.exporting import ExportConfig
from regraft.errors import ExportError
from regraft.exporting.exporting import export
from regraft.exporting.formats.base import Artifact, file_suffixes, find_exporter, format_of_suffix
from regraft.exporting.formats.graph_def import name_output
from regraft.foundation import console
from regraft.foundation.documents import MEBIBYTE, DamagedError, read_text
from regraft.foundation.files import write_text
from regraft.foundation.places import Product, claimed, require_free

_SAVED_MODEL = Product(
    "a SavedModel", lambda path: (path / "saved_model.pb").is_file(), option="path", error=ExportError, overwrite=""
)
_GRAPH = Product(
    "a file", Path.is_file, option="path", error=ExportError, overwrite=""
)  # a file is replaced without asking, as by the originals
_LABELS = Product("a text file", lambda path: _is_text(path), option="path", error=ExportError, overwrite="")


def require_writable(path: Path, saved_model: bool = False) -> str:
    """Return the format of an export at ``path``, before any work is done for it.

    Raises:
        ExportError: the suffix is not that of a format, a package is missing, or ``path`` is taken.
    """
    kind = "saved-model" if saved_model or not path.suffix else format_of_suffix(path.suffix)
    if not kind:
        raise ExportError(
            f"{path} has the suffix of no format; choose from {', '.join(file_suffixes())}, or none for a SavedModel"
        )
    require_free(path, _SAVED_MODEL if kind == "saved-model" else _GRAPH)
    find_exporter(kind)
    return kind


def run_behind(predictor: Predictor, folder: str) -> Classifier | None:
    """Return the run from which a graph was written.

    Args:
        predictor: the loaded graph; a run is returned as it is.
        folder: the folder in which the run may be.

    Returns:
        The run, or None where ``folder`` is not the run from which the graph was written.
    """
    if isinstance(predictor, Classifier):
        return predictor
    if not isinstance(predictor, Artifact) or not is_run(Path(folder)):
        return None
    return Classifier.load(folder) if read_manifest(Path(folder)).digest == predictor.facts.run else None


def write_output(
    classifier: Classifier, path: Path, tensor: str = "", saved_model: bool = False, quantize: str = ""
) -> None:
    """Export a run to ``path``: a file in the format of its suffix, or the folder of a SavedModel.

    Args:
        classifier: the classifier, with its run folder.
        path: the file or folder to write; a file is replaced, and so is the folder of a SavedModel.
        tensor: another name for the output ``probabilities`` in a ``.pb``; empty for none.
        saved_model: whether to write a SavedModel, whatever the suffix.
        quantize: the quantisation; see `ExportConfig`.

    Raises:
        ExportError: the suffix is not that of a format, a package that the format needs is not installed, ``path`` is
            taken, or the export answers differently from the run.
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
                if file.suffix in (path.suffix.lower(), ".bin"):
                    with claimed(path.with_suffix(file.suffix), _GRAPH, file=True) as place:
                        shutil.copyfile(file, place.fresh)
    found = made.comparison
    console.say(f"{path}: {made.bytes:,} bytes, gives the run's answer to {found.agreement:.1%} of {found.n} photos")


def write_labels(classes: Sequence[str], path: Path) -> None:
    """Write class names to a text file, one a line. Raises ExportError where ``path`` is not a text file."""
    with claimed(path, _LABELS, file=True) as place:
        write_text(place.fresh, "".join(f"{label}\n" for label in classes))


def _is_text(path: Path) -> bool:
    try:
        read_text(path, MEBIBYTE)
    except DamagedError:
        return False
    return True
