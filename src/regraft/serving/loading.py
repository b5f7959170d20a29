"""One version of a model, from its path to its first answer.

In: the path of a run, an export, or a folder of versions. Out: a `Model` that has answered a photo.
Why: a version must not be served before it is complete and answers fast.
Surprise: a path is a run, an export, or a folder of versions: folders with numbers as names, as TensorFlow Serving
has them.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from regraft.backbones.side_by_side import parts_of
from regraft.classifiers.classifier import Classifier
from regraft.classifiers.predictor import Predictor
from regraft.classifiers.run_folder import LAYOUT
from regraft.errors import ConfigError
from regraft.exporting.formats.base import REPORT, Artifact, load_predictor
from regraft.serving.answering import Answerer, answerer_of

NAME = re.compile(r"[^/\\\s%?#:\x00-\x1f\x7f]{1,100}")
"""The names of models that can stand in an address."""

VERSION = re.compile("[1-9][0-9]{0,17}")
"""The texts that are the number of a version."""


@dataclass(frozen=True, slots=True)
class Seal:
    """What tells whether the files of a version have changed.

    Attributes:
        files: path, size and time of each file that was looked at.
        is_last: whether it is a file that is written last, so that the version is complete.
    """

    files: tuple[tuple[str, int, int], ...]
    is_last: bool


@dataclass(frozen=True, slots=True, eq=False)
class Model:
    """One version of a model.

    Attributes:
        name: the name in addresses.
        version: the number of the version, from 1.
        path: the run or export.
        predictor: the predictor, with the classes and the threshold.
        answerer: answers the photos of requests.
        seal: what the files were when they were loaded; None where they were not complete.
    """

    name: str
    version: int
    path: Path
    predictor: Predictor
    answerer: Answerer
    seal: Seal | None = None

    @property
    def knows_novelty(self) -> bool:
        """Whether the answers have a novelty."""
        if isinstance(self.predictor, Classifier):
            return self.predictor.calibration.novelty is not None
        return self.predictor.threshold is not None

    def is_novel(self, novelty: float) -> bool:
        """Return whether a photo of this novelty is answered with "none of these"; never where it is NaN."""
        return self.predictor.threshold is not None and novelty > self.predictor.threshold

    @property
    def size(self) -> int:
        """The side of the square that the network sees, in pixels; 0 where several networks see different squares."""
        if not isinstance(self.predictor, Classifier):
            return self.predictor.facts.transform.size if isinstance(self.predictor, Artifact) else 0
        parts = parts_of(self.predictor.backbone)
        return parts[0].transform.size if len({part.transform for part in parts}) == 1 else 0


def places_of(paths: Iterable[Path], named: Iterable[str] = ()) -> dict[str, Path]:
    """Return the path of each model by its name.

    Args:
        paths: the paths of models, each of which is named after its folder or file.
        named: further models as ``NAME=PATH``.

    Raises:
        ConfigError: a name is used twice or cannot stand in an address, or there is no model.
    """
    found: dict[str, Path] = {}
    pairs = [(path.absolute().name, path) for path in paths]
    for text in named:
        name, mark, place = text.partition("=")
        if not (mark and place):
            raise ConfigError(f"--name {text}: wanted NAME=PATH")
        pairs.append((name, Path(place).expanduser()))
    for name, path in pairs:
        if not NAME.fullmatch(name) or name in (".", ".."):
            raise ConfigError(f"{name!r} cannot be the name of a model; type --name NAME={path}")
        if name in found:
            raise ConfigError(f"two models are named {name}; type --name OTHER={path}")
        found[name] = path
    if not found:
        raise ConfigError("there is nothing to serve; type: regraft serve RUN")
    return found


def load_version(name: str, version: int, path: Path, loaded: Sequence[Answerer] = ()) -> Model:
    """Load one version of a model, and let it answer a grey photo, so that the first client does not wait.

    Args:
        name: the name of the model.
        version: the number of the version.
        path: the run or export.
        loaded: the answerers of other versions, whose compiled network is used where it is the same.

    Raises:
        ConfigError, RunError, ExportError, BackboneError: the path holds no run or export that can be served.
    """
    seal, predictor = seal_of(path), load_predictor(path)
    answerer = answerer_of(predictor, loaded)
    answerer.answer([answerer.decode(_grey_photo())])
    return Model(name, version, path, predictor, answerer, seal)


def _grey_photo() -> bytes:
    """Return a small JPEG."""
    with io.BytesIO() as file:
        Image.new("RGB", (64, 64), "grey").save(file, "JPEG")
        return file.getvalue()


def version_folders(path: Path) -> dict[int, Path]:
    """Return the folders of a model's versions by their numbers; none where the path is itself a run or an export."""
    try:
        return {number_of(one): one for one in path.iterdir() if number_of(one) and one.is_dir()}
    except OSError:
        return {}


def number_of(path: Path) -> int:
    """Return the number of a version that is the name of its folder; 0 where the name is no such number."""
    return int(path.name) if VERSION.fullmatch(path.name) else 0


def seal_of(path: Path) -> Seal | None:
    """Return what tells whether a version has changed: the file that is written last, or else all of its files.

    Returns:
        None where the folder has no file yet, or cannot be read.
    """
    last = next((file for name in (LAYOUT.manifest, REPORT) if (file := path / name).is_file()), None)
    try:
        files = [last] if last else sorted(file for file in path.rglob("*") if file.is_file())
        states = tuple((file.as_posix(), (state := file.stat()).st_size, state.st_mtime_ns) for file in files)
    except OSError:
        return None
    return Seal(states, last is not None) if states else None
