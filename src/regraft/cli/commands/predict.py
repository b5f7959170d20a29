"""The command `regraft predict`."""

from __future__ import annotations

import sys
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from regraft.classifiers.answer_files import Kept, digest_of, keep_answers, require_free
from regraft.classifiers.prediction import Prediction, answer_chunks, require_top
from regraft.cli import tables
from regraft.cli.arguments import given
from regraft.cli.options import PredictOptions
from regraft.cli.printing import emit
from regraft.errors import ConfigError
from regraft.exporting.formats.base import load_predictor
from regraft.foundation import console
from regraft.photos.unlabelled import Found, files_in, paths_from, photos_in
from regraft.reporting.plots import plot_predictions


def predict(arguments: Any) -> int:
    """Run `regraft predict`. Returns the exit code."""
    output = PredictOptions(**given(arguments, PredictOptions))
    require_top(output.top)
    if output.out is not None:
        return _predict_into(arguments, output, output.out)
    wanted = max(output.top, 5) if output.plot else output.top
    chunks = answer_chunks(load_predictor(arguments.run), _asked(arguments.photos), wanted)
    show = tables.json_array if output.json else partial(tables.predictions, table=sys.stdout.isatty())
    failed = Counter[bool]()
    told = _counted(show(chunks, output.top), failed)
    if output.plot:
        plot_predictions(told, output.plot)
    else:
        deque(told, maxlen=0)
    return 1 if failed[True] else 0


def _counted(answers: Iterable[Prediction], failed: Counter[bool]) -> Iterator[Prediction]:
    """Yield answers, and count in ``failed`` for how many of them there is an error, and for how many there is not."""
    for answer in answers:
        failed[answer.error is not None] += 1
        yield answer


def _predict_into(arguments: Any, output: PredictOptions, out: Path) -> int:
    """Write the answers to a file. Returns the exit code."""
    if output.plot:
        raise ConfigError("--plot draws what is printed, and --out prints nothing; leave one of them out")
    require_free(out)
    predictor, run = load_predictor(arguments.run), digest_of(Path(arguments.run).expanduser(), out)
    photos = (photo for photo in _asked(arguments.photos) if photo is not None)
    with console.progress("predicting", None) as advance:
        kept = keep_answers(predictor, photos, out, run, output.top, advance)
    emit(kept.to_dict(), output.json, Kept, tables.answers_kept)
    return 1 if kept.unreadable else 0


def _asked(names: Sequence[str]) -> Iterator[Found | None]:
    """Yield the photos that the command line names, and None wherever stdin keeps us waiting for the next one."""
    for name in names:
        if name != "-":
            yield from photos_in(name)
            continue
        empty = True
        for path in paths_from(sys.stdin.buffer):
            if path is None:
                yield None
            else:
                empty = False
                yield from files_in(path)
        if empty:
            console.warn("no path came on stdin")
