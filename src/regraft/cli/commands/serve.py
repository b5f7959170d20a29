"""The command `regraft serve`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from regraft.cli.arguments import given
from regraft.cli.options import ServeOptions
from regraft.config.serving import ServeConfig
from regraft.errors import ConfigError
from regraft.foundation.files import environment_variable
from regraft.local_page.project import Project
from regraft.serving.loading import places_of
from regraft.serving.server import require_packages
from regraft.serving.server import serve as run_server


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
    places |= _place_of_project(config, places)
    run_server(places, config, "regraft.local_page.pages:pages")
    return 0


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
