"""Compare an exported artifact with its run: whether both give the same answers to the same photos."""

from __future__ import annotations

import tempfile
from collections.abc import Container, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regraft.classifiers.calibration import is_novel
from regraft.classifiers.classifier import Classifier
from regraft.classifiers.intervals import wilson_interval
from regraft.classifiers.predictor import Answers
from regraft.config.exporting import ExportConfig
from regraft.errors import ExportError, option
from regraft.exporting.formats.base import runtime_of
from regraft.exporting.unknown_photos import draw_strangers
from regraft.foundation.processes import call
from regraft.photos.dataset import ImageRecord
from regraft.photos.sources.base import Entry

TOLERANCE = 1e-3
"""The largest allowed difference of a probability between an export without quantisation and its run."""

NOVELTY_TOLERANCE = 1e-2
"""The largest allowed difference of the novelty between an export without quantisation and its run.

For scale: the 95th percentile of the novelty on val is near 2.
"""

NOVELTY_TOLERANCE_OF_GAP = 1e-3
"""The same limit for strangers, as a share of the distance between the median novelty of val photos and of strangers.

The larger of both limits counts. Where all val photos look alike, strangers have a novelty of hundreds, of which
float32 keeps seven digits (docs/decisions.md).
"""

NOVELTY_DRIFT = 0.4
"""The largest allowed median difference of the novelty between a quantised export and its run.

The limit holds for val photos and for strangers (photos of none of the classes). The difference was at most 0.3 where
int8 added only noise, and 0.5 to 2.2 where int8 cut off the range of the novelty (docs/decisions.md).
"""

DRIFT_OF_GAP = 0.15
"""The same limit, as a share of the distance between the median novelty of val photos and of strangers.

The larger of both limits counts: where all val photos look alike, the novelty of any other photo is 10 and above.
"""

STRANGERS_ALIKE = 0.9
"""The least share of strangers on which a quantised export must decide on "none of these" as the run does.

A lower ``min_agreement`` replaces it. The share is below that for val photos, as many strangers may lie near the
threshold: for a run with 17 val photos, a correct int8 export decided differently on 10 % of the strangers.
"""

TrialAnswers = dict[str, NDArray[Any]]
"""The arrays by name that `regraft.exporting.export_trial.try_out` writes."""


@dataclass(frozen=True, slots=True)
class NoneOfThese:
    """How often an export and its run answer "none of these" to the same photos, and whether they agree.

    Attributes:
        n: the number of photos that can be read.
        run_rejected: the share of photos that the run answers with "none of these"; None where the run never does.
        rejected: the share of photos that the export answers with "none of these"; None where the run never does.
        same: the share of photos on which both decide alike; None where the run never answers "none of these".
        run_novelty: the median novelty in the run.
        difference: the median absolute difference of the novelty; infinite where the export gives no novelty.
        largest_difference: the largest absolute difference of the novelty.
    """

    n: int
    run_rejected: float | None
    rejected: float | None
    same: float | None
    run_novelty: float
    difference: float
    largest_difference: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """The answers of an export compared with those of its run, on the same photos.

    Attributes:
        side: the side of the run's split (train, val or test) whose photos were compared.
        n: the number of photos that can be read.
        agreement: the share of photos to which both give the same class.
        difference: the largest difference of a probability.
        novelty_difference: the largest difference of the novelty; None where the run has no novelty.
        ties: the number of photos with another class whose two most probable classes are nearly equal in the run:
            closer than twice `TOLERANCE`.
        accuracy: the accuracy of the export.
        interval: the 95 % interval of the export's accuracy.
        run_accuracy: the accuracy of the run.
        rejected: the share of photos that the export answers with "none of these"; None where the run never does.
        plain: the export's accuracy on photos that were scaled without antialiasing, as most apps do; its accuracy on
            the same photos scaled with antialiasing; and the number of these photos.
        ms: the median time to answer a photo on this machine, in milliseconds.
        mebibytes: the peak memory of a process that loads the export and asks it, in MiB.
        known: the answer "none of these" on the photos of ``side``; None where the run has no novelty.
        strangers: the answer "none of these" on photos of none of the classes (`draw_strangers`); None where the run
            has no novelty.
    """

    side: str
    n: int
    agreement: float
    difference: float
    novelty_difference: float | None
    ties: int
    accuracy: float
    interval: tuple[float, float]
    run_accuracy: float
    rejected: float | None
    plain: tuple[float, float, int]
    ms: float
    mebibytes: int
    known: NoneOfThese | None
    strangers: NoneOfThese | None


