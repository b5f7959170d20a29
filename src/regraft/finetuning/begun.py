"""The record of an unfinished fine-tuning: its options and the run from which it started.

In: the folder of an unfinished fine-tuning. Out: `Begun`.
Why: resuming a fine-tuning, and measuring its checkpoints, need the run and the options with which it was started.
Surprise: a time budget is recorded as the number of blocks that it allowed, so that resuming thaws the same blocks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from regraft.classifiers.run_folder import LAYOUT
from regraft.errors import RunError, option, spelling
from regraft.foundation.documents import MEBIBYTE, Fields, mended, read_json
from regraft.foundation.files import atomic_file, write_json


def existing_option(how: str) -> str:
    """Return what the user types to ``resume`` or ``overwrite`` a fine-tuning.

    On the command line these are two flags, ``--resume`` and ``--overwrite``; in Python the argument ``existing``.
    """
    return option(how, True) if spelling().flags else f'existing="{how}"'


@dataclass(frozen=True, slots=True)
class Begun:
    """The options and the run with which a fine-tuning was started.

    Attributes:
        wanted: the options and a digest of the run, as JSON values; resuming requires the same values.
        run: the run folder from which the fine-tuning started.
        thaw: the option ``thaw``; where a time budget was given, the number of blocks that it allowed.
    """

    wanted: Mapping[str, Any]
    run: str
    thaw: str


def read_begun(folder: Path) -> Begun:
    """Read the record of an unfinished fine-tuning in ``folder``.

    Raises:
        RunError: the record is missing or damaged.
    """
    path = folder / LAYOUT.unfinished
    with mended(RunError, f"type {existing_option('overwrite')} to begin anew"):
        fields = Fields(read_json(path, MEBIBYTE), f"{path} is damaged")
        wanted = {"config": dict(fields.fields("config").values), "from": fields.text("from")}
        return Begun(wanted, fields.text("run"), fields.text("thaw"))


def write_begun(folder: Path, begun: Begun) -> None:
    """Write the record of a fine-tuning that starts now into ``folder``."""
    with atomic_file(folder / LAYOUT.unfinished) as path:
        write_json(path, {**begun.wanted, "run": begun.run, "thaw": begun.thaw})
