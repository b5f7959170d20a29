"""What can be known here of systems that are no Linux: nothing needs a module that Python has on POSIX alone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import regraft

PACKAGE = Path(regraft.__file__).parent
MODULES = sorted(
    ".".join(("regraft", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__")
    for path in PACKAGE.rglob("*.py")
)

# The standard library, and the packages of the base install and of the server, which are not tested here, come first.
# Then the modules of POSIX are taken away. `sys.platform` decides what our modules import.
BEFORE = """
import asyncio, ctypes, http.client, importlib.metadata, multiprocessing, shutil, subprocess, tempfile, urllib.request
import faiss, google_crc32c, numpy, openvino, PIL.Image, platformdirs, pyarrow.parquet, rich.progress, safetensors.numpy
import starlette.applications, uvicorn
import tensorboard.compat.proto.event_pb2, tensorboard.plugins.hparams.api_pb2, tomli_w, urllib3
import importlib, sys

POSIX = "crypt fcntl grp nis ossaudiodev posix pty pwd readline resource spwd syslog termios tty".split()

class Refusing:
    def find_spec(self, name, path=None, target=None):
        if name in POSIX:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

for name in POSIX:
    sys.modules.pop(name, None)
sys.meta_path.insert(0, Refusing())
sys.builtin_module_names = tuple(set(sys.builtin_module_names) - set(POSIX))
sys.platform = "win32"
try:
    import fcntl
except ModuleNotFoundError:
    pass
else:
    sys.exit("fcntl is still there")
"""


def run(script: str, *arguments: str) -> str:
    """What a script prints in a process that has no POSIX modules."""
    command = [sys.executable, "-c", f"{BEFORE}\n{script}", *arguments]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_module_is_imported_without_modules_of_posix() -> None:
    script = """
for name in sys.argv[1:]:
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        print(name, error.name)
"""
    missing = dict(line.split() for line in run(script, *MODULES).splitlines())
    assert not missing


def test_files_are_claimed_and_replaced_without_locks(tmp_path: Path) -> None:
    script = """
from pathlib import Path
from regraft.foundation import files
from regraft.foundation.claims import claim
from regraft.foundation.tables import _limited_memory

folder = Path(sys.argv[1])
with files.locked(folder / "lock"):
    with files.atomic_folder(folder / "out") as fresh:
        (fresh / "a.txt").write_text("a")
with files.atomic_file(folder / "b.txt") as temporary:
    temporary.write_text("b")
mine = claim(folder / "run")
mine.release()
with _limited_memory():
    print(sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*")))
"""
    assert run(script, str(tmp_path)) == "['b.txt', 'lock', 'out', 'out/a.txt']\n"
