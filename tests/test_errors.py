from __future__ import annotations

import inspect
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from regraft import errors, train
from regraft.errors import RunError, Spelling, option, spelled
from regraft.foundation.processes import call
from tests.conftest import Command


def test_the_docstring_draws_the_tree_that_is_there() -> None:
    classes = {n: c for n, c in vars(errors).items() if inspect.isclass(c) and issubclass(c, Exception)}
    assert errors.__doc__ is not None
    for name, cls in classes.items():
        assert name in errors.__doc__
        assert issubclass(cls, errors.RegraftError)
    assert issubclass(errors.ImageError, errors.DataError)


@pytest.mark.parametrize(
    ("spelling", "expected"),
    [
        (Spelling(), ["overwrite=True", "photos=FOLDER", "engine='jax'", "top", "learning_rate=0.1"]),
        (Spelling(flags=True), ["--overwrite", "--photos FOLDER", "--engine jax", "--top", "--learning-rate 0.1"]),
        (
            Spelling(flags=True, names={"photos": "--data_dir", "overwrite": "another --train_dir"}),
            ["another --train_dir", "--data_dir", "--engine jax", "--top", "--learning-rate 0.1"],
        ),
    ],
)
def test_an_option_is_spelled_as_the_user_types_it(spelling: Spelling, expected: list[str]) -> None:
    with spelled(spelling):
        found = [
            option("overwrite", True),
            option("photos", "FOLDER"),
            option("engine", "jax"),
            option("top"),
            option("learning_rate", "0.1"),
        ]
    assert found == expected


def test_each_front_end_tells_its_own_option(photos: Path, tmp_path: Path, regraft: Command, cache: Path) -> None:
    """The same error, of which one part is told by a process that builds a network."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "notes.txt").write_text("mine")
    with pytest.raises(RunError, match=r"type another out$"):
        train(photos, tmp_path / "run")
    assert "type another --out" in regraft("train", photos, "--out", "run", code=1).stderr
    command = [sys.executable, "-m", "regraft.compat.build_image_data", f"--train_directory={photos}"]
    other = shutil.copytree(photos, tmp_path / "other")
    flags = [f"--validation_directory={other}", f"--output_directory={tmp_path / 'run'}"]
    done = subprocess.run([*command, *flags], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "type another --output_directory" in done.stderr


def test_a_process_of_its_own_spells_options_as_its_caller_does() -> None:
    for spelling, expected in ((Spelling(), "top"), (Spelling(flags=True), "--top")):
        with spelled(spelling):
            assert call("regraft.errors:option", {"name": "top"}, "") == expected
