"""The command line: one verb, one public function. stdout is data, stderr is talk.

In: arguments. Out: a table, tab-separated lines or one JSON document, and an exit code.
Why: most people meet regraft here first.
Surprise: nothing heavy is imported before a verb runs, so that help comes at once.
"""

from __future__ import annotations

import sys
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from regraft import _console
from regraft._arguments import Verb, given, parse
from regraft._entry import run_command
from regraft._files import limited_threads
from regraft._levels import Levels
from regraft._options import (
    CheckOptions,
    EvaluateOptions,
    ExportOptions,
    FinetuneOptions,
    InfoOptions,
    PredictOptions,
    RunOptions,
    ShardOptions,
    SweepOptions,
)
from regraft._values import read_toml
from regraft.config import ExportConfig, FeatureConfig, FinetuneConfig, ShardConfig, SweepConfig, TrainConfig
from regraft.errors import ConfigError


def train(arguments: Any) -> int:
    """Train a classifier.

    Of a folder of class folders, deeper folders belong to their class and a train/ val/ test/ layout is kept.
    Nothing in it is changed. Copies of a photo, also resized or mirrored ones, stay on one side of the split.
    """
    from regraft import _print

    return _train(arguments, arguments.photos, _print.training)


def check(arguments: Any) -> int:
    """Find what is wrong with photos and labels.

    Unreadable files, copies, one photo under two labels, photos shared by splits, labels that the other photos
    contradict, blank, tiny and extreme photos, classes too small or twice there. Nothing is changed. Exits with 1
    only where no classifier could be trained.
    """
    from regraft import _print
    from regraft.audit import check, check_manifest

    options = CheckOptions(**given(arguments, CheckOptions))
    kinds = [kind.strip() for kind in options.drop.split(",")]
    if options.write is not None:
        check_manifest(options.write, kinds)
    audit = check(arguments.photos, FeatureConfig(**given(arguments, FeatureConfig)))
    _emit(audit.to_dict(), options.json, _print.audit)
    if options.write is not None:
        kept = audit.write_manifest(options.write, kinds)
        _console.say(f"{kept} of {len(audit.dataset.records)} photos are in {options.write}")
    return 1 if audit.impossible else 0


def shard(arguments: Any) -> int:
    """Write photos as TFRecord or WebDataset shards.

    Files that cannot be read are named and left out. A train/ val/ test/ layout, or a split in a manifest, is kept:
    each side gets shards of its own.
    """
    from regraft import _print
    from regraft.shards import shard

    options = ShardOptions(**given(arguments, ShardOptions))
    levels = Levels(**given(arguments, Levels))
    document = shard(arguments.photos, options.out, ShardConfig(**given(arguments, ShardConfig)), levels=levels)
    _emit(document, options.json, _print.shards)
    return 0


def demo(arguments: Any) -> int:
    """Do the main job on photos that a package ships.

    2,624 real photos of solar cells, functional or defective: pip install 'regraft[demo]'.
    """
    from regraft import _print

    return _train(arguments, "demo:elpv", _print.demo)


def _train(arguments: Any, photos: str, show: Callable[[Any], None]) -> int:
    from regraft.training import train

    run = RunOptions(**given(arguments, RunOptions))
    values = read_toml(run.config) if run.config else {}
    config = TrainConfig.from_dict({**values, **given(arguments, TrainConfig)})
    _tell_options(config)
    classifier = train(photos, run.out, config, run.overwrite)
    _emit({"run": str(classifier.path), **classifier.metrics}, run.json, show)
    return 0


def finetune(arguments: Any) -> int:
    """Train the last blocks of a run's backbone further.

    On the run's own photos and split, starting from its own head. The frozen part runs once; its maps are cached. Needs
    pip install 'regraft[tensorflow]'.
    """
    from regraft import _print
    from regraft.finetuning import finetune

    run = FinetuneOptions(**given(arguments, FinetuneOptions))
    values = read_toml(run.config) if run.config else {}
    config = FinetuneConfig.from_dict({**values, **given(arguments, FinetuneConfig)})
    _tell_options(config)
    existing = "resume" if run.resume else "overwrite" if run.overwrite else ""
    classifier = finetune(arguments.run, run.out, config, run.photos, existing)
    _emit({"run": str(classifier.path), **classifier.metrics}, run.json, _print.training)
    return 0


