"""What this processor can run, and in which precision it runs a backbone fastest: tried, not believed.

In: a backbone's graph, and what was asked for. Out: a `Choice` of precision and instruction set, kept in the cache.
Why: some hypervisors announce instructions that end the process, and bf16 that works may still be slower than f32.
Surprise: everything is tried in a process of its own, since the only sign of a forbidden instruction is its death.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import median
from time import perf_counter, process_time
from typing import Any, ClassVar, Literal

import numpy as np

from regraft import _console
from regraft._cache import read_value, write_value
from regraft._compiled import compile_graph
from regraft._files import cache_folder, digest_json, environment_variable, set_environment
from regraft._processes import Ending, run
from regraft._processor import processor_digest, processor_name
from regraft.errors import BackboneError

Precision = Literal["bf16", "f32"]

ISA = "ONEDNN_MAX_CPU_ISA"
"""The environment variable by which oneDNN, inside OpenVINO and TensorFlow, is kept from newer instructions."""

LOWERED = ("AVX512_CORE_FP16", "AVX512_CORE_BF16")
"""Values of `ISA` to try where bf16 does not work without one: all below AMX, from the newest down."""

TOLERANCE = {"bf16": 0.05, "int8": 0.25}
"""The largest error of the small network, as a share of its largest output, with which a precision counts as right.

On a processor that works, bf16 is off by 0.004 and int8, whose values have steps of a 255th, by 0.11."""

FASTER = 1.2
"""f32 is used in place of a working bf16 only if it is so many times as fast in the median of all repeats, and faster
in each of them. Noise must not make equal machines choose differently."""

REPEATS = 5
_SECONDS = 1.2  # for all repeats together; the first is always finished
_SLICE = 0.03  # of processor time, for each core and repeat
_PATIENCE = 60.0  # seconds after which a process that tries something counts as dead
_FROM_OUTSIDE = ("SIGKILL", "SIGTERM", "SIGINT", "SIGHUP")  # no processor sends them; the system short of memory does

THIS_PROCESSOR = "any network"

_began_with_openvino = "openvino" in sys.modules
_began_with_isa = environment_variable(ISA)
_in_use = False


@dataclass(frozen=True, slots=True)
class Choice:
    """In what a backbone is computed on this processor.

    Attributes:
        precision: ``bf16`` or ``f32``.
        isa: the value of `ISA` that it needs; empty for no limit.
        photos_per_s: the speeds that were measured on the backbone's own graph, by precision; empty if none were.
        failed: what was tried before and does not work here, each as ``"bf16: SIGILL"``.
    """

    precision: Precision
    isa: str = ""
    photos_per_s: Mapping[str, float] = field(default_factory=dict)
    failed: tuple[str, ...] = ()

    @property
    def lasts(self) -> bool:
        """Whether all failures are the processor's, and none that of a process which something else has ended."""
        return not any(failure.endswith(_FROM_OUTSIDE) for failure in self.failed)

    @property
    def reason(self) -> str:
        """Why it was chosen, in words for the user."""
        speeds = ", ".join(f"{name} {speed:g}" for name, speed in self.photos_per_s.items())
        found = f"{speeds} photos/s were measured" if speeds else "the fastest that the processor has"
        return "; ".join([found, *(f"this processor does not run {failure}" for failure in self.failed)])


def choose(name: str, fingerprint: str, graph: Callable[[], Path] | None, int8: bool = False) -> Choice:
    """The fastest precision that works here. What was found once is kept in the cache, for each processor.

    Args:
        name: the backbone's, for messages.
        fingerprint: the backbone's.
        graph: returns its graph (.xml), on which speeds are measured; None asks only what works at all.
        int8: whether the network also has layers in int8, which then must work as well.
    """
    memo, general = _Memo(fingerprint if graph else "", int8), _Memo("", int8)
    known = memo.read()
    if known is None:
        built = graph and graph()
        with _console.waiting_for("finding the fastest precision of this processor (once)"):
            works = general.read() or general.write(THIS_PROCESSOR, _what_works(int8))
            known = memo.write(name, _fastest(works, built)) if built else works
        _tell(name, known)
    return known


