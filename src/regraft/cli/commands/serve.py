"""The command `regraft serve`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from regraft.cli.arguments import given
from regraft.cli.options import ServeOptions
from regraft.config.serving import ServeConfig
from regraft.serving.models import places_of
from regraft.serving.server import require_packages
from regraft.serving.server import serve as run_server


def serve(arguments: Any) -> int:
    """Run `regraft serve`. Returns the exit code."""
    require_packages()
    config = ServeConfig(**given(arguments, ServeConfig))
    options = ServeOptions(**given(arguments, ServeOptions))
    run_server(places_of([Path(path).expanduser() for path in arguments.models], options.name), config)
    return 0
