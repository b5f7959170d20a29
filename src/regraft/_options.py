"""What verbs of the command line take beside the options of what they make: where things go, what is printed."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class OutputOptions:
    """How a verb prints."""

    json: bool = False
    """Print one JSON document on stdout, and nothing else there."""

    quiet: bool = field(default=False, metadata={"short": "-q"})
    """Say less on stderr: neither notes nor progress nor what was done. Warnings and errors stay."""


@dataclass(frozen=True, slots=True)
class ComputeOptions(OutputOptions):
    """How a verb that computes prints and computes."""

    threads: int | None = None
    """How many threads decode photos and compute networks; as many as there are cores. The result is the same."""


@dataclass(frozen=True, slots=True)
class RunOptions(ComputeOptions):
    """Where a run goes."""

    out: Path | None = None
    """Run folder; by default the first free name under runs/."""

    overwrite: bool = False
    """Replace the run that is there."""

    config: Path | None = None
    """TOML file with values for the options of what is learned; flags win over it."""


@dataclass(frozen=True, slots=True)
class FinetuneOptions(RunOptions):
    """Where a fine-tuned run goes."""

    resume: bool = False
    """Go on with a run that was stopped."""

    photos: Path | None = None
    """Where the run's photos are now, if not where they were."""


@dataclass(frozen=True, slots=True)
class SweepOptions(ComputeOptions):
    """Where a sweep goes."""

    out: Path = Path("runs/sweep")
    """Folder for the trials; those that are in it are not done again."""

    config: Path | None = None
    """TOML file with the tables train and finetune: the options that all trials share."""


@dataclass(frozen=True, slots=True)
class EvaluateOptions(ComputeOptions):
    """What else `evaluate` measures, and what it follows."""

    unknown: Path | None = None
    """Photos of none of the classes: also tell how many of them are answered with none of these."""

    watch: float | None = None
    """Measure each new checkpoint, looking for one every so many seconds, until the fine-tuning is finished; with
    --json one document a line."""

    once: bool = False
    """Measure the newest checkpoint, and end."""


@dataclass(frozen=True, slots=True)
class PredictOptions(ComputeOptions):
    """What `predict` prints."""

    top: int = 1
    """How many classes to print for each photo, the most probable first."""

    out: Path | None = None
    """File for the answers, in place of stdout: .csv, .jsonl or .parquet. Stopped or killed, the same command goes
    on."""

    plot: Path | None = None
    """Also draw the photos in a grid, the five most probable classes beside each, as a PNG."""


@dataclass(frozen=True, slots=True)
class CheckOptions(ComputeOptions):
    """What `check` does with what it finds."""

    write: Path | None = None
    """Save a manifest (CSV) of the photos less the offenders, for `train`."""

    drop: str = "unreadable,two-labels,shared-by-splits,exact-duplicate,blank"
    """Kinds of findings whose photos --write leaves out, with commas; there are also near-duplicate, mislabelled, tiny
    and extreme-shape."""


@dataclass(frozen=True, slots=True)
class ShardOptions(OutputOptions):
    """Where shards go."""

    out: Path = Path("shards")
    """Folder for the shards; what this command wrote there before is replaced."""


@dataclass(frozen=True, slots=True)
class ExportOptions(ComputeOptions):
    """Where an export goes."""

    out: Path | None = None
    """Folder for it; by default exports/FORMAT in the run."""

    overwrite: bool = False
    """Replace the export that is there."""

    photos: Path | None = None
    """Where the run's photos are now, if not where they were."""


@dataclass(frozen=True, slots=True)
class InfoOptions(OutputOptions):
    """What `info` does."""

    clear: bool = False
    """With `cache`: delete it. Everything in it can be computed again."""

    measure: bool = False
    """With `backbones`: photos a second and memory of each on this machine; takes half a minute for each at first."""
