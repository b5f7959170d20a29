"""The command `regraft check`."""

from __future__ import annotations

import sys
from functools import partial
from typing import Any

from regraft.cli import drift_tables, tables
from regraft.cli.arguments import given
from regraft.cli.options import CheckOptions
from regraft.cli.printing import emit
from regraft.config.features import FeatureConfig
from regraft.config.levels import Levels
from regraft.errors import ConfigError, option
from regraft.exploring import auditing
from regraft.exploring.drift_record import Drift
from regraft.exploring.photo_drift import check_drift
from regraft.exploring.records import require_levels_alone
from regraft.foundation import console
from regraft.reporting import check_page
from regraft.reporting.documents import AuditReport


def check(arguments: Any) -> int:
    """Run `regraft check`. Returns the exit code."""
    typed = given(arguments, CheckOptions)
    options, config = CheckOptions(**typed), FeatureConfig(**given(arguments, FeatureConfig))
    if options.against is not None:
        if alone := [name for name in ("write", "write_format", "drop", "html") if name in typed]:
            raise ConfigError(f"{option(alone[0])} is for a check without {option('against')}; leave one of them out")
        require_levels_alone(config)
        return _compare(arguments.photos, options, config if given(arguments, Levels) else None)
    if options.run_photos is not None:
        raise ConfigError(f"{option('photos')} is for the photos of a run; type {option('against', 'RUN')} too")
    drop = None if options.drop is None else [kind.strip() for kind in options.drop.split(",")]
    if options.write is not None:
        auditing.kinds_left_out(options.write, options.write_format, drop)  # mistakes show before the work
    if options.html is not None:
        check_page.require_page(options.html)
        if options.html == options.write:
            raise ConfigError(f"--write and --html both name {options.html}; type another --html")
    audit = auditing.check(arguments.photos, config)
    html = "" if options.html is None else str(audit.write_html(options.html))
    emit({**audit.to_dict(), "html": html}, options.json, AuditReport, tables.audit)
    if options.write is not None:
        kept = audit.write(options.write, options.write_format, drop)
        console.say(f"{kept} of {len(audit.dataset.records)} photos are in {options.write}")
    return 1 if audit.impossible else 0


def _compare(photos: str, options: CheckOptions, levels: Levels | None) -> int:
    """Compare photos with those of a run. Returns the exit code."""
    assert options.against is not None  # noqa: S101 (the caller has asked)
    found = check_drift(photos, options.against, levels, options.run_photos)
    for problem in found.problems:
        console.warn(f"left out {problem.path}: {problem.reason}")
    emit(found.to_dict(), options.json, Drift, partial(drift_tables.show, table=sys.stdout.isatty()))
    return 0
