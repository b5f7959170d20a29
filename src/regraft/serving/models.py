"""The models of a server: runs and exports by name and version.

In: the paths on the command line. Out: `Models`, which finds a `Model` by its name and version.
Why: one process serves several classifiers, and a new version of one while clients still use the old one.
Surprise: a path is a run, an export, or a folder of versions: folders with numbers as names, as TensorFlow Serving
has them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from regraft.classifiers.predictor import Predictor
from regraft.errors import ConfigError, RegraftError
from regraft.exporting.formats.base import load_predictor
from regraft.serving.answering import Answerer, answerer_of

NAME = re.compile(r"[^/\\\s%?#:]{1,100}")
"""The names of models that can stand in an address."""


class UnknownModelError(RegraftError):
    """No model has the name and version of a request."""


@dataclass(frozen=True, slots=True, eq=False)
class Model:
    """One version of a model.

    Attributes:
        name: the name in addresses.
        version: the number of the version, from 1.
        path: the run or export.
        predictor: the predictor, with the classes and the threshold.
        answerer: answers the photos of requests.
    """

    name: str
    version: int
    path: Path
    predictor: Predictor
    answerer: Answerer


class Models:
    """The models of a server.

    Args:
        places: the path of each model, by its name.

    Raises:
        ConfigError, RunError, ExportError, BackboneError: a path holds no run or export that can be served.
    """

    def __init__(self, places: Mapping[str, Path]) -> None:
        self._lock = Lock()
        self._versions = {name: {model.version: model for model in load(name, path)} for name, path in places.items()}

    def add(self, name: str, path: Path) -> Model:
        """Load a run or export as the newest version of a model, and serve it from now on.

        The number of the version is that of its folder, as in ``flowers/2``, if it is above those of all versions;
        otherwise it is the next number. A path that is served already is not loaded again. Call it in a thread: it
        takes a while.

        Args:
            name: the name of the model, which may be new.
            path: the run or export.

        Raises:
            ConfigError, RunError, ExportError, BackboneError: the path holds no run or export that can be served.
        """
        with self._lock:
            versions = self._versions.get(name, {})
            if known := next((model for model in versions.values() if model.path == path), None):
                return known
            number, newest = number_of(path), max(versions, default=0)
            model = load_version(name, number if number > newest else newest + 1, path)
            self._versions = {**self._versions, name: {**versions, model.version: model}}
            return model

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the models, in the order of the command line."""
        return tuple(self._versions)

    def versions(self, name: str) -> tuple[int, ...]:
        """Return the versions of a model, in ascending order. Raises UnknownModelError."""
        return tuple(sorted(self._of(name)))

    def get(self, name: str = "", version: int | None = None) -> Model:
        """Return a model.

        Args:
            name: the name; empty for the first model.
            version: the number of the version; None for the newest.

        Raises:
            UnknownModelError: there is no such model or version.
        """
        name = name or next(iter(self._versions), "")
        versions = self._of(name)
        found = versions.get(max(versions) if version is None else version)
        if found is None:
            raise UnknownModelError(
                f"{name} has no version {version}; there is {', '.join(map(str, sorted(versions)))}"
            )
        return found

    def _of(self, name: str) -> dict[int, Model]:
        if name not in self._versions:
            raise UnknownModelError(f"there is no model {name}; there is {', '.join(self.names) or 'none yet'}")
        return self._versions[name]


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
        if not mark:
            raise ConfigError(f"--name {text}: wanted NAME=PATH")
        pairs.append((name, Path(place)))
    for name, path in pairs:
        if not NAME.fullmatch(name) or name in (".", ".."):
            raise ConfigError(f"{name!r} cannot be the name of a model; type --name NAME={path}")
        if name in found:
            raise ConfigError(f"two models are named {name}; type --name OTHER={path}")
        found[name] = path
    if not found:
        raise ConfigError("there is nothing to serve; type: regraft serve RUN")
    return found


def load(name: str, path: Path) -> list[Model]:
    """Load all versions of a model. Raises ConfigError, RunError, ExportError, BackboneError."""
    folders = version_folders(path)
    return [load_version(name, version, place) for version, place in (folders or {1: path}).items()]


def load_version(name: str, version: int, path: Path) -> Model:
    """Load one version of a model. Raises ConfigError, RunError, ExportError, BackboneError."""
    predictor = load_predictor(path)
    return Model(name, version, path, predictor, answerer_of(predictor))


def version_folders(path: Path) -> dict[int, Path]:
    """Return the folders of a model's versions by their numbers; none where the path is itself a run or an export."""
    if not path.is_dir():
        return {}
    return {number_of(one): one for one in path.iterdir() if number_of(one) and one.is_dir()}


def number_of(path: Path) -> int:
    """Return the number of a version that is the name of its folder; 0 where the name is no such number."""
    return int(path.name) if re.fullmatch("[1-9][0-9]{0,17}", path.name) else 0
