"""The command `regraft serve`."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from regraft.classifiers.run_folder import is_run
from regraft.cli.arguments import given
from regraft.cli.options import ServeOptions
from regraft.config.serving import ServeConfig
from regraft.errors import ConfigError, RegraftError
from regraft.foundation import console
from regraft.foundation.files import environment_variable
from regraft.local_page.project import Project
from regraft.serving.loading import places_of
from regraft.serving.server import require_packages
from regraft.serving.server import serve as run_server
from regraft.training.updating import newest_after


def serve(arguments: Any) -> int:
    """Run `regraft serve`. Returns the exit code."""
    require_packages()
    typed = given(arguments, ServeConfig)
    if "no_token" not in typed:  # a command line can be read by every user of a machine, the environment cannot
        typed = {"token": environment_variable("REGRAFT_TOKEN"), **typed}
    config = ServeConfig(**typed)
    if config.unlabelled and not config.unlabelled.exists():
        raise ConfigError(f"there is no folder {config.unlabelled}; wanted the folder of photos without labels")
    options = ServeOptions(**given(arguments, ServeOptions))
    paths = [Path(path).expanduser() for path in arguments.models]
    places = {} if config.new and not (paths or options.name) else places_of(paths, options.name)
    _tell_newer(places)
    places |= _place_of_project(config, places)
    run_server(places, config, "regraft.local_page.pages:pages")
    return 0


def _tell_newer(places: Mapping[str, Path]) -> None:
    """Warn where a run was trained again, as the page does, and the older one is served."""
    for path in places.values():
        with suppress(RegraftError):  # whatever is wrong with another run is no matter of this server
            if is_run(path) and (newest := newest_after(path)):
                console.warn(f"{newest} was trained from {path}; to serve it, type: regraft serve {newest}")


def _place_of_project(config: ServeConfig, places: Mapping[str, Path]) -> dict[str, Path]:
    """Return the folder of a project's runs by its name; nothing where there is no project, or no run in it yet.

    Raises:
        ConfigError: the folder of the project is something else, or its name is that of another model.
    """
    if config.new is None:
        return {}
    project = Project(config.new)
    if project.name in places:
        raise ConfigError(f"two models are named {project.name}; type --name OTHER={places[project.name]}")
    return {project.name: project.runs} if project.trained() else {}
