"""The record of a report: what was written, and the counts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from regraft.classifiers.paired_evaluation import Paired


@dataclass(frozen=True, slots=True)
class Report:
    """What `report` wrote, which is also the document of the command.

    Attributes:
        report: the path of the page.
        table: the path of the table of all photos.
        figures: the paths of the plots.
        bytes: the size of the page.
        photos: the number of photos that were looked at.
        shown: the number of photos in the page.
        thumbnails: the number of photos with a thumbnail in the page.
        measured: the number of photos that were measured.
        measured_on: which photos these are: ``folds``, ``test``, ``val``, or ``photos`` that the run does not know.
        mistakes: the number of measured photos whose most probable class is not their label.
        suspects: the number of labels that look wrong.
        copies: the number of groups of photos that show the same picture.
        missing: the number of photos of the run that were not found.
        verdict: the verdict, in one English sentence.
        limits: what limits the classifier, in English sentences.
        projection: the method of the map.
        seconds: the duration of the report without its map (``report``), and of the map (``projection``), in seconds.
        difference: with a run to compare with, the change of the accuracy from that run to this one; else None.
    """

    report: str
    table: str
    figures: tuple[str, ...]
    bytes: int
    photos: int
    shown: int
    thumbnails: int
    measured: int
    measured_on: str
    mistakes: int
    suspects: int
    copies: int
    missing: int
    verdict: str
    limits: tuple[str, ...]
    projection: str
    seconds: Mapping[str, float]
    difference: Paired | None = None
