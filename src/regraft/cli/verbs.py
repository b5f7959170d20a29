"""The command line: the table of its commands, and `main`, which runs one of them.

In: arguments. Out: a table, tab-separated lines or one JSON document on stdout, and an exit code.
Why: most people meet regraft here first.
Surprise: the table names functions and options by text. They are imported only for the command that is typed, so that
help is printed at once.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

from regraft.cli.arguments import UsageError, Verb, parse
from regraft.cli.entry import run_command
from regraft.foundation import console
from regraft.foundation.files import limited_threads
from regraft.foundation.names import resolve
from regraft.foundation.telemetry import without_telemetry

ABOUT = "Turn a folder of labelled photos into an image classifier. Start with: regraft train photos/"
_PHOTOS = (
    "a folder of class folders; a .csv, .tsv, .jsonl or .parquet of paths and labels; a .zip or .tar, also at a URL; "
    "TFRecord or WebDataset shards; coco:FILE, coco-boxes:FILE, labelstudio:FILE or cvat:FILE of a label tool; "
    "megadetector:FILE:PHOTOS; tfds:NAME, hf:NAME or demo:elpv"
)
_RUN = ("run", "a run folder", None)
_RUN_OR_EXPORT = ("run", "a run folder, or an export", None)
_LABELLED = ("photos", _PHOTOS, None)
_ASKED = ("photos", "photos, folders of photos, other sources, or - for paths on stdin", "+")
VERBS = {
    "check": Verb(
        run="regraft.cli.commands.check:check",
        example="regraft check photos/",
        about="""Find what is wrong with photos and labels.

        It finds unreadable files, copies, photos with two labels, photos that are in several splits, doubtful labels,
        blank, tiny and extremely wide or tall photos, and classes that are too small or have two names. Nothing is
        changed. With --html, a page shows the photos of each finding side by side, in English and Korean. The exit code
        is 1 only if no classifier could be trained on the photos.

        With --against RUN, it says whether the photos differ from those of a run: a domain classifier is to tell both
        apart, and the AUC of its answers to photos that it has not seen, with an interval, gives the verdict. A
        terminal shows tables of classes and photos. A pipe gets one line for each photo, the most different first, of
        cells that are separated by tabs: path, score of the domain classifier, novelty, label, predicted class, and
        true or false for *none of these*. Of more than 2,000 photos of either kind a sample is compared.""",
        positionals=(_LABELLED,),
        options=(
            "regraft.cli.options:CheckOptions",
            "regraft.cli.options:PhotoOptions",
            "regraft.cli.options:ClusterOptions",
            "regraft.config.features:FeatureConfig",
        ),
    ),
    "train": Verb(
        run="regraft.cli.commands.train:train",
        example="regraft train photos/ --out runs/pets",
        about="""Train a classifier on labelled photos.

        In a folder of class folders, deeper folders belong to the class above them, and folders train/, val/ and test/
        are used as the split. Nothing in the folder is changed. Copies of a photo, also resized or mirrored ones, stay
        on one side of the split. With --from, a run is trained from an older one whose photos were added to or whose
        labels were corrected, and is compared with it.""",
        positionals=(_LABELLED,),
        options=(
            "regraft.cli.options:TrainOptions",
            "regraft.cli.options:PhotoOptions",
            "regraft.cli.options:ClusterOptions",
            "regraft.config.training:TrainConfig",
        ),
    ),
    "finetune": Verb(
        run="regraft.cli.commands.finetune:finetune",
        example="regraft finetune runs/pets",
        about="""Fine-tune the last blocks of a run's backbone.

        Training uses the photos and the split of the run; if the run has folds, it draws a split first. It starts from
        a linear head; a run with the kernel head gets a kernel head again at the end. The frozen part of the network is
        computed once for each photo, and its activations are cached. It needs pip install 'regraft[tensorflow]'.""",
        positionals=(_RUN,),
        options=("regraft.cli.options:FinetuneOptions", "regraft.config.finetuning:FinetuneConfig"),
    ),
    "sweep": Verb(
        run="regraft.cli.commands.sweep:sweep",
        example="regraft sweep photos/ --head logistic,knn",
        about="""Train with many combinations of options, and choose the best.

        All trials share the caches. The best trial is chosen by its accuracy on val, and is then measured on test.
        TensorBoard compares the trials: tensorboard --logdir OUT. If the command is stopped, the same command continues
        it.""",
        positionals=(_LABELLED,),
        options=(
            "regraft.cli.options:SweepOptions",
            "regraft.cli.options:PhotoOptions",
            "regraft.cli.options:ClusterOptions",
            "regraft.config.levels:Levels",
            "regraft.config.sweeping:SweepConfig",
        ),
    ),
    "evaluate": Verb(
        run="regraft.cli.commands.evaluate:evaluate",
        example="regraft evaluate runs/pets new/",
        about="""Measure a classifier on labelled photos.

        If PHOTOS has folders train/, val/ and test/, the photos in test/ are measured, or those in val/ if there is no
        test/. With --once or --watch, RUN may be a fine-tuning that has not finished; its figures are also written to
        TensorBoard, as logs/eval.""",
        positionals=(_RUN_OR_EXPORT, _LABELLED),
        options=(
            "regraft.cli.options:EvaluateOptions",
            "regraft.cli.options:PhotoOptions",
            "regraft.cli.options:ClusterOptions",
            "regraft.config.levels:Levels",
        ),
    ),
    "report": Verb(
        run="regraft.cli.commands.report:report",
        example="regraft report runs/pets",
        about="""Write a page that shows how good a run is, and why: open it in a browser.

        The page is one HTML file that needs no network: the verdict, the mistakes with the parts of the photo that made
        them, suspected labels, copies, how far probabilities can be trusted, and a map of all photos. It speaks English
        and Korean. With a second run of the same photos, the page begins with what changed from the first run to the
        second. With other labelled photos, the run is measured on these. The map is drawn with t-SNE after pip install
        'regraft[report]', else from principal components.""",
        positionals=(_RUN, ("other", "a second run of the same photos, or other labelled photos", "?")),
        options=("regraft.cli.options:ReportOptions",),
    ),
    "predict": Verb(
        run="regraft.cli.commands.predict:predict",
        example="regraft predict runs/pets photo.jpg",
        about="""Classify photos.

        PHOTOS are files, folders, other sources, or - to read paths from stdin: one path in each line, or with a NUL
        after each path as `find -print0` writes them. Each answer is printed as soon as it is known. A terminal shows
        columns, in which *none of these* marks a photo unlike all that the classifier was trained on. A pipe gets lines
        of cells that are separated by tabs: path, most probable label, its probability, and true or false for *none of
        these*; with --top, then the next labels and probabilities. The exit code is 1 if a photo could not be read; all
        other photos are still answered.""",
        positionals=(_RUN_OR_EXPORT, _ASKED),
        options=(
            "regraft.cli.options:PredictOptions",
            "regraft.cli.options:ClusterOptions",
        ),
    ),
    "export": Verb(
        run="regraft.cli.commands.export:export",
        example="regraft export runs/pets --format onnx",
        about="""Export a run to the format of another runtime, and compare both.

        An export takes the pixels of photos, RGB in uint8; normalisation, backbone, head, temperature and softmax are
        inside. It is loaded in its own runtime and compared with the run on photos of the run, on those for validation
        if there are any; if they answer differently, nothing is kept. `evaluate` and `predict` take an export in place
        of a run.""",
        positionals=(_RUN,),
        options=("regraft.cli.options:ExportOptions", "regraft.config.exporting:ExportConfig"),
    ),
    "shard": Verb(
        run="regraft.cli.commands.shard:shard",
        example="regraft shard photos/ --out shards",
        about="""Write photos as TFRecord or WebDataset shards.

        Files that cannot be read are named and left out. If the photos are in folders train/, val/ and test/, or a
        manifest names their split, each side of the split is written into shards of its own.""",
        positionals=(_LABELLED,),
        options=(
            "regraft.cli.options:ShardOptions",
            "regraft.cli.options:RayOptions",
            "regraft.config.levels:Levels",
            "regraft.config.sharding:ShardConfig",
        ),
    ),
    "embed": Verb(
        run="regraft.cli.commands.embed:embed",
        example="regraft embed photos/ --out features.parquet",
        about="""Write the features of photos to a Parquet file, for other programs.

        The file has one row for each photo: path, split, digest, label, and a list of features; its metadata tell the
        backbone. Photos need no labels here: a folder without folders in it is taken as well. Files that cannot be read
        are named and left out. The features come from the cache and go to it, as in training.""",
        positionals=(("photos", f"{_PHOTOS}; also a photo, or a folder of photos without labels", None),),
        options=(
            "regraft.cli.options:EmbedOptions",
            "regraft.cli.options:PhotoOptions",
            "regraft.cli.options:ClusterOptions",
            "regraft.config.features:FeatureConfig",
        ),
    ),
    "similar": Verb(
        run="regraft.cli.commands.similar:similar",
        example="regraft similar runs/pets photo.jpg",
        about="""Find the photos that look most like a photo.

        WHERE is a run, for the photos that it was trained and measured on, or photos of any source. Photos are compared
        by the last stage of their features, before any head; the similarity is a cosine from -1 to 1. A terminal shows
        columns. A pipe gets one line for each similar photo, of cells that are separated by tabs: the photo that is
        asked about, the similarity, the label, the path of the similar photo, and true or false for whether both have
        the same bytes. The exit code is 1 if a photo could not be read; all other photos are still answered.""",
        positionals=(
            ("where", "a run folder, or a folder or another source of photos", None),
            ("asked", "photos, folders of photos, or other sources", "+"),
        ),
        options=("regraft.cli.options:SimilarOptions",),
    ),
    "next": Verb(
        run="regraft.cli.commands.next:next_",
        example="regraft next runs/pets new/ -n 50",
        about="""Find the unlabelled photos that are worth the most to label next.

        With a run, these are photos of which the run is uncertain and which differ from each other, each with the label
        that the run suggests. Photos of the run are left out. Without a run, they are typical of groups of similar
        photos: label these first. Copies are named once. A terminal shows columns. A pipe gets one line for each photo,
        of cells that are separated by tabs: path, suggested label and its probability (empty without a run), novelty,
        and uncertain, novel or typical.""",
        positionals=(
            ("where", "a run folder; or unlabelled photos, if there is no run yet", None),
            ("photos", "unlabelled photos, folders of photos, or other sources", "*"),
        ),
        options=("regraft.cli.options:NextOptions",),
    ),
    "serve": Verb(
        run="regraft.cli.commands.serve:serve",
        example="regraft serve runs/pets",
        about="""Serve runs and exports: a local page in the browser, and HTTP for programs.

        A model has the name of its folder or file. Programs send photos as they send them to KServe, Triton or
        TensorFlow Serving, or as the body of POST /predict.""",
        positionals=(("models", "run folders, exports, or folders of numbered versions of them", "*"),),
        options=("regraft.config.serving:ServeConfig", "regraft.cli.options:ServeOptions"),
    ),
    "info": Verb(
        run="regraft.cli.commands.info:info",
        example="regraft info backbones",
        about="""Describe a run, the backbones, the cache, or this installation.

        WHAT is a run folder, the folder of an export, `backbones` or `cache`; without it, this installation is
        described.""",
        positionals=(("what", "a run folder, an export, backbones or cache", "?"),),
        options=("regraft.cli.options:InfoOptions",),
    ),
    "demo": Verb(
        run="regraft.cli.commands.train:demo",
        example="regraft demo",
        about="""Train a classifier on the photos of a demonstration data set.

        The data set is 2,624 photos of solar cells, functional or defective; it is installed by pip install
        'regraft[demo]'.""",
        positionals=(),
        options=("regraft.cli.options:RunOptions", "regraft.config.training:TrainConfig"),
    ),
    "completion": Verb(
        run="regraft.cli.commands.completion:completion",
        example='eval "$(regraft completion bash)"',
        about="""Print a script that completes regraft's commands, flags and values in a shell.

        bash: regraft completion bash > ~/.local/share/bash-completion/completions/regraft

        zsh: regraft completion zsh > FOLDER/_regraft, where FOLDER is one of zsh's $fpath

        fish: regraft completion fish > ~/.config/fish/completions/regraft.fish""",
        positionals=(("shell", "bash, zsh or fish", None),),
        options=(),
        choices={"shell": ("bash", "zsh", "fish")},
    ),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Returns the exit code: 0 done, 1 the user must mend something, 2 wrong usage.

    130 and 143 tell that Ctrl-C or SIGTERM stopped it.
    """
    if arguments is None:
        without_telemetry()
    tokens = sys.argv[1:] if arguments is None else list(arguments)
    return run_command("regraft", lambda: _run(tokens), lambda: _stopped(tokens), own_process=arguments is None)


