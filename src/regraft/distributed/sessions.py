"""A connection to Ray, or a Ray of its own, without telemetry, messages or a dashboard.

In: an address. Out: Ray, ready for use, and ended at the end.
Why: Ray is made for servers: by default it reports its use, listens on the network and takes over signals.
Surprise: Ray listens on all addresses of the machine, also for itself alone, and runs what it is sent. So a Ray of its
own has a secret token.
"""

from __future__ import annotations

import logging
import secrets
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from tempfile import TemporaryDirectory
from typing import Any

from regraft.errors import ConfigError, option
from regraft.foundation import console
from regraft.foundation.files import set_environment, threads

LOCAL = "local"
"""The address of a Ray of its own on this machine, for the time of one command."""

_SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",  # no telemetry
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",  # under `uv run`, Ray would send the working folder to all nodes
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # else Ray warns of a change in a later version
}
_SECONDS = 5.0  # after which an address that does not answer counts as wrong
_OBJECT_BYTES = 256 * 2**20  # shared memory of a Ray of its own: enough for the shards under way


class Session:
    """A connection to Ray.

    Args:
        address: ``local``, ``auto``, or the address of a cluster.

    Attributes:
        is_own: whether the Ray is started here, for this process alone.
    """

    def __init__(self, address: str) -> None:
        self._address = address
        self.is_own: bool = address == LOCAL
        self._started = False
        self._folder: TemporaryDirectory[str] | None = None

    def start(self) -> None:
        """Start Ray, or connect to it, if that has not happened yet. Raises ConfigError."""
        if self._started:
            return
        _require_open(self._address)
        for name, value in {**_SETTINGS, **(_secret() if self.is_own else {})}.items():
            set_environment(name, value)
        ray = import_module("ray")
        if ray.is_initialized():
            raise ConfigError(f"this process already uses Ray; call ray.shutdown() before {option('ray')}")
        with console.waiting_for("starting Ray"), _own_signals(), console.silenced():  # Ray's C++ code logs to stderr
            try:
                ray.init(address=self._address, log_to_driver=False, logging_level=logging.ERROR, **self._own_options())
            except (OSError, ValueError, RuntimeError, AssertionError) as error:
                raise _no_cluster(self._address, error) from error
        self._started = True

    def end(self) -> None:
        """Leave the cluster, or end the Ray that was started here."""
        if self._started:
            import_module("ray").shutdown()
            self._started = False
        if self._folder:
            self._folder.cleanup()

    def _own_options(self) -> dict[str, Any]:
        """Return the options for a Ray of its own, with a folder that is deleted at the end."""
        if not self.is_own:
            return {}
        self._folder = TemporaryDirectory(prefix="regraft-", ignore_cleanup_errors=True)
        return {
            "num_cpus": threads(),
            "include_dashboard": False,
            "object_store_memory": _OBJECT_BYTES,
            "_temp_dir": self._folder.name,
        }


def _secret() -> dict[str, str]:
    """Return the environment variables with which Ray answers this process and its children alone."""
    return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}


def _require_open(address: str) -> None:
    """Raise ConfigError if nothing listens at ``HOST:PORT``: Ray itself would try for minutes."""
    host, _, port = address.rpartition(":")
    if not (host and port.isdecimal()) or "://" in address:
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), _SECONDS).close()
    except (OSError, OverflowError) as error:
        raise _no_cluster(address, error) from error


def _no_cluster(address: str, error: BaseException) -> ConfigError:
    """Return the error that no cluster answers at an address."""
    reason = " ".join(str(error).split())[:200]
    return ConfigError(
        f"{option('ray', address)}: there is no Ray cluster ({reason}); start one with `ray start --head`, or type "
        f"{option('ray', LOCAL)}"
    )


@contextmanager
def _own_signals() -> Iterator[None]:
    """Keep the signal handlers of this process: Ray's handler of SIGTERM would end a command without its message."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            if handler is not None:  # None is a handler that was not installed by Python
                signal.signal(number, handler)
