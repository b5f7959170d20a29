"""A reader of tensors from old torch files (before the ZIP format), without torch.

The format is five pickles (magic number, protocol, system facts, state dict, storage keys), then each storage as a
little-endian int64 count followed by its numbers. The unpickler of this module accepts only the four names that such a
file needs. A malicious file can cause an error, but it cannot run code.
"""

from __future__ import annotations

import pickle
import struct
from collections import OrderedDict
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from regraft.errors import BackboneError

_MAGIC = 0x1950A86A20F9469CFC6C
_DTYPES: dict[str, np.dtype[Any]] = {"FloatStorage": np.dtype("<f4"), "LongStorage": np.dtype("<i8")}


class _Tensor(NamedTuple):
    """A view of a storage, as the pickle describes it. Offset and strides count numbers, not bytes."""

    storage: tuple[str, str, str, str, int]  # "storage", dtype name, key, device, count
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


def _tensor(storage: Any, offset: int, shape: Any, stride: Any, *_: Any) -> _Tensor:
    """Return the view of a storage. The pickle calls this function in place of torch's ``_rebuild_tensor_v2``."""
    return _Tensor(storage, offset, shape, stride)


class _TensorsOnly(pickle.Unpickler):
    """An unpickler that accepts only the names which a file of tensors needs."""

    def find_class(self, module: str, name: str) -> Any:
        """Return the object for a name in the pickle. Raises UnpicklingError for any name that is not expected."""
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _tensor
        if module == "torch" and name in _DTYPES:
            return name
        raise pickle.UnpicklingError(f"{module}.{name} is not allowed in a file of tensors")

    def persistent_load(self, pid: Any) -> Any:
        """Return the description of a storage, whose numbers are read later."""
        return pid


def read_tensors(path: Path) -> dict[str, NDArray[Any]]:
    """Return all tensors of a torch file by name.

    Raises:
        BackboneError: the file has another format, or is cut off.
    """
    try:
        with path.open("rb") as file:
            if _next(file) != _MAGIC:
                raise ValueError("no magic number")
            _next(file), _next(file)  # protocol version, byte order and sizes
            tensors: dict[str, _Tensor] = _next(file)
            dtypes = {t.storage[2]: _DTYPES[t.storage[1]] for t in tensors.values()}
            storages = {key: _storage(file, dtypes[key]) for key in _next(file)}
        return {name: _array(storages[t.storage[2]], t) for name, t in tensors.items()}
    except (pickle.UnpicklingError, ValueError, KeyError, EOFError, struct.error, AttributeError, TypeError) as error:
        raise BackboneError(f"{path} is not a torch file of tensors that regraft reads: {error}") from error


def _next(file: BinaryIO) -> Any:
    """Return the next pickle of the file."""
    return _TensorsOnly(file).load()


def _storage(file: BinaryIO, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return the numbers of the next storage of the file, (count,)."""
    (count,) = struct.unpack("<q", file.read(8))
    return np.frombuffer(file.read(count * dtype.itemsize), dtype, count)


def _array(storage: NDArray[Any], tensor: _Tensor) -> NDArray[Any]:
    """Return a tensor as a view of its storage. NumPy raises ValueError if the view exceeds the storage."""
    size = storage.itemsize
    strides = tuple(size * step for step in tensor.stride)
    return np.ndarray(tuple(tensor.shape), storage.dtype, storage.data, size * tensor.offset, strides)
