"""SciPy is not part of the base install. Here it is kept from processes, since the tests' own environment has it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from regraft.backbones.base import list_backbones, load_backbone
from regraft.backbones.graphs import graph_path
from tests.conftest import Command

FOLDER = Path(__file__).parents[1] / "without_scipy"
KERAS = [name for name in list_backbones() if name.startswith("keras:")]


@pytest.fixture
def _no_scipy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(FOLDER), prepend=os.pathsep)
    monkeypatch.syspath_prepend(FOLDER)  # from here it goes to the processes that build graphs


def tell(script: str) -> list[str]:
    """The lines that a process without SciPy prints."""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, encoding="utf-8", check=True)
    return done.stdout.splitlines()


@pytest.mark.usefixtures("_no_scipy")
def test_keras_alone_sees_the_stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERAS_BACKEND", "openvino")
    script = """
from importlib.util import find_spec
from regraft.foundation.keras_import import import_keras
keras = import_keras()
print(keras.backend.backend(), find_spec("scipy"))
try:
    keras.ops.stft(keras.ops.zeros((1, 100)), 10, 5, 16)
except ImportError as error:
    print(error)
"""
    told = "Keras uses scipy.signal.get_window here, and SciPy is not installed; type pip install scipy"
    assert tell(script) == ["openvino None", told]


def test_the_real_scipy_is_used_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERAS_BACKEND", "openvino")
    script = """
from regraft.foundation.keras_import import import_keras
keras = import_keras()
import scipy.signal
print(keras.src.backend.openvino.math.scipy.signal.get_window is scipy.signal.get_window)
"""
    assert tell(script) == ["True"]


@pytest.mark.usefixtures("_no_scipy")
def test_a_classifier_is_trained_and_exported_without_scipy(regraft: Command, photos: Path, warm_cache: Path) -> None:
    assert tell("from importlib.util import find_spec; print(find_spec('scipy'))") == ["None"]
    backbone = load_backbone("efficientnet_lite0", 128)
    assert graph_path(backbone).is_file()  # in the cache of this test, built by a process without SciPy
    regraft("train", photos, "--resolution", "128", "--out", "run", "-q")
    regraft("export", "run", "--format", "openvino", "-q")


@pytest.mark.slow
@pytest.mark.parametrize("name", KERAS)
@pytest.mark.usefixtures("_no_scipy")
def test_every_network_of_keras_is_built_without_scipy(name: str) -> None:
    assert graph_path(load_backbone(name, 128, weights="none")).is_file()
