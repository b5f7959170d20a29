from __future__ import annotations

import pickle
import struct
from pathlib import Path

import numpy as np
import pytest

from regraft.backbones.torch_file import read_tensors
from regraft.errors import BackboneError

MAGIC = 0x1950A86A20F9469CFC6C


def numbers(values: tuple[int, ...]) -> bytes:
    return b"(" + b"".join(f"I{v}\n".encode() for v in values) + b"t"


def write_file(
    path: Path,
    call: str = "torch._utils\n_rebuild_tensor_v2",
    shape: tuple[int, ...] = (2, 3),
    stride: tuple[int, ...] = (3, 1),
) -> None:
    """An old-style torch file of one tensor, its state dict spelt in pickle's own opcodes."""
    storage = b"(Vstorage\nctorch\nFloatStorage\nV0\nVcpu\nI6\ntQ"
    arguments = b"(" + storage + b"I0\n" + numbers(shape) + numbers(stride) + b"I00\nNt"
    state = b"\x80\x02}Vweight\nc" + call.encode() + b"\n" + arguments + b"Rs."
    with path.open("wb") as file:
        for value in (MAGIC, 1001, {"little_endian": True}):
            pickle.dump(value, file, protocol=2)
        file.write(state)
        pickle.dump(["0"], file, protocol=2)
        file.write(struct.pack("<q", 6) + np.arange(6, dtype="<f4").tobytes())


def test_a_tensor_comes_back(tmp_path: Path) -> None:
    write_file(tmp_path / "a.pth")
    assert read_tensors(tmp_path / "a.pth")["weight"].tolist() == [[0, 1, 2], [3, 4, 5]]


def test_strides_are_honoured_and_cannot_reach_outside(tmp_path: Path) -> None:
    write_file(tmp_path / "a.pth", shape=(3, 2), stride=(1, 3))
    assert read_tensors(tmp_path / "a.pth")["weight"].tolist() == [[0, 3], [1, 4], [2, 5]]
    write_file(tmp_path / "b.pth", shape=(4, 3), stride=(3, 1))
    with pytest.raises(BackboneError, match="not a torch file"):
        read_tensors(tmp_path / "b.pth")


def test_a_file_that_would_run_code_is_refused(tmp_path: Path) -> None:
    write_file(tmp_path / "evil.pth", call="os\nsystem")
    with pytest.raises(BackboneError, match=r"os\.system is not allowed"):
        read_tensors(tmp_path / "evil.pth")


@pytest.mark.parametrize("keep", [0, 10, 60, -5])
def test_a_cut_off_file_is_refused(tmp_path: Path, keep: int) -> None:
    write_file(tmp_path / "a.pth")
    (tmp_path / "a.pth").write_bytes((tmp_path / "a.pth").read_bytes()[:keep])
    with pytest.raises(BackboneError, match="not a torch file"):
        read_tensors(tmp_path / "a.pth")