def _run(tokens: Sequence[str]) -> int:
    verb, found = parse("regraft", ABOUT, _version, VERBS, tokens)
    console.turn_on(getattr(found, "quiet", False))
    with (
        limited_threads(getattr(found, "threads", None)),
        _reading(getattr(found, "verify", False)),
        _computing(getattr(found, "ray", ""), getattr(found, "storage", "")),
    ):
        return int(resolve(verb.run)(found))


def _reading(verify: bool) -> AbstractContextManager[None]:
    """Return a context in which each photo is read, also where it has not changed, if ``verify`` is true."""
    return resolve("regraft.photos.stat_index:every_file_is_read")() if verify else nullcontext()


def _computing(ray: str, storage: str) -> AbstractContextManager[None]:
    """Return a context in which a Ray cluster computes features, if ``ray`` is the address of one."""
    if storage and not ray:
        raise UsageError("--storage is for features that a cluster computes; type --ray as well")
    return resolve("regraft.distributed.cluster:on_ray")(ray, storage) if ray else nullcontext()


def _stopped(tokens: Sequence[str]) -> str:
    """Return what to say to a user who pressed Ctrl-C."""
    verb = next((token for token in tokens if not token.startswith("-")), "")
    if verb == "serve" or (verb == "predict" and not any(token.partition("=")[0] == "--out" for token in tokens)):
        return "stopped"
    how = ", with --resume after the last whole epoch" if verb == "finetune" else ""
    return f"stopped; what was computed is kept, and the same command goes on from there{how}"


def _version() -> str:
    from importlib.metadata import version

    return version("regraft")
