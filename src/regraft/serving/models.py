"""The models of a server: runs and exports by name and version, also while versions come and go.

In: the paths on the command line. Out: `Models`, which finds a `Model` by its name and version.
Why: one process serves several classifiers, and a new version of one while clients still use the old one.
Surprise: nothing is changed in place. A change makes new dictionaries, so that requests need no lock, and a version
that is no longer served lives until its last answer is given.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from threading import Lock
from typing import TypeVar

from regraft.errors import RegraftError
from regraft.foundation import console
from regraft.serving.loading import Model as Model
from regraft.serving.loading import Seal, load_version, number_of, seal_of, version_folders
from regraft.serving.loading import places_of as places_of

KEPT = 8
"""The most versions of a model that are served: the newest. Runs on the same backbone share its compiled network."""


class UnknownModelError(RegraftError):
    """No model has the name and version of a request."""


Versions = dict[int, Model]
T = TypeVar("T")


class Models:
    """The models of a server.

    Args:
        places: the path of each model, by its name.

    Raises:
        ConfigError, RunError, ExportError, BackboneError: a path holds no run or export that can be served.
    """

    def __init__(self, places: Mapping[str, Path]) -> None:
        self._lock = Lock()
        self._versions: dict[str, Versions] = {}
        self._folders: dict[str, Path] = {}
        self._seen: dict[Path, Seal] = {}
        self._refused: dict[Path, Seal] = {}
        for name, place in places.items():
            if folders := version_folders(place):
                self._folders[name] = place
                self._load_newest(name, folders)
            else:
                self._versions[name] = {1: self._load(name, 1, place)}

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
            there = ", ".join(map(str, sorted(versions)))
            raise UnknownModelError(f"{name} has no version {version}; there is {there}")
        return found

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
            model = self._load(name, number if number > newest else newest + 1, path)
            self._publish(name, {**versions, model.version: model})
            return model

    def refresh(self) -> None:
        """Serve what is in the folders of versions now. Call it in a thread: a new version takes a while to load.

        A version that cannot be loaded is reported once, and the others go on. Where all versions of a model have
        disappeared, those that are loaded go on too.
        """
        with self._lock:
            for name, place in self._folders.items():
                found = _newest_of(version_folders(place))
                for number, path in found.items():
                    self._refresh_version(name, number, path)
                gone = {n for n, model in self._versions[name].items() if model.path.parent == place} - set(found)
                kept = {n: model for n, model in self._versions[name].items() if n not in gone}
                if gone and kept:
                    self._publish(name, kept)

    def _refresh_version(self, name: str, number: int, path: Path) -> None:
        """Load a version that is new or was replaced, once it is complete."""
        seal, known = seal_of(path), self._versions[name].get(number)
        if seal is None or seal == self._refused.get(path) or (known and known.seal == seal):
            return
        before, self._seen[path] = self._seen.get(path), seal
        if not seal.is_last and seal != before:  # it may still be written
            return
        try:
            model = self._load(name, number, path)
        except Exception as error:  # a damaged version must not end the server
            self._refused[path] = seal
            console.warn(f"version {number} of {name} is not served: {error}")
            return
        self._publish(name, {**self._versions[name], number: model})
        console.say(f"version {number} of {name} is served")

    def _load_newest(self, name: str, folders: Mapping[int, Path]) -> None:
        """Load the newest versions. Raises the error of the newest where none can be loaded; else warns of it."""
        self._versions[name] = {}
        failed: dict[int, RegraftError] = {}
        for number, path in _newest_of(folders).items():
            try:
                self._versions[name][number] = self._load(name, number, path)
            except RegraftError as error:
                failed[number] = error
                if seal := seal_of(path):
                    self._refused[path] = seal
        if not self._versions[name]:
            raise failed[max(failed)]
        for number, reason in failed.items():
            console.warn(f"version {number} of {name} is not served: {reason}")

    def _load(self, name: str, number: int, path: Path) -> Model:
        loaded = [model for versions in self._versions.values() for model in versions.values()]
        return load_version(name, number, path, [model.answerer for model in loaded])

    def _publish(self, name: str, versions: Versions) -> None:
        self._versions = {**self._versions, name: _newest_of(versions)}

    def _of(self, name: str) -> Versions:
        if name not in self._versions:
            raise UnknownModelError(f"there is no model {name}; there is {', '.join(self.names) or 'none yet'}")
        return self._versions[name]


def _newest_of(versions: Mapping[int, T]) -> dict[int, T]:
    return {number: versions[number] for number in sorted(versions)[-KEPT:]}
