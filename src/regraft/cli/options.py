"""The options of the command line alone: where results are written, what is printed, and how many threads run."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal


@dataclass(frozen=True, slots=True)
class OutputOptions:
    """How a verb prints its result."""

    json: bool = False
    """Print the result as one JSON document on stdout."""

    quiet: bool = field(default=False, metadata={"short": "-q"})
    """Print only warnings and errors on stderr: no notes and no progress."""


@dataclass(frozen=True, slots=True)
class ComputeOptions(OutputOptions):
    """How a verb that computes prints its result, and how many threads it uses."""

    threads: int | None = None
    """Number of threads that decode photos and compute networks; by default the number of cores. The result does not
    depend on it."""


@dataclass(frozen=True, slots=True)
class RayOptions:
    """Which machines do the work. A verb has this option beside its own."""

    ray: str = ""
    """Compute on a Ray cluster: local for all cores of this machine, auto for the cluster that this machine belongs to,
    or its address, such as 10.0.0.1:6379. It needs pip install 'regraft[ray]'."""


@dataclass(frozen=True, slots=True)
class ClusterOptions(RayOptions):
    """Where the features of many photos are computed. A verb has these options beside its own."""

    storage: str = ""
    """With --ray: folder or bucket, such as s3://BUCKET/FOLDER, in which the nodes keep features too; by default only
    the cache of this machine has them."""


@dataclass(frozen=True, slots=True)
class PhotoOptions:
    """How labelled photos are read. A verb has this option beside its own."""

    verify: bool = False
    """Read every photo again. By default, a file is not read if its size, its times and its place on the disk are as
    they were when it was read before."""


@dataclass(frozen=True, slots=True)
class RunOptions(ComputeOptions):
    """Where a run is written."""

    out: Path | None = None
    """Run folder; by default the first free name under runs/."""

    overwrite: bool = False
    """Replace the run that is at --out."""

    config: Path | None = None
    """TOML file with options; an option on the command line overrides the file."""

    min_accuracy: float | None = None
    """Keep the run only if the lower end of the accuracy's 95 % interval is at least this share, such as 0.9; else
    nothing is replaced, and the exit code is 1."""


@dataclass(frozen=True, slots=True)
class TrainOptions(RunOptions):
    """Where a run is written, what it is trained from, and what TensorBoard shows of its photos."""

    from_run: Path | None = field(default=None, metadata={"flag": "--from"})
    """Run to start from: PHOTOS are its photos, with new ones or with corrected labels. Photos keep their side or fold,
    options and classes are kept, and both runs are compared on the same photos. By default the new run is beside it."""

    if_better: bool = False
    """With --from, keep nothing if the new run is surely worse than the old one; then the exit code is 1."""

    projector: bool = False
    """Also write thumbnails and features of the photos for TensorBoard's Projector tab, and the confusion matrix and
    the surest mistakes for its Images tab."""


@dataclass(frozen=True, slots=True)
class FinetuneOptions(RunOptions):
    """Where a fine-tuned run is written."""

    out: Path | None = None
    """Run folder; by default that of RUN with -ft at its end."""

    resume: bool = False
    """Continue a fine-tuning that was stopped."""

    photos: Path | None = None
    """Folder of the run's photos, if they were moved."""


@dataclass(frozen=True, slots=True)
class SweepOptions(ComputeOptions):
    """Where a sweep is written."""

    out: Path = Path("runs/sweep")
    """Folder of the trials; trials that are in it are not repeated."""

    config: Path | None = None
    """TOML file with the tables train and finetune: the options that all trials share."""


@dataclass(frozen=True, slots=True)
class EvaluateOptions(ComputeOptions):
    """What else `evaluate` measures."""

    unknown: Path | None = None
    """Photos of none of the classes: also report how many of them are answered with *none of these*."""

    watch: float | None = None
    """Measure each new checkpoint of a fine-tuning until it has finished, and look for a new one every so many seconds;
    with --json, one document in each line."""

    once: bool = False
    """Measure the newest checkpoint of a fine-tuning once."""


@dataclass(frozen=True, slots=True)
class PredictOptions(ComputeOptions):
    """What `predict` prints."""

    top: int = 1
    """Number of classes to print for each photo, the most probable first."""

    out: Path | None = None
    """Write the answers to this file, .csv, .jsonl or .parquet, and not to stdout. If the command is stopped or killed,
    the same command continues it."""

    plot: Path | None = None
    """Also draw the photos in a grid, with the five most probable classes beside each, as this PNG file."""


