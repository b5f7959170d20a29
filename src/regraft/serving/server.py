"""Run the server: load the models, listen, and end when it is told to.

In: paths of runs and exports, and the options. Out: a server that runs until a signal.
Why: a client that was accepted gets its answer, also when the server is told to stop.
Surprise: uvicorn handles the signals while the server runs, in place of the command line's own way.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from regraft.config.serving import ServeConfig
from regraft.errors import ConfigError
from regraft.foundation import console
from regraft.serving.app import application
from regraft.serving.models import Models


def serve(places: Mapping[str, Path], config: ServeConfig) -> None:
    """Serve models until SIGINT or SIGTERM.

    Args:
        places: the path of each model, by its name.
        config: where the server listens, and who may use it.

    Raises:
        ConfigError: a package of the extra ``serve`` is not installed.
        RunError, ExportError, BackboneError: a path holds no run or export that can be served.
    """
    import uvicorn

    models = Models(places)
    server = uvicorn.Server(
        uvicorn.Config(application(models, config), config.host, config.port, access_log=False, log_config=None)
    )
    console.note(f"http://{config.host}:{config.port}")
    server.run()


def require_packages() -> None:
    """Raise ConfigError where a package of the extra ``serve`` is not installed."""
    missing = [name for name in ("starlette", "uvicorn", "python_multipart") if find_spec(name) is None]
    if missing:
        raise ConfigError(f"`regraft serve` needs {', '.join(missing)}; type: pip install 'regraft[serve]'")
