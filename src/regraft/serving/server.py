"""Start the server: load the models, and meanwhile import what listens.

In: paths of runs and exports, and the options. Out: a server that runs until a signal.
Why: a server that starts fast can be started again without anybody noticing.
Surprise: the models are loaded in a thread, since OpenVINO reads a network while Python imports uvicorn and Starlette.
Nothing is answered before every model has answered a photo.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

from regraft.config.serving import ServeConfig
from regraft.errors import ConfigError
from regraft.foundation.names import resolve
from regraft.serving.listening import bound_sockets
from regraft.serving.models import Models


def serve(places: Mapping[str, Path], config: ServeConfig, pages: str) -> None:
    """Serve models until SIGINT or SIGTERM.

    Args:
        places: the path of each model, by its name.
        config: where the server listens, and who may use it.
        pages: the ``module:function`` that gives the routes of the pages for people.

    Raises:
        ConfigError: a package of the extra ``serve`` is not installed, the port is in use, or the host is no address of
            this machine.
        RunError, ExportError, BackboneError: a path holds no run or export that can be served.
    """
    require_packages()
    sockets = bound_sockets(config.host, config.port)
    with ThreadPoolExecutor(1) as pool:
        models = pool.submit(Models, places)
        run, routes = resolve("regraft.serving.running:run"), resolve(pages)
    run(models.result, config, sockets, routes)


def require_packages() -> None:
    """Raise ConfigError where a package of the extra ``serve`` is not installed."""
    wanted = ("starlette", "uvicorn", "httptools", "python_multipart")
    missing = [name for name in wanted if find_spec(name) is None]
    if missing:
        raise ConfigError(f"`regraft serve` needs {', '.join(missing)}; type: pip install 'regraft[serve]'")
