"""The command `regraft report`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from regraft.cli import tables
from regraft.cli.arguments import given
from regraft.cli.options import ReportOptions
from regraft.cli.printing import emit
from regraft.reporting import report_building
from regraft.reporting.report_record import Report


def report(arguments: Any) -> int:
    """Run `regraft report`. Returns the exit code."""
    options = ReportOptions(**given(arguments, ReportOptions))
    emit(
        asdict(report_building.report(arguments.run, arguments.photos, options.out)),
        options.json,
        Report,
        tables.report,
    )
    return 0
