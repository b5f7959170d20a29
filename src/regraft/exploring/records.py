"""Photos with or without labels as records, whose features come from the cache."""

from __future__ import annotations

import os
from dataclasses import fields, replace
from pathlib import Path

from regraft.config.features import FeatureConfig
from regraft.config.levels import Levels
from regraft.errors import ConfigError, option
from regraft.photos.dataset import Dataset, record_of
from regraft.photos.images import Problem
from regraft.photos.sources.base import Entry, Listing, find_source, spec_of
from regraft.photos.sources.folder import IMAGE_SUFFIXES, Folder
from regraft.photos.unlabelled import Found, copy_of, files_in


def records_in(photos: str | os.PathLike[str] | Dataset, levels: Levels = Levels()) -> Dataset:  # noqa: B008 (frozen)
    """Read photos that need not have labels.

    Args:
        photos: what `Dataset.open` takes; or a photo, or a folder of photos without folders in it, which have no
            labels.
        levels: which folders name classes and groups, where folders do.

    Returns:
        The data set. The label of photos without labels is empty, and is a class as well.

    Raises:
        ConfigError, DataError: as `Dataset.open` does.
    """
    if isinstance(photos, Dataset):
        return photos
    spec = spec_of(photos)
    place = copy_of(spec)
    if not lacks_labels(place):
        return Dataset.open(spec, levels.label_from, levels.group_from)
    found = list(files_in(place))
    entries = tuple(replace(photo, label="") for photo in found if isinstance(photo, Entry))
    return Dataset.of(Listing(entries, tuple(photo for photo in found if isinstance(photo, Problem))), spec)


def require_levels_alone(config: FeatureConfig) -> None:
    """Raise ConfigError if the options say more than which folders name classes and groups: a run decides the rest."""
    default, levels = FeatureConfig(), {field.name for field in fields(Levels)}
    for field in fields(config):
        if field.name not in levels and getattr(config, field.name) != getattr(default, field.name):
            raise ConfigError(f"the run decides on {field.name}; leave {option(field.name)} or the run out")


def lacks_labels(spec: str) -> bool:
    """Return whether ``spec`` is a photo, or a folder without class folders. Raises DataError if it is no source."""
    place = os.path.expanduser(spec)  # noqa: PTH111 (it takes any text, unlike that of pathlib)
    if Path(place).suffix.lower() in IMAGE_SUFFIXES and os.path.isfile(place):  # noqa: PTH113 (likewise)
        return True
    if not isinstance(find_source(spec), Folder):
        return False
    return not any(child.is_dir() for child in Path(place).iterdir() if not child.name.startswith("."))


def recorded(photo: Found) -> Found:
    """Return the record of a photo that is a file, so that its features come from the cache; all others unchanged.

    A file that cannot be read becomes a `Problem`.
    """
    return record_of(photo) if isinstance(photo, Entry) else photo
