"""A small real run, and the ways in which tests damage it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

Damage = Callable[[Path], None]


def at(document: Any, path: str) -> tuple[Any, str | int]:
    """The innermost container of ``a.b.0``, and the last key or number."""
    *outer, last = [int(part) if part.isdecimal() else part for part in path.split(".")]
    for key in outer:
        document = document[key]
    return document, last


def in_json(name: str, path: str, value: Any) -> Damage:
    """Put ``value`` at a path of keys of a JSON file."""

    def damage(run: Path) -> None:
        document = json.loads((run / name).read_text(encoding="utf-8"))
        container, key = at(document, path)
        container[key] = value
        (run / name).write_text(json.dumps(document), encoding="utf-8")

    return damage


def without(name: str, path: str) -> Damage:
    """Remove a key of a JSON file."""

    def damage(run: Path) -> None:
        document = json.loads((run / name).read_text(encoding="utf-8"))
        container, key = at(document, path)
        del container[key]
        (run / name).write_text(json.dumps(document), encoding="utf-8")

    return damage


def filled(name: str, content: bytes) -> Damage:
    """Put other bytes into a file."""

    def damage(run: Path) -> None:
        (run / name).write_bytes(content)

    return damage


def gone(name: str) -> Damage:
    """Remove a file."""
    return lambda run: (run / name).unlink()


def cut(name: str, share: float) -> Damage:
    """Keep only the first part of a file."""

    def damage(run: Path) -> None:
        data = (run / name).read_bytes()
        (run / name).write_bytes(data[: int(len(data) * share)])

    return damage


def pipe(name: str) -> Damage:
    """Put a pipe, from which nothing ever comes, in place of a file."""

    def damage(run: Path) -> None:
        (run / name).unlink()
        os.mkfifo(run / name)

    return damage


def linked(name: str, target: str) -> Damage:
    """Put a link in place of a file."""

    def damage(run: Path) -> None:
        (run / name).unlink()
        (run / name).symlink_to(target)

    return damage


def folder(name: str) -> Damage:
    """Put a folder in place of a file."""

    def damage(run: Path) -> None:
        (run / name).unlink()
        (run / name).mkdir()

    return damage


def huge(name: str) -> Damage:
    """Make a file of eight gibibytes, which take no room on the disk."""

    def damage(run: Path) -> None:
        with (run / name).open("r+b") as file:
            file.truncate(8 * 2**30)

    return damage


def tensors(name: str, change: Callable[[dict[str, NDArray[Any]]], Any]) -> Damage:
    """Change the arrays of a safetensors file."""

    def damage(run: Path) -> None:
        arrays = {key: array.copy() for key, array in load_file(run / name).items()}
        change(arrays)
        save_file({key: np.ascontiguousarray(array) for key, array in arrays.items()}, run / name)

    return damage


def several(*damages: Damage) -> Damage:
    """One damage after the other."""

    def damage(run: Path) -> None:
        for one in damages:
            one(run)

    return damage