def is_known(fingerprint: str) -> bool:
    """Whether `choose` would answer at once for the backbone with this fingerprint."""
    return _Memo(fingerprint, False).read() is not None


def choose_bf16(name: str, fingerprint: str, graph: Callable[[], Path]) -> Choice:
    """How bf16 that the user insists on can be computed here. Raises BackboneError where it cannot."""
    found = choose(name, fingerprint, None)
    if found.precision == "bf16":
        return found
    ending = _measured(graph(), ["bf16"], "")
    if ending.result is None:
        raise BackboneError(f"this processor cannot compute {name} in bf16 ({_why(ending)}); leave --precision out")
    return Choice("bf16", failed=found.failed)


def limit_openvino(isa: str) -> bool:
    """Keep the oneDNN of this process's OpenVINO to ``isa``; empty for no limit. To be called before each compilation.

    Returns:
        Whether the limit holds. It must stand in the environment before OpenVINO first computes: in a process that
        loaded OpenVINO before this package, or has computed without the limit, it has no effect any more.
    """
    global _in_use
    if isa and environment_variable(ISA) != isa:
        if _in_use or _began_with_openvino:
            return False
        set_environment(ISA, isa)
    _in_use = True
    return True


def limit_for_int8() -> None:
    """Keep OpenVINO from instructions that this processor announces for int8 and does not run.

    To be called before a quantised network is compiled. Raises BackboneError where it is too late in this process.
    """
    isa = choose(THIS_PROCESSOR, "", None, int8=True).isa
    if not limit_openvino(isa):
        raise BackboneError(
            f"this processor needs {ISA}={isa} for a network in int8, and OpenVINO was loaded without it; "
            "set it before Python starts, or import regraft before openvino"
        )


def has_int8_layers(model: Any) -> bool:
    """Whether an ``openvino.Model`` has layers that OpenVINO computes in int8."""
    return any(operation.get_type_name() == "FakeQuantize" for operation in model.get_ops())


def limit_tensorflow() -> None:
    """Keep TensorFlow, here and in child processes, from instructions that this processor announces and does not run.

    To be called before TensorFlow is loaded: its oneDNN reads the same variable as OpenVINO's.
    """
    isa = choose(THIS_PROCESSOR, "", None).isa
    if isa and not environment_variable(ISA):
        set_environment(ISA, isa)


def runs_bf16() -> bool:
    """Whether this processor computes bf16 correctly with all the instructions that it announces."""
    found = choose(THIS_PROCESSOR, "", None)
    return found.precision == "bf16" and not found.isa


def findings() -> list[dict[str, Any]]:
    """All that was found on this processor so far, as JSON values."""
    found = []
    for file in sorted(cache_folder("probes").glob(f"{processor_digest()[:16]}-*.json")):
        if told := read_value(file):
            found.append(_row(told))
    return found


def _row(told: Mapping[str, Any]) -> dict[str, Any]:
    speeds = {f"{name}_photos_per_s": speed for name, speed in dict(told.get("photos_per_s") or {}).items()}
    names = ("backbone", "precision", "isa", "processor", "openvino")
    return {name: told.get(name, "") for name in names} | speeds | {"failed": ", ".join(told.get("failed") or ())}


class _Memo:
    """Where a `Choice` is kept: a file for each processor, version of OpenVINO, backbone and kind of network."""

    _here: ClassVar[dict[Path, Choice]] = {}
    """What this process has read or found, also where the cache cannot be written."""

    def __init__(self, fingerprint: str, int8: bool) -> None:
        key = digest_json([fingerprint, int8, _openvino_version(), _began_with_isa])
        self._path = cache_folder("probes") / f"{processor_digest()[:16]}-{key[:16]}.json"

    def read(self) -> Choice | None:
        """What was found; None where nothing was, or the file is damaged."""
        if self._path not in self._here:
            told = read_value(self._path)
            if told is None:
                return None
            values = {name: told[name] for name in ("precision", "isa", "photos_per_s")}
            self._here[self._path] = Choice(**values, failed=tuple(told["failed"]))
        return self._here[self._path]

    def write(self, name: str, choice: Choice) -> Choice:
        """Keep and return ``choice``: for this process alone where it does not last, or the cache cannot be written."""
        self._here[self._path] = choice
        if choice.lasts:
            facts = {"backbone": name, **asdict(choice), "processor": processor_name(), "openvino": _openvino_version()}
            write_value(self._path, facts)
        return choice