def compare(
    classifier: Classifier, artifact: Path, records: Sequence[ImageRecord], side: str, known: Container[str]
) -> Comparison:
    """Compare the answers of a run, computed in float32, with those of an artifact, asked in a process of its own.

    Args:
        classifier: the run.
        artifact: the file or folder that was exported from the run.
        records: photos of the run's classes.
        side: the side of the run's split from which ``records`` come.
        known: the digests of all photos of the run; photos with these digests are not used as strangers.

    Raises:
        ExportError: the artifact cannot be read, its runtime fails or dies, it has other classes than the run, or no
            photo can be read.
    """
    reference = replace(classifier, config=replace(classifier.config, precision="fp32"), int8=None)
    with tempfile.TemporaryDirectory() as folder:
        unlike = draw_strangers(Path(folder), known) if classifier.calibration.novelty else []
        trial = _asked(artifact, records, unlike)
        if tuple(trial["classes"].tolist()) != classifier.classes:
            raise ExportError(f"{artifact.name} has other class names than the run: the export is not kept")
        count = len(records)
        strangers = None
        if unlike:
            strangers = _decisions(reference.answers(unlike), trial["novelty"][count:], classifier.threshold)
    trial = {**trial, "probabilities": trial["probabilities"][:count], "novelty": trial["novelty"][:count]}
    index = {label: i for i, label in enumerate(classifier.classes)}
    y = np.array([index.get(r.label, -1) for r in records], np.int64)  # a photo may be in another folder now
    return _compared(classifier, side, y, reference.answers(list(records), on_problem=lambda _: None), trial, strangers)


def _compared(
    classifier: Classifier,
    side: str,
    y: NDArray[np.int64],
    expected: Answers,
    trial: TrialAnswers,
    strangers: NoneOfThese | None,
) -> Comparison:
    """Compare the ``expected`` answers of the run with those of the export.

    The photos have the class indices ``y`` (N,), with -1 for a class that the run does not have.
    """
    good = ~np.isnan(expected.probabilities[:, 0])
    if not good.any():
        raise ExportError(f"no photo can be read to compare the export on; type {option('photos', 'FOLDER')}")
    p, q = expected.probabilities[good], trial["probabilities"][good]
    ordered = np.sort(p, axis=1)
    same = p.argmax(axis=1) == q.argmax(axis=1)
    right = q.argmax(axis=1) == y[good]
    known = _decisions(expected, trial["novelty"], classifier.threshold) if classifier.calibration.novelty else None
    return Comparison(
        side=side,
        n=int(good.sum()),
        agreement=float(same.mean()),
        difference=_largest(p, q),
        novelty_difference=known.largest_difference if known else None,
        ties=int((~same & (ordered[:, -1] - ordered[:, -2] < 2 * TOLERANCE)).sum()),
        accuracy=float(right.mean()),
        interval=wilson_interval(int(right.sum()), len(right)),
        run_accuracy=float((p.argmax(axis=1) == y[good]).mean()),
        rejected=known.rejected if known else None,
        plain=_plain(trial, y),
        ms=round(float(trial["ms"]), 2),
        mebibytes=int(trial["MiB"]),
        known=known,
        strangers=strangers,
    )


def _decisions(expected: Answers, novelty: NDArray[np.float32], threshold: float | None) -> NoneOfThese:
    """Compare the run's ``expected`` answers to N photos with the ``novelty`` (N,) that the export gives them."""
    good = ~np.isnan(expected.novelty)
    run, export = expected.novelty[good], novelty[good]
    apart = np.abs(run - export) if np.isfinite(export).all() else np.full(len(run), np.inf)
    ours, theirs = is_novel(run, threshold), is_novel(export, threshold)
    never = threshold is None
    return NoneOfThese(
        n=int(good.sum()),
        run_rejected=None if never else float(ours.mean()),
        rejected=None if never else float(theirs.mean()),
        same=None if never else float((ours == theirs).mean()),
        run_novelty=float(np.median(run)),
        difference=float(np.median(apart)),
        largest_difference=float(apart.max()),
    )


def _plain(trial: TrialAnswers, y: NDArray[np.int64]) -> tuple[float, float, int]:
    """Return the accuracy without antialiasing, the accuracy of the same photos with it, and their number."""
    tried = ~np.isnan(trial["plain"][:, 0])
    if not tried.any():
        return 0.0, 0.0, 0
    plain, proper = (float((trial[kind].argmax(axis=1) == y)[tried].mean()) for kind in ("plain", "probabilities"))
    return plain, proper, int(tried.sum())


