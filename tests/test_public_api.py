from __future__ import annotations

import subprocess
import sys
from types import ModuleType

import regraft


def test_public_names_are_sorted_and_there() -> None:
    assert regraft.__all__ == sorted(regraft.__all__)
    for name in regraft.__all__:
        assert getattr(regraft, name) is not None
    assert not [name for name in regraft.__all__ if isinstance(getattr(regraft, name), ModuleType)]
    assert dir(regraft) == regraft.__all__
    assert set(regraft._HOMES) | {"__version__"} == set(regraft.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    assert not hasattr(regraft, "retrain")


def test_importing_regraft_loads_no_framework() -> None:
    script = (
        "import sys; before = set(sys.modules); import regraft;"
        "print(*sorted({m.partition('.')[0] for m in set(sys.modules) - before} - sys.stdlib_module_names))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, encoding="utf-8", check=True)
    assert done.stdout.split() == ["regraft"]


def test_the_main_job_is_imported_without_any_framework() -> None:
    heavy = "{'keras', 'openvino', 'tensorflow', 'torch', 'jax', 'scipy'}"
    script = f"import sys, regraft.training; print(*({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, encoding="utf-8", check=True)
    assert done.stdout.split() == []