def sweep(arguments: Any) -> int:
    """Try many options on the same photos.

    All trials share the caches, the best is chosen on val, and it alone is measured on test. TensorBoard compares the
    trials: tensorboard --logdir OUT. Stopped, the same command goes on.
    """
    from regraft import _print
    from regraft.sweeping import sweep

    options = SweepOptions(**given(arguments, SweepOptions))
    shared = read_toml(options.config) if options.config else {}
    if unknown := set(shared) - {"train", "finetune"}:
        raise ConfigError(f"unknown table {min(unknown)!r} in {options.config}; there is train, finetune")
    train, tune = (TrainConfig.from_dict(shared.get("train", {})), FinetuneConfig.from_dict(shared.get("finetune", {})))
    train = replace(train, **given(arguments, Levels))
    found = sweep(arguments.photos, options.out, SweepConfig(**given(arguments, SweepConfig)), train, tune)
    _emit(found.to_dict(), options.json, _print.sweep)
    return 0


def evaluate(arguments: Any) -> int:
    """Measure a classifier on photos.

    Where PHOTOS has train, val and test folders of its own, test is measured, or else val. With --once or --watch, RUN
    may be a fine-tuning that is under way; what is measured also goes to TensorBoard, as its run logs/eval.
    """
    from regraft import _print
    from regraft.asking import evaluate, predictor_of
    from regraft.prediction import rejections

    output = EvaluateOptions(**given(arguments, EvaluateOptions))
    if output.once or output.watch is not None:
        return _follow(arguments, output)
    predictor = predictor_of(arguments.run)
    evaluation, problems = evaluate(predictor, arguments.photos, **given(arguments, Levels))
    document = {**evaluation.to_dict(), "problems": [{"path": str(p.path), "reason": p.reason} for p in problems]}
    if output.unknown is not None:
        document["unknown"] = [asdict(group) for group in rejections(predictor, output.unknown)]
    _emit(document, output.json, _print.whole_evaluation)
    return 0


def _follow(arguments: Any, output: EvaluateOptions) -> int:
    from regraft import _print
    from regraft.following import follow

    seconds = None if output.once else output.watch
    for epoch, evaluation in follow(arguments.run, arguments.photos, seconds, given(arguments, Levels)):
        if output.json:
            print(_console.as_json({"epoch": epoch, **evaluation.to_dict()}, None), flush=True)
        else:
            _print.evaluation({**evaluation.to_dict(), "side": f"epoch {epoch}:"})
            sys.stdout.flush()
    return 0


def predict(arguments: Any) -> int:
    """Classify photos, or all in a folder.

    PHOTOS are files, folders, other sources, or - for paths on stdin, one a line, or with a NUL after each as `find
    -print0` has them. Answers come as soon as they are known. A terminal gets columns, where *none of these* stands for
    a photo unlike all that was trained on. A pipe gets lines of cells with tabs between them: path, best label,
    probability, true where such a photo is rejected and else false; with --top then the next labels and probabilities.
    Exits with 1 where a photo could not be read, after all others are answered.
    """
    from regraft import _print
    from regraft.exporters import load_predictor
    from regraft.prediction import answer_chunks, require_top

    output = PredictOptions(**given(arguments, PredictOptions))
    require_top(output.top)
    if output.out is not None:
        return _predict_into(arguments, output, output.out)
    wanted = max(output.top, 5) if output.plot else output.top
    chunks = answer_chunks(load_predictor(arguments.run), _asked(arguments.photos), wanted)
    show = _print.json_array if output.json else partial(_print.predictions, table=sys.stdout.isatty())
    failed = Counter[bool]()
    told = _counted(show(chunks, output.top), failed)
    if output.plot:
        from regraft.plots import plot_predictions  # a heavy import that most do not need

        plot_predictions(told, output.plot)
    else:
        deque(told, maxlen=0)
    return 1 if failed[True] else 0


def _counted(answers: Iterable[Any], failed: Counter[bool]) -> Iterator[Any]:
    for answer in answers:
        failed[answer.error is not None] += 1
        yield answer


def _predict_into(arguments: Any, output: PredictOptions, out: Path) -> int:
    from regraft import _print
    from regraft.answer_files import digest_of, keep_answers, require_free
    from regraft.exporters import load_predictor

    if output.plot:
        raise ConfigError("--plot draws what is printed, and --out prints nothing; leave one of them out")
    require_free(out)
    predictor, run = load_predictor(arguments.run), digest_of(Path(arguments.run).expanduser(), out)
    photos = (photo for photo in _asked(arguments.photos) if photo is not None)
    with _console.progress("predicting", None) as advance:
        kept = keep_answers(predictor, photos, out, run, output.top, advance)
    _emit(kept.to_dict(), output.json, _print.answers_kept)
    return 1 if kept.unreadable else 0


def _asked(names: Sequence[str]) -> Iterator[Any]:
    """Yield the photos that the command line names, and None wherever stdin keeps us waiting for the next one."""
    from regraft.unlabelled import files_in, paths_from, photos_in

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
            _console.warn("no path came on stdin")