def _what_works(int8: bool) -> Choice:
    """Try bf16 as it is, then with older instructions alone; f32 where none of these works."""
    failed: list[str] = []
    for isa in ("", *LOWERED):
        ending = run("regraft.probe:try_here", {"int8": int8}, _limited(isa), _PATIENCE)
        if ending.result is None:
            failed.append(f"bf16{f' with {isa}' if isa else ''}: {_why(ending)}")
            continue
        wrong = [f"{kind}: off by {off:.0%}" for kind, off in ending.result.items() if off > TOLERANCE[kind]]
        if not wrong:
            return Choice("bf16" if "bf16" in ending.result else "f32", isa, failed=tuple(failed))
        failed += wrong
    return Choice("f32", failed=tuple(failed))


def _fastest(works: Choice, graph: Path) -> Choice:
    """What to use for a backbone: f32 also where bf16 works in general and does not with this graph."""
    if works.precision == "f32":
        return works
    ending = _measured(graph, ["f32", "bf16"], works.isa)
    if ending.result is None:
        return replace(works, precision="f32", failed=(*works.failed, f"bf16 with this network: {_why(ending)}"))
    return _faster(works, ending.result)


def _faster(works: Choice, speeds: Mapping[str, Sequence[float]]) -> Choice:
    """What to use, by the speeds of alternating repeats: bf16, which works, unless f32 is clearly faster."""
    told = {name: round(median(found), 1) for name, found in speeds.items()}
    ratios = [exact / rough for exact, rough in zip(speeds["f32"], speeds["bf16"], strict=True)]
    slower = median(ratios) >= FASTER and min(ratios) > 1
    return replace(works, precision="f32" if slower else "bf16", photos_per_s=told)


def _measured(graph: Path, precisions: Sequence[str], isa: str) -> Ending:
    """`measure_graph` in a process of its own."""
    return run("regraft.probe:measure_graph", {"graph": str(graph), "precisions": precisions}, _limited(isa), _PATIENCE)


def _limited(isa: str) -> dict[str, str]:
    """The environment of a process with this limit. A limit that this process has set meanwhile must not be inherited.

    For oneDNN an empty value is the same as none.
    """
    return {ISA: isa or _began_with_isa}


def _why(ending: Ending) -> str:
    """Why a process brought no result."""
    return ending.signal or ending.failure or str(ending.error)


def _tell(name: str, choice: Choice) -> None:
    text = f"precision {choice.precision} for {name}: {choice.reason}"
    if choice.failed:
        again = "is not tried again" if choice.lasts else "is tried again the next time"
        _console.warn(f"{text}; this was found out without harm, and {again}")
    elif choice.photos_per_s:
        _console.note(text)


def try_here(int8: bool) -> dict[str, float]:
    """Try the precisions of this processor. Runs in a process of its own, which may die of it.

    Returns:
        By precision, the errors of a small network beside f32, as shares of its largest output.
    """
    core = _core()
    kinds = ["bf16"] if "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES") else []
    photo = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3), dtype=np.uint8)
    exact = core.compile_model(_small_network(False), "CPU", {_HINT: "f32"})({0: photo})[0]
    errors = {}
    for kind in [*kinds, *(["int8"] if int8 else [])]:
        network = _small_network(kind == "int8")
        found = core.compile_model(network, "CPU", {_HINT: "bf16" if kind == "bf16" else "f32"})({0: photo})[0]
        errors[kind] = float(np.abs(found - exact).max() / np.abs(exact).max())
    return errors


