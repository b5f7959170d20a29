"""An artifact beside the run it was made from, on the same encoded photos: do both give the same answers?"""

from __future__ import annotations

import tempfile
from collections.abc import Container, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regraft._processes import call
from regraft.calibration import Answers, is_novel
from regraft.classifier import Classifier
from regraft.config import ExportConfig
from regraft.dataset import ImageRecord
from regraft.errors import ExportError
from regraft.evaluation import wilson_interval
from regraft.exporters import runtime_of
from regraft.exporters._strangers import draw_strangers
from regraft.sources import Entry

TOLERANCE = 1e-3
"""How much a probability of a float export may differ from the run's."""

NOVELTY_TOLERANCE = 1e-2
"""How much the novelty of a float export may differ from the run's: on val its 95th percentile is near 2."""

NOVELTY_DRIFT = 0.4
"""How much the novelty of a quantised export may differ from the run's, in the median over val and over strangers.

It was at most 0.3 where eight bits made nothing but noise, and 0.5 to 2.2 where it ended too soon (docs/decisions.md).
"""

DRIFT_OF_GAP = 0.15
"""The same as a share of the distance between the medians of val and of strangers, where that allows more: where val
photos are nearly all alike, the novelty of anything else is 10 and above.
"""

STRANGERS_ALIKE = 0.9
"""Share of strangers on which a quantised export must decide as the run does, where ``min_agreement`` is not less.

Many of them may lie near the threshold: of a run with 17 val photos int8 that was right decided otherwise on 10 %.
"""

Told = dict[str, NDArray[Any]]
"""What the process that asked the artifact wrote: see `regraft._trial`."""


@dataclass(frozen=True, slots=True)
class NoneOfThese:
    """How an export and its run decide on the answer "none of these", on the same photos.

    Attributes:
        n: photos that both could read.
        run_rejected, rejected: the shares that the run, and the export, answer with none of these; None where the run
            never does.
        same: the share on which both decide alike; None likewise.
        run_novelty: the median of the run's novelty.
        difference: the median absolute difference of the novelty; infinite where the export tells none.
        largest_difference: the largest such difference.
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
    """An export beside its run, on the same photos.

    Attributes:
        side: of which side of the run's split the photos are.
        n: photos that both could read.
        agreement: the share to which both give the same class.
        difference: the largest difference of a probability.
        novelty_difference: the largest difference of the novelty; None where the run tells none.
        ties: photos with another answer whose two most probable classes are closer than the tolerance.
        accuracy: the export's, and its 95 % interval; beside it the run's.
        rejected: share that the export answers with none of these; None where it never does.
        plain: accuracy where photos are scaled without antialiasing, as most apps do, the export's on the same photos
            as they should be, and how many of them were tried.
        ms: milliseconds a photo on this machine, the median.
        mebibytes: the most memory of a process that loads and asks it.
        known: the decision "none of these" on the photos of ``side``; None where the run tells no novelty.
        strangers: the same decision on photos of none of the classes (`draw_strangers`); None likewise.
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
    """Ask a run, in float32, and an artifact, in a process of its own, about the same encoded photos.

    Args:
        classifier: the run.
        artifact: the file or folder that was exported from it.
        records: photos of the run's classes.
        side: of which side of the run's split they are.
        known: digests of all photos of the run, which are no strangers to it.

    Raises:
        ExportError: the artifact cannot be read, its runtime fails or dies, it has other classes, or no photo can be
            compared.
    """
    reference = replace(classifier, config=replace(classifier.config, precision="fp32"), int8=None)
    with tempfile.TemporaryDirectory() as folder:
        unlike = draw_strangers(Path(folder), known) if classifier.calibration.novelty else []
        told = _asked(artifact, records, unlike)
        if tuple(told["classes"].tolist()) != classifier.classes:
            raise ExportError(f"{artifact.name} names the classes otherwise than the run: it is not kept")
        count = len(records)
        strangers = None
        if unlike:
            strangers = _decisions(reference.answers(unlike), told["novelty"][count:], classifier.threshold)
    told = {**told, "probabilities": told["probabilities"][:count], "novelty": told["novelty"][:count]}
    index = {label: i for i, label in enumerate(classifier.classes)}
    y = np.array([index.get(r.label, -1) for r in records], np.int64)  # it may have been filed anew since
    return _compared(classifier, side, y, reference.answers(list(records), on_problem=lambda _: None), told, strangers)


def _compared(
    classifier: Classifier,
    side: str,
    y: NDArray[np.int64],
    expected: Answers,
    told: Told,
    strangers: NoneOfThese | None,
) -> Comparison:
    """Both answers to photos of the class indices ``y``, -1 for a class that the run does not have."""
    good = ~np.isnan(expected.probabilities[:, 0])
    if not good.any():
        raise ExportError("no photo can be read to compare the export on; type --photos FOLDER")
    p, q = expected.probabilities[good], told["probabilities"][good]
    ordered = np.sort(p, axis=1)
    same = p.argmax(axis=1) == q.argmax(axis=1)
    right = q.argmax(axis=1) == y[good]
    known = _decisions(expected, told["novelty"], classifier.threshold) if classifier.calibration.novelty else None
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
        plain=_plain(told, y),
        ms=round(float(told["ms"]), 2),
        mebibytes=int(told["MiB"]),
        known=known,
        strangers=strangers,
    )


