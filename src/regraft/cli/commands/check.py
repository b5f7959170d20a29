"""The command `regraft check`."""

from __future__ import annotations

from typing import Any

from regraft.cli import tables
from regraft.cli.arguments import given
from regraft.cli.options import CheckOptions
from regraft.cli.printing import emit
from regraft.config.features import FeatureConfig
from regraft.errors import ConfigError
from regraft.exploring import auditing
from regraft.foundation import console
from regraft.reporting import check_page
from regraft.reporting.documents import AuditReport


def check(arguments: Any) -> int:
    """Run `regraft check`. Returns the exit code."""
    options = CheckOptions(**given(arguments, CheckOptions))
    drop = None if options.drop is None else [kind.strip() for kind in options.drop.split(",")]
    if options.write is not None:
        auditing.kinds_left_out(options.write, options.write_format, drop)  # mistakes show before the work
    if options.html is not None:
        check_page.require_page(options.html)
        if options.html == options.write:
            raise ConfigError(f"--write and --html both name {options.html}; type another --html")
    audit = auditing.check(arguments.photos, FeatureConfig(**given(arguments, FeatureConfig)))
    html = "" if options.html is None else str(audit.write_html(options.html))
    emit({**audit.to_dict(), "html": html}, options.json, AuditReport, tables.audit)
    if options.write is not None:
        kept = audit.write(options.write, options.write_format, drop)
        console.say(f"{kept} of {len(audit.dataset.records)} photos are in {options.write}")
    return 1 if audit.impossible else 0
