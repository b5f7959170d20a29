"""The command line: one verb, one public function. stdout is data, stderr is talk.

In: arguments. Out: a table, tab-separated lines or one JSON document, and an exit code.
Why: most people meet regraft here first.
Surprise: nothing heavy is imported before a verb runs, so that help comes at once.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import cyclopts
from cyclopts import App, Group, Parameter

from regraft import _console
from regraft.config import TrainConfig, read_toml
from regraft.errors import RegraftError

_OPTIONS = Group("Options", sort_key=1)
_LEARNING = Group("What is learned", sort_key=2)
_DEFAULTS = TrainConfig()


@Parameter(name="*", group=_OPTIONS)
@dataclass(frozen=True, slots=True)
class OutputOptions:
    """How a verb prints."""

    json: Annotated[bool, Parameter(negative="")] = False
    """Print one JSON document on stdout, and nothing else there."""


@Parameter(name="*", group=_OPTIONS)
@dataclass(frozen=True, slots=True)
class RunOptions(OutputOptions):
    """Where a run goes."""

    out: Path | None = None
    """Run folder; by default the first free name under runs/."""

    overwrite: Annotated[bool, Parameter(negative="")] = False
    """Replace the run that is there."""

    config: Path | None = None
    """TOML file with values for the options below; flags win over it."""


@Parameter(name="*", group=_OPTIONS)
@dataclass(frozen=True, slots=True)
class PredictOptions(OutputOptions):
    """What `predict` prints."""

    top: int = 1
    """How many classes to print for each photo, the most probable first."""


@Parameter(name="*", group=_OPTIONS)
@dataclass(frozen=True, slots=True)
class InfoOptions(OutputOptions):
    """What `info` does."""

    clear: Annotated[bool, Parameter(negative="")] = False
    """With `cache`: delete it. Everything in it can be computed again."""


app = App(
    name="regraft",
    help="Turn a folder of labelled photos into an image classifier.",
    help_format="plaintext",
    help_formatter="plain",
    suppress_keyboard_interrupt=False,
    version=lambda: _version(),
    help_epilogue="Start with: regraft train photos/   where photos/ holds one folder of photos for each class.",
)
app["--help"].group = app["--version"].group = Group("Options", sort_key=9)


@app.command
def train(
    photos: str,
    /,
    *,
    run: RunOptions = RunOptions(),
    config: Annotated[TrainConfig, Parameter(name="*", group=_LEARNING)] = _DEFAULTS,
) -> int:
    """Train a classifier on PHOTOS.

    PHOTOS is a folder that holds one folder of photos for each class.
    """
    from regraft import _print
    from regraft.training import train

    _console.note("options: " + ", ".join(f"{k}={v!r}" for k, v in asdict(config).items()))
    classifier = train(photos, run.out, config, run.overwrite)
    _emit({"run": str(classifier.path), **classifier.metrics}, run.json, _print.training)
    return 0


@app.command
def evaluate(run: Path, photos: str, /, *, output: OutputOptions = OutputOptions()) -> int:
    """Measure a classifier on PHOTOS.

    RUN is a run folder. Where PHOTOS has train, val and test folders of its own, test is measured, or else val.
    """
    from regraft import _print
    from regraft.classifier import Classifier
    from regraft.evaluation import evaluate_photos

    classifier = Classifier.load(run)
    evaluation, problems = evaluate_photos(classifier, photos, classifier.trained_digests())
    document = {**evaluation.to_dict(), "problems": [{"path": str(p.path), "reason": p.reason} for p in problems]}
    _emit(document, output.json, _print.evaluation)
    return 0


@app.command
def predict(
    run: Path, photos: Annotated[list[Path], Parameter(negative="")], /, *, output: PredictOptions = PredictOptions()
) -> int:
    """Classify PHOTOS, files or folders of them.

    RUN is a run folder. Prints a table at a terminal, tab-separated lines in a pipe. Exits with 1 where a photo
    could not be read, after all others are answered.
    """
    from regraft import _print
    from regraft.classifier import Classifier
    from regraft.prediction import predict

    predictions = predict(Classifier.load(run), photos, output.top)
    if output.json:
        _emit([p.to_dict() for p in predictions], True)
    else:
        _print.predictions(predictions, table=sys.stdout.isatty())
    return 1 if any(p.error for p in predictions) else 0


@app.command
def info(what: str | None = None, /, *, output: InfoOptions = InfoOptions()) -> int:
    """Describe a run, the backbones, the cache.

    WHAT is a run folder, `backbones` or `cache`; without it this installation is described.
    """
    from regraft import _print
    from regraft.information import describe

    _emit(describe(what, output.clear), output.json, _print.facts)
    return 0


@app.command
def demo(
    *,
    run: RunOptions = RunOptions(),
    config: Annotated[TrainConfig, Parameter(name="*", group=_LEARNING)] = _DEFAULTS,
) -> int:
    """Do the main job on photos that a package ships.

    2,624 real photos of solar cells, functional or defective: pip install 'regraft[demo]'.
    """
    from regraft import _print
    from regraft.training import train

    classifier = train("demo:elpv", run.out, config, run.overwrite)
    _emit({"run": str(classifier.path), **classifier.metrics}, run.json, _print.demo)
    return 0


def _emit(document: Any, as_json: bool, show: Any = None) -> None:
    if as_json:
        print(json.dumps(document, ensure_ascii=False, indent=2))
    else:
        show(document)


def _version() -> str:
    from importlib.metadata import version

    return version("regraft")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Returns the exit code: 0 done, 1 the user must mend something, 2 wrong usage, 130 stopped."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # file names need not be UTF-8, nor terminals
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
    _console.turn_on()
    if arguments is None:
        # In a process of our own: OpenVINO's model converter, which is optional and which we never call, takes as
        # long to import as the rest of OpenVINO, and brings a telemetry client.
        sys.modules["openvino.tools.ovc"] = None  # type: ignore[assignment]
    tokens = list(sys.argv[1:] if arguments is None else arguments)
    try:
        app.config = _options_from_file(tokens)
        return int(app(tokens, exit_on_error=False, print_error=False, result_action="return_value") or 0)
    except cyclopts.CycloptsError as error:
        cause = error.__cause__
        return _fail(
            str(cause if isinstance(cause, RegraftError) else error), 1 if isinstance(cause, RegraftError) else 2
        )
    except RegraftError as error:
        return _fail(str(error), 1)
    except KeyboardInterrupt:
        return _fail("stopped; what was computed is kept, and the same command goes on from there", 130)
    except BrokenPipeError:  # the reader of our output has had enough, as `head` does
        sys.stdout = None
        return 0


def _options_from_file(tokens: Sequence[str]) -> tuple[Any, ...]:
    """What ``--config FILE`` says, as defaults for the flags. Raises ConfigError."""
    for token, following in zip(tokens, [*tokens[1:], ""], strict=True):
        flag, equals, value = token.partition("=")
        if flag == "--config":
            values = read_toml(Path(value if equals else following))
            TrainConfig.from_dict(values)  # names are checked here, where the message can list them
            return (cyclopts.config.Dict(values, use_commands_as_keys=False),)
    return ()


def _fail(message: str, code: int) -> int:
    print(f"regraft: {_console.printable(' '.join(message.split()))}", file=sys.stderr)
    return code
