"""A fine-tuning that is under way: what it was begun with.

In: the folder of such a fine-tuning. Out: `Begun`.
Why: who goes on with it, and who follows it, must know from which run and with which options it started.
Surprise: a budget is kept as the number of blocks that it turned into, so that going on thaws the same ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from regraft._documents import MEBIBYTE, Fields, mended, read_json
from regraft._files import atomic_file, write_json
from regraft.errors import RunError
from regraft.run_folder import LAYOUT


@dataclass(frozen=True, slots=True)
class Begun:
    """What a fine-tuning that is under way was begun with.

    Attributes:
        wanted: the options and the run, as JSON values: whoever goes on must want the same.
        run: the folder of the run from which it starts.
        thaw: what is thawed, once a budget has been turned into a number of blocks.
    """

    wanted: Mapping[str, Any]
    run: str
    thaw: str


def read_begun(folder: Path) -> Begun:
    """Read what a fine-tuning that is under way was begun with. Raises RunError."""
    path = folder / LAYOUT.unfinished
    with mended(RunError, "type --overwrite to begin anew"):
        fields = Fields(read_json(path, MEBIBYTE), f"{path} is damaged")
        wanted = {"config": dict(fields.fields("config").values), "from": fields.text("from")}
        return Begun(wanted, fields.text("run"), fields.text("thaw"))


def write_begun(folder: Path, begun: Begun) -> None:
    """Write what a fine-tuning was begun with."""
    with atomic_file(folder / LAYOUT.unfinished) as path:
        write_json(path, {**begun.wanted, "run": begun.run, "thaw": begun.thaw})
