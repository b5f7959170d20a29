"""Keeps the telemetry of other libraries out of the processes of regraft."""

from __future__ import annotations

import sys


def without_telemetry() -> None:
    """Keep OpenVINO's model converter and its telemetry out of this process, which must be one of our own.

    ``import openvino`` imports the converter where it can. The converter takes as long to import as all the rest, is
    never called here, and reports each import to its maker, without asking, in a process that may hang.
    """
    for name in ("openvino.tools.ovc", "openvino_telemetry"):
        sys.modules[name] = None  # type: ignore[assignment]
