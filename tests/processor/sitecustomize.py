"""Make OpenVINO behave as on a processor with a defect, in every process that has this folder in its PYTHONPATH.

The variable DEFECT names the defect. An instruction that is not allowed is a real one: the process dies of SIGILL.

- ``amx``: bf16 dies, unless ONEDNN_MAX_CPU_ISA keeps it from the newest instructions, as under some hypervisors.
- ``bf16``: bf16 dies always.
- ``int8``: as ``amx``, and int8 as well.
- ``wrong``: bf16 gives wrong numbers.
- ``killed``: bf16 is killed, as by a system short of memory: not the processor's defect.
- ``slow``: bf16 works, and takes many times as long as f32.
"""

from __future__ import annotations

import ctypes
import importlib.machinery
import mmap
import os
import platform
import signal
import sys
import time
from typing import Any

DEFECT = os.environ.get("DEFECT", "")


def die() -> None:
    """Execute an instruction that no processor has."""
    undefined = b"\x0f\x0b" if platform.machine() in ("x86_64", "AMD64") else b"\0\0\0\0"
    page = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    page.write(undefined)
    address = ctypes.addressof(ctypes.c_char.from_buffer(page))
    ctypes.CFUNCTYPE(None)(address)()


class Odd:
    """A compiled model whose answers are wrong, or late."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def __call__(self, inputs: Any) -> Any:
        found = self._inner(inputs)
        return {0: found[0] * 3.0} if DEFECT == "wrong" else found

    def create_infer_request(self) -> Any:
        return OddRequest(self._inner.create_infer_request())


class OddRequest:
    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def infer(self, *args: Any, **kwargs: Any) -> Any:
        found = self._inner.infer(*args, **kwargs)
        if DEFECT == "slow":
            end = time.thread_time() + 0.05
            while time.thread_time() < end:
                pass
        return found


def patch(module: Any) -> None:
    """Change ``openvino.Core``."""
    core = module.Core
    compile_model, import_model, get_property = core.compile_model, core.import_model, core.get_property

    def compiled(self: Any, model: Any, device: str = "CPU", config: Any = None, **more: Any) -> Any:
        config = dict(config or {})
        limited = bool(os.environ.get("ONEDNN_MAX_CPU_ISA"))
        rough = config.get("INFERENCE_PRECISION_HINT") == "bf16"
        if rough and DEFECT == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if rough and (DEFECT == "bf16" or (DEFECT in ("amx", "int8") and not limited)):
            die()
        quantised = not isinstance(model, str) and "FakeQuantize" in {op.get_type_name() for op in model.get_ops()}
        if DEFECT == "int8" and quantised and not limited:
            die()
        if rough:
            config["INFERENCE_PRECISION_HINT"] = "f32"  # so that these tests run on processors without bf16 too
        found = compile_model(self, model, device, config, **more)
        return Odd(found) if rough and DEFECT in ("wrong", "slow") else found

    def imported(self: Any, blob: Any, device: str, config: Any) -> Any:
        rough = config.get("INFERENCE_PRECISION_HINT") == "bf16"
        if rough and (DEFECT == "bf16" or (DEFECT in ("amx", "int8") and not os.environ.get("ONEDNN_MAX_CPU_ISA"))):
            die()
        found = import_model(self, blob, device, {**config, "INFERENCE_PRECISION_HINT": "f32"} if rough else config)
        return Odd(found) if rough and DEFECT in ("wrong", "slow") else found

    def told(self: Any, device: str, name: str) -> Any:
        found = get_property(self, device, name)
        return [*found, "BF16"] if name == "OPTIMIZATION_CAPABILITIES" else found

    core.compile_model, core.import_model, core.get_property = compiled, imported, told


class Finder:
    """Patches the module that defines ``Core`` once it is loaded."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name != "openvino._ov_api":
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        assert spec is not None
        assert spec.loader is not None
        execute = spec.loader.exec_module

        def exec_module(module: Any) -> None:
            execute(module)
            patch(module)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


if DEFECT:
    sys.meta_path.insert(0, Finder())
