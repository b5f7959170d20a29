"""The command `regraft serve`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from regraft.cli.arguments import given
from regraft.config.serving import ServeConfig
from regraft.serving.models import places_of
from regraft.serving.server import require_packages
from regraft.serving.server import serve as run_server


def serve(arguments: Any) -> int:
    """Run `regraft serve`. Returns the exit code."""
    require_packages()
    config = ServeConfig(**given(arguments, ServeConfig))
    run_server(places_of([Path(path).expanduser() for path in arguments.models]), config)
    return 0