def measure_graph(graph: str, precisions: Sequence[str]) -> dict[str, list[float]]:
    """Photos a second of a backbone's graph (.xml) by precision, one figure for each of several alternating repeats."""
    compiled = {name: compile_graph(Path(graph), _options(name), lambda: Path(graph)) for name in precisions}
    shape = list(next(iter(compiled.values())).inputs[0].shape)
    photo = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    speeds: dict[str, list[float]] = {name: [] for name in precisions}
    with ThreadPoolExecutor() as pool:
        requests = {name: [one.create_infer_request() for _ in range(_cores())] for name, one in compiled.items()}
        for waiting in requests.values():  # the first inference of each allocates its memory
            list(pool.map(lambda request: request.infer({0: photo}), waiting))
        start = perf_counter()
        while len(speeds[precisions[0]]) < REPEATS and (
            not speeds[precisions[-1]] or perf_counter() - start < _SECONDS
        ):
            for name, waiting in requests.items():
                speeds[name].append(_rate(pool, waiting, photo))
    return speeds


def _rate(pool: ThreadPoolExecutor, requests: Sequence[Any], photo: Any) -> float:
    """Photos a second, if all cores were free: from the processor time taken, which other programs do not change."""
    start, done = process_time(), 0
    while (seconds := process_time() - start) < _SLICE * len(requests):
        done += len(list(pool.map(lambda request: request.infer({0: photo}), requests)))
    return done / seconds * len(requests)


def _cores() -> int:
    return getattr(os, "process_cpu_count", os.cpu_count)() or 1


_HINT = "INFERENCE_PRECISION_HINT"


def _options(precision: str) -> dict[str, str]:
    """The engine's own properties for many photos: what is compiled here, need not be compiled again."""
    return {_HINT: precision, "PERFORMANCE_HINT": "THROUGHPUT"}


def _core() -> Any:
    sys.modules["openvino.tools.ovc"] = None  # type: ignore[assignment]  # a slow import that is not needed
    import openvino

    return openvino.Core()


def _small_network(int8: bool) -> Any:
    """Convolutions, dense and depthwise, and a product of matrices, large enough for the processor's widest units."""
    import openvino
    from openvino import opset8 as ops

    dice = np.random.default_rng(0)

    def weights(*shape: int) -> Any:
        values = dice.normal(0, np.sqrt(2 / np.prod(shape[-3:])), shape).astype(np.float32)
        return (
            _rounded(ops.constant(values), float(np.abs(values).max()), signed=True) if int8 else ops.constant(values)
        )

    def seen(x: Any) -> Any:
        return _rounded(x, 6.0, signed=False) if int8 else x

    photo = ops.parameter([1, 64, 64, 3], np.uint8, name="photo")
    x = ops.transpose(ops.divide(ops.convert(photo, "f32"), np.float32(64)), np.array([0, 3, 1, 2]))
    same = ([1, 1], [1, 1], [1, 1], [1, 1])
    x = ops.relu(ops.convolution(seen(x), weights(64, 3, 3, 3), [2, 2], [1, 1], [1, 1], [1, 1]))
    x = ops.relu(ops.convolution(seen(x), weights(128, 64, 3, 3), *same))
    x = ops.relu(ops.group_convolution(seen(x), weights(128, 1, 1, 3, 3), *same))
    x = ops.relu(ops.convolution(seen(x), weights(64, 128, 1, 1), [1, 1], [0, 0], [0, 0], [1, 1]))
    pooled = ops.reduce_mean(x, np.array([2, 3]))
    return openvino.Model([ops.matmul(seen(pooled), weights(64, 32), False, False)], [photo], "probe")


def _rounded(x: Any, limit: float, signed: bool) -> Any:
    """``x`` in steps of eight bits."""
    from openvino import opset8 as ops

    low = np.float32(-limit if signed else 0)
    high = np.float32(limit)
    return ops.fake_quantize(x, low, high, low, high, 255 if signed else 256)


def _openvino_version() -> str:
    from importlib.metadata import version

    return version("openvino")
