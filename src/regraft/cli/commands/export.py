"""The command `regraft export`."""

from __future__ import annotations

from typing import Any

from regraft.cli import tables
from regraft.cli.arguments import given
from regraft.cli.options import ExportOptions
from regraft.cli.printing import emit
from regraft.config.exporting import ExportConfig
from regraft.exporting import exporting
from regraft.exporting.companions import Export


def export(arguments: Any) -> int:
    """Run `regraft export`. Returns the exit code."""
    options = ExportOptions(**given(arguments, ExportOptions))
    config = ExportConfig(**given(arguments, ExportConfig))
    made = exporting.export(arguments.run, options.out, config, options.photos, options.overwrite, options.min_accuracy)
    emit(made.to_dict(), options.json, Export, tables.exported)
    return 0
