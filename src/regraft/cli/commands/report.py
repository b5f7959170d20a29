"""The command `regraft report`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from regraft.classifiers.run_folder import is_run
from regraft.cli import tables
from regraft.cli.arguments import given
from regraft.cli.options import ReportOptions
from regraft.cli.printing import emit
from regraft.reporting import report_building
from regraft.reporting.report_record import Report


def report(arguments: Any) -> int:
    """Run `regraft report`. Returns the exit code."""
    options = ReportOptions(**given(arguments, ReportOptions))
    run, other = arguments.run, arguments.other
    if other is not None and is_run(Path(other).expanduser()):
        made = report_building.report(other, options.photos, options.out, before=run)
    else:
        made = report_building.report(run, options.photos or other, options.out)
    emit(asdict(made), options.json, Report, tables.report)
    return 0
