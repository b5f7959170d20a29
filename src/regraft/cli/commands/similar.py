"""The command `regraft similar`."""

from __future__ import annotations

import sys
from functools import partial
from typing import Any

from regraft.cli import tables
from regraft.cli.arguments import given
from regraft.cli.options import SimilarOptions
from regraft.cli.printing import emit
from regraft.exploring import similarity
from regraft.exploring.similarity import SimilarPhotos


def similar(arguments: Any) -> int:
    """Run `regraft similar`. Returns the exit code."""
    options = SimilarOptions(**given(arguments, SimilarOptions))
    found = similarity.similar(arguments.where, arguments.asked, options.top, options.photos)
    show = partial(tables.similar, table=sys.stdout.isatty())
    emit([one.to_dict() for one in found], options.json, tuple[SimilarPhotos, ...], show)
    return 1 if any(one.error is not None for one in found) else 0
