"""The command `regraft next`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from regraft.classifiers.run_folder import is_run
from regraft.cli.arguments import given
from regraft.cli.columns import print_columns
from regraft.cli.options import NextOptions
from regraft.cli.printing import emit
from regraft.errors import ConfigError
from regraft.exploring.next_photos import NextPhoto, NextPhotos, next_photos, require_table
from regraft.foundation import console
from regraft.foundation.console import printable, printed

_WHY = {"uncertain": "uncertain", "novel": "uncertain, and unlike the training photos", "typical": "typical of a group"}


def next_(arguments: Any) -> int:
    """Run `regraft next`. Returns the exit code."""
    options = NextOptions(**given(arguments, NextOptions))
    has_run = is_run(Path(arguments.where).expanduser())
    if has_run and not arguments.photos:
        raise ConfigError(f"{arguments.where} is a run; type the unlabelled photos after it: regraft next RUN PHOTOS")
    if options.out is not None:
        require_table(options.out)  # mistakes show before the work
    run, photos = (arguments.where, arguments.photos) if has_run else (None, [arguments.where, *arguments.photos])
    found = next_photos(photos, run, options.count)
    for problem in found.problems:
        console.warn(f"left out {problem.path}: {problem.reason}")
    emit(found.to_dict(), options.json, NextPhotos, _show)
    if options.out is not None:
        found.write_csv(options.out)
    return 0


def _show(found: NextPhotos) -> None:
    """Print the photos to label on stdout, and on stderr of how many they were chosen."""
    if sys.stdout.isatty():
        print_columns([(*cells, _WHY[photo.why]) for photo in found.photos for cells in [_cells(photo)]])
    else:
        for photo in found.photos:
            printed("\t".join(map(printable, (*_cells(photo), photo.why))))
    console.say(
        f"{len(found.photos)} of {found.candidates} photos; left out: {found.known} with labels, {found.copies} copies"
    )


def _cells(photo: NextPhoto) -> tuple[str, ...]:
    """Return path, suggested label, its probability, and novelty of a photo; empty texts for what it has not."""
    numbers = ("" if number is None else f"{number:.4f}" for number in (photo.probability, photo.novelty))
    return (str(photo.path), photo.suggested or "", *numbers)