def _decisions(expected: Answers, novelty: NDArray[np.float32], threshold: float | None) -> NoneOfThese:
    """What the run says of photos, beside the export's ``novelty`` (N,) of them."""
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


def _plain(told: Told, y: NDArray[np.int64]) -> tuple[float, float, int]:
    """Accuracy where photos are scaled as most apps do, the same photos' as they should be, and their number."""
    tried = ~np.isnan(told["plain"][:, 0])
    if not tried.any():
        return 0.0, 0.0, 0
    plain, proper = (float((told[kind].argmax(axis=1) == y)[tried].mean()) for kind in ("plain", "probabilities"))
    return plain, proper, int(tried.sum())


def _largest(expected: NDArray[np.float32], found: NDArray[np.float32]) -> float:
    """The largest difference; infinite where something was not answered."""
    return float(np.abs(expected - found).max()) if np.isfinite(found).all() else float("inf")


def _asked(artifact: Path, records: Sequence[ImageRecord], strangers: Sequence[Entry]) -> Told:
    """What a process in which nothing else runs is answered by the artifact."""
    with tempfile.TemporaryDirectory() as name:
        out = Path(name) / "answers.npz"
        photos, unlike = ([_place(photo) for photo in group] for group in (records, strangers))
        job = {"artifact": str(artifact), "photos": photos, "strangers": unlike, "out": str(out)}
        failed = f"{artifact.name} cannot be asked in {runtime_of(artifact)}"
        call("regraft._trial:try_out", job, failed, "tensorflow", ExportError)
        with np.load(out) as found:
            return {key: found[key] for key in found.files}


def _place(photo: ImageRecord | Entry) -> list[Any]:
    """Where the bytes of a photo lie, as JSON values."""
    part = photo.part
    return [str(photo.path), [str(part.file), part.offset, part.length] if part else None]


def require_equal(found: Comparison, config: ExportConfig, quantised: bool) -> None:
    """Raise ExportError where an export does not answer as its run does; a quantised one has wider limits."""
    if quantised:
        _require_like(found, config)
        return
    others = round((1 - found.agreement) * found.n) - found.ties
    strange = found.novelty_difference or 0.0
    unlike = found.strangers.largest_difference if found.strangers else 0.0
    if found.difference > TOLERANCE or max(strange, unlike) > NOVELTY_TOLERANCE or others:
        raise ExportError(
            f"the export does not answer as the run does: probabilities differ by up to {found.difference:.2g} "
            f"(wanted: {TOLERANCE:g}), novelty by {strange:.2g}, on photos of none of the classes by {unlike:.2g}, "
            f"the answer on {others} of {found.n} {found.side} photos: it is not kept; please report this"
        )


def _require_like(found: Comparison, config: ExportConfig) -> None:
    what = f"the {config.quantize or config.format} export"
    if found.agreement < config.min_agreement:
        raise ExportError(
            f"{what} gives the run's answer to {found.agreement:.1%} of {found.n} {found.side} photos, wanted "
            f"{config.min_agreement:.1%}: it is not kept; type another --quantize or --min-agreement"
        )
    if found.known is None or found.strangers is None:
        return
    drift = max(NOVELTY_DRIFT, DRIFT_OF_GAP * (found.strangers.run_novelty - found.known.run_novelty))
    alike = config.min_agreement
    _require_same_decisions(what, f"{found.side} photos", found.known, drift, alike)
    _require_same_decisions(what, "photos of none of the classes", found.strangers, drift, min(alike, STRANGERS_ALIKE))


def _require_same_decisions(what: str, photos: str, found: NoneOfThese, drift: float, alike: float) -> None:
    """Raise ExportError where a quantised export tells strangers from known photos otherwise than its run."""
    if found.difference > drift:
        raise ExportError(
            f"{what} does not tell {photos} as the run does: novelty differs by {found.difference:.2g} in the median "
            f"over {found.n}, wanted at most {drift:.2g}: it is not kept; type another --quantize"
        )
    if found.same is not None and _surely_below(found.same, found.n, alike):
        raise ExportError(
            f'{what} decides on "none of these" as the run does for {found.same:.1%} of {found.n} {photos}, '
            f"wanted {alike:.1%}: it is not kept; type another --quantize or --min-agreement"
        )


def _surely_below(share: float, n: int, wanted: float) -> bool:
    """Whether the 95 % interval of a share ends below what is wanted: one of thirty photos is no evidence."""
    return wilson_interval(round(share * n), n)[1] < wanted
