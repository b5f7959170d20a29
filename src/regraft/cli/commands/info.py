"""The command `regraft info`."""

from __future__ import annotations

from typing import Any

from regraft.cli import tables
from regraft.cli.arguments import given
from regraft.cli.information import describe
from regraft.cli.options import InfoOptions
from regraft.cli.printing import emit


def info(arguments: Any) -> int:
    """Run `regraft info`. Returns the exit code."""
    output = InfoOptions(**given(arguments, InfoOptions))
    document = describe(arguments.what, output.clear, output.measure)
    emit(document, output.json, dict, tables.facts)
    return 0