def _largest(expected: NDArray[np.float32], found: NDArray[np.float32]) -> float:
    """Return the largest absolute difference; infinite where a probability is NaN or infinite."""
    return float(np.abs(expected - found).max()) if np.isfinite(found).all() else float("inf")


def _asked(artifact: Path, records: Sequence[ImageRecord], strangers: Sequence[Entry]) -> TrialAnswers:
    """Ask an artifact about photos and strangers in a process of its own, and return its answers."""
    with tempfile.TemporaryDirectory() as name:
        out = Path(name) / "answers.npz"
        photos, unlike = ([_place(photo) for photo in group] for group in (records, strangers))
        job = {"artifact": str(artifact), "photos": photos, "strangers": unlike, "out": str(out)}
        failed = f"{artifact.name} cannot be asked in {runtime_of(artifact)}"
        call("regraft.exporting.export_trial:try_out", job, failed, "tensorflow", ExportError)
        with np.load(out) as found:
            return {key: found[key] for key in found.files}


def _place(photo: ImageRecord | Entry) -> list[Any]:
    """Return where a photo is, as JSON values: ``[path, [file, offset, length, box]]`` or ``[path, None]``."""
    part = photo.part
    return [str(photo.path), [str(part.file), part.offset, part.length, str(part.box or "")] if part else None]


def require_equal(found: Comparison, config: ExportConfig, quantised: bool) -> None:
    """Raise ExportError where an export does not answer as its run does.

    Args:
        found: the comparison.
        config: the options, with ``min_agreement`` for a quantised export.
        quantised: whether the wider limits of a quantised export hold.
    """
    if quantised:
        _require_like(found, config)
        return
    others = round((1 - found.agreement) * found.n) - found.ties
    strange = found.novelty_difference or 0.0
    unlike, allowed = 0.0, NOVELTY_TOLERANCE
    if found.strangers and found.known:
        unlike = found.strangers.largest_difference
        allowed = max(allowed, NOVELTY_TOLERANCE_OF_GAP * (found.strangers.run_novelty - found.known.run_novelty))
    if found.difference > TOLERANCE or strange > NOVELTY_TOLERANCE or unlike > allowed or others:
        raise ExportError(
            f"the export does not answer as the run does: probabilities differ by up to {found.difference:.2g} "
            f"(wanted: {TOLERANCE:g}), novelty by {strange:.2g}, on photos of none of the classes by {unlike:.2g}, "
            f"the answer on {others} of {found.n} {found.side} photos: it is not kept; please report this as a bug"
        )


def _require_like(found: Comparison, config: ExportConfig) -> None:
    """Raise ExportError where a quantised export agrees too rarely with its run, or its novelty differs too much."""
    what = f"the {config.quantize or config.format} export"
    if found.agreement < config.min_agreement:
        raise ExportError(
            f"{what} gives the run's answer to {found.agreement:.1%} of {found.n} {found.side} photos, wanted "
            f"{config.min_agreement:.1%}: it is not kept; type another {option('quantize')}, or a lower "
            f"{option('min_agreement')}"
        )
    if found.known is None or found.strangers is None:
        return
    drift = max(NOVELTY_DRIFT, DRIFT_OF_GAP * (found.strangers.run_novelty - found.known.run_novelty))
    alike = config.min_agreement
    _require_same_decisions(what, f"{found.side} photos", found.known, drift, alike)
    _require_same_decisions(what, "photos of none of the classes", found.strangers, drift, min(alike, STRANGERS_ALIKE))


def _require_same_decisions(what: str, photos: str, found: NoneOfThese, drift: float, alike: float) -> None:
    """Raise ExportError where a quantised export's novelty, or its answer "none of these", differs too much."""
    if found.difference > drift:
        raise ExportError(
            f"{what} does not recognise {photos} as the run does: its novelty differs by {found.difference:.2g} in the "
            f"median over {found.n}, wanted at most {drift:.2g}: it is not kept; type another {option('quantize')}"
        )
    if found.same is not None and _surely_below(found.same, found.n, alike):
        raise ExportError(
            f'{what} decides on "none of these" as the run does for {found.same:.1%} of {found.n} {photos}, '
            f"wanted {alike:.1%}: it is not kept; type another {option('quantize')}, or a lower "
            f"{option('min_agreement')}"
        )


def _surely_below(share: float, n: int, wanted: float) -> bool:
    """Return whether the 95 % interval of a share of ``n`` photos ends below ``wanted``: 1 of 30 is not enough."""
    return wilson_interval(round(share * n), n)[1] < wanted