def export(arguments: Any) -> int:
    """Write a run for another runtime, and prove it.

    Bytes of photos in; normalisation, backbone, head, temperature and softmax inside. It is read again in its own
    runtime and compared with the run on val photos; where they differ, nothing is kept. What comes out stands in place
    of a run in `evaluate` and `predict`.
    """
    from regraft import _print
    from regraft.exporting import export

    options = ExportOptions(**given(arguments, ExportOptions))
    config = ExportConfig(**given(arguments, ExportConfig))
    made = export(arguments.run, options.out, config, options.photos, options.overwrite)
    _emit(made.to_dict(), options.json, _print.exported)
    return 0


def info(arguments: Any) -> int:
    """Describe a run, the backbones, the cache.

    WHAT is a run folder, `backbones` or `cache`; without it this installation is described.
    """
    from regraft import _print
    from regraft.information import describe

    output = InfoOptions(**given(arguments, InfoOptions))
    _emit(describe(arguments.what, output.clear, output.measure), output.json, _print.facts)
    return 0


_PHOTOS = (
    "a folder of class folders; a .csv, .tsv, .jsonl or .parquet of paths and labels; a .zip or .tar, also at a URL; "
    "TFRecord or WebDataset shards; tfds:NAME, hf:NAME or demo:elpv"
)
_LEARNING = {"options": RunOptions, "what is learned": TrainConfig}
VERBS = {
    "check": Verb(check, (("photos", _PHOTOS, None),), {"options": CheckOptions, "features": FeatureConfig}),
    "train": Verb(train, (("photos", _PHOTOS, None),), _LEARNING),
    "finetune": Verb(
        finetune, (("run", "a run folder", None),), {"options": FinetuneOptions, "training": FinetuneConfig}
    ),
    "sweep": Verb(
        sweep, (("photos", _PHOTOS, None),), {"options": SweepOptions, "photos": Levels, "what is tried": SweepConfig}
    ),
    "evaluate": Verb(
        evaluate,
        (("run", "a run folder, or an export", None), ("photos", _PHOTOS, None)),
        {"options": EvaluateOptions, "photos": Levels},
    ),
    "predict": Verb(
        predict,
        (
            ("run", "a run folder, or an export", None),
            ("photos", "photos, folders of photos, other sources, or - for paths on stdin", "+"),
        ),
        {"options": PredictOptions},
    ),
    "export": Verb(
        export, (("run", "a run folder", None),), {"options": ExportOptions, "what is written": ExportConfig}
    ),
    "shard": Verb(
        shard, (("photos", _PHOTOS, None),), {"options": ShardOptions, "photos": Levels, "shards": ShardConfig}
    ),
    "info": Verb(info, (("what", "a run folder, backbones or cache", "?"),), {"options": InfoOptions}),
    "demo": Verb(demo, (), _LEARNING),
}


def _tell_options(config: Any) -> None:
    """Say which options are not as they are by default; the run's config.toml has them all."""
    changed = {k: v for k, v in asdict(config).items() if v != type(config).__dataclass_fields__[k].default}
    if changed:
        _console.note("options: " + ", ".join(f"{name.replace('_', '-')} {value}" for name, value in changed.items()))


def _emit(document: Any, as_json: bool, show: Any = None) -> None:
    if as_json:
        print(_console.as_json(document))
    else:
        show(document)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Returns the exit code: 0 done, 1 the user must mend something, 2 wrong usage.

    130 and 143 tell that Ctrl-C or SIGTERM stopped it.
    """
    if arguments is None:
        # In a process of our own: OpenVINO's model converter, which is optional and which we never call, takes as
        # long to import as the rest of OpenVINO, and brings a telemetry client.
        sys.modules["openvino.tools.ovc"] = None  # type: ignore[assignment]
    tokens = sys.argv[1:] if arguments is None else list(arguments)
    return run_command("regraft", lambda: _run(tokens), lambda: _stopped(tokens), own_process=arguments is None)


def _run(tokens: Sequence[str]) -> int:
    about = "Turn a folder of labelled photos into an image classifier. Start with: regraft train photos/"
    verb, found = parse("regraft", about, _version, VERBS, tokens)
    _console.turn_on(getattr(found, "quiet", False))
    with limited_threads(getattr(found, "threads", None)):
        return verb.run(found)


def _stopped(tokens: Sequence[str]) -> str:
    """Return what to say to a user who pressed Ctrl-C."""
    verb = next((token for token in tokens if not token.startswith("-")), "")
    if verb == "predict" and not any(token.partition("=")[0] == "--out" for token in tokens):
        return "stopped"
    how = ", with --resume after the last whole epoch" if verb == "finetune" else ""
    return f"stopped; what was computed is kept, and the same command goes on from there{how}"


def _version() -> str:
    from importlib.metadata import version

    return version("regraft")