@dataclass(frozen=True, slots=True)
class CheckOptions(ComputeOptions):
    """What `check` compares the photos with, and what it does with what it finds."""

    against: Path | None = None
    """Run with whose photos PHOTOS are compared: do they differ, which of them, and which classes? PHOTOS need no
    labels then; photos of the run among them are left out. Nothing else is checked."""

    run_photos: Path | None = field(default=None, metadata={"flag": "--photos"})
    """With --against: folder of the run's photos, if they were moved."""

    write: Path | None = None
    """Write the photos to this file, as --write-format says."""

    write_format: Literal["manifest", "label-studio", "fiftyone"] = "manifest"
    """Format of the file of --write: manifest, a CSV table for `train`; label-studio, tasks for Label Studio, in which
    labels that are more probable are predictions; or fiftyone, labels for FiftyOne."""

    drop: str | None = None
    """Kinds of findings whose photos --write leaves out, with commas between them; by default unreadable, two-labels,
    shared-by-splits, exact-duplicate and blank for a manifest, and none for label tools. Other kinds are
    near-duplicate, mislabelled, tiny and extreme-shape."""

    html: Path | None = None
    """Also write a page that shows what was found, with the photos side by side: one HTML file that needs no network.
    An older page at the same place is replaced."""


@dataclass(frozen=True, slots=True)
class ReportOptions(ComputeOptions):
    """Where a report is written."""

    photos: Path | None = None
    """Folder of the run's photos, if they were moved."""

    out: Path | None = None
    """HTML file of the report; by default report.html in the run. The table of all photos stands beside it, with the
    suffix .parquet."""


@dataclass(frozen=True, slots=True)
class ShardOptions(OutputOptions):
    """Where shards are written."""

    out: Path = Path("shards")
    """Folder of the shards; shards that this command wrote there before are replaced."""


@dataclass(frozen=True, slots=True)
class EmbedOptions(ComputeOptions):
    """Where features are written, and whose they are."""

    out: Path = Path("features.parquet")
    """Parquet file of the features; a file that this command wrote there before is replaced."""

    run: Path | None = None
    """Run whose backbone computes the features, at its image size and precision, and fine-tuned where the run is."""


@dataclass(frozen=True, slots=True)
class SimilarOptions(ComputeOptions):
    """What `similar` prints, and where it looks."""

    top: int = 5
    """Number of similar photos to print for each photo, the most similar first."""

    photos: Path | None = None
    """Folder of the run's photos, if they were moved."""


@dataclass(frozen=True, slots=True)
class NextOptions(ComputeOptions):
    """What `next` prints, and where it writes a table."""

    count: int = field(default=50, metadata={"short": "-n"})
    """Number of photos to print, the most valuable first."""

    out: Path | None = None
    """Also write a table to this file, .csv, with the columns path, label (the suggested one), probability, novelty and
    why: once the labels are corrected, `train` takes it."""


@dataclass(frozen=True, slots=True)
class ExportOptions(ComputeOptions):
    """Where an export is written."""

    out: Path | None = None
    """Folder of the export; by default exports/FORMAT or exports/FORMAT-QUANTIZE in the run."""

    overwrite: bool = False
    """Replace the export that is at --out."""

    photos: Path | None = None
    """Folder of the run's photos, if they were moved."""

    min_accuracy: float | None = None
    """Keep the export only if the lower end of its accuracy's 95 % interval is at least this share, such as 0.9; else
    nothing is replaced, and the exit code is 1."""


@dataclass(frozen=True, slots=True)
class InfoOptions(OutputOptions):
    """What `info` does."""

    clear: bool = False
    """With `cache`: delete the cache. Everything in it can be computed again."""

    measure: bool = False
    """With `backbones`: measure photos per second and memory of each backbone on this machine; the first time this
    takes half a minute for each."""


@dataclass(frozen=True, slots=True)
class ServeOptions:
    """What is served under which name, what is printed, and how many threads answer."""

    name: tuple[str, ...] = field(default=(), metadata={"metavar": "NAME=PATH"})
    """A further model, with a name of its own; may be given several times."""

    threads: int | None = None
    """Number of threads that decode photos and compute networks; by default the number of cores."""

    quiet: bool = field(default=False, metadata={"short": "-q"})
    """Print only warnings and errors on stderr: not the address, and no line for each request."""
