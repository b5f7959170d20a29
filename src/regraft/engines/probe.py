"""The choice of the precision in which this processor computes a backbone fastest, by test and measurement.

In: a backbone's graph and the wanted precision. Out: a `Choice` of precision and instruction set, kept in the cache.
Why: some hypervisors announce instructions that end the process, and bf16 that works may still be slower than f32.
Surprise: each test runs in a process of its own, because an instruction that is not allowed kills the process.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from time import perf_counter, process_time
from typing import Any, ClassVar, Literal

import numpy as np

from regraft.engines.compiled import compile_graph
from regraft.errors import BackboneError, option
from regraft.foundation import console
from regraft.foundation.cache_files import read_value, write_value
from regraft.foundation.files import cache_folder, digest_json, environment_variable, set_environment
from regraft.foundation.processes import Ending, run
from regraft.foundation.processor import processor_digest, processor_name

Precision = Literal["bf16", "f32"]

PRECISIONS: dict[str, Precision | None] = {"auto": None, "fp32": "f32", "bf16": "bf16", "int8": None}
"""The precision that the user types, and OpenVINO's name for it; None leaves the choice to this module."""

ISA = "ONEDNN_MAX_CPU_ISA"
"""The environment variable that limits the instructions which oneDNN, in OpenVINO and TensorFlow, may use."""

LOWERED = ("AVX512_CORE_FP16", "AVX512_CORE_BF16")
"""Values of `ISA` to try if bf16 does not work without a limit: both exclude AMX, and the newest comes first."""

TOLERANCE = {"bf16": 0.05, "int8": 0.25}
"""The largest error of the small network, as a share of its largest output, at which a precision counts as correct.

On a processor that works, the error is 0.004 in bf16 and 0.11 in int8, whose values have steps of 1/255."""

FASTER = 1.2
"""f32 replaces a working bf16 only if it is this many times as fast in the median of all repeats, and faster in each of
them. Noise must not make equal machines choose differently."""

REPEATS = 5
_MEASURE_SECONDS = 1.2  # for all repeats together; the first repeat is always finished
_REPEAT_SECONDS = 0.03  # processor time for each core in one repeat
_TIMEOUT = 60.0  # seconds after which a process that tests something counts as dead
_FOREIGN_SIGNALS = ("SIGKILL", "SIGTERM", "SIGINT", "SIGHUP")  # a user or a system short of memory sends these

THIS_PROCESSOR = "any network"
"""The name, in messages and in the cache, for what holds for every network on this processor."""

_began_with_openvino = "openvino" in sys.modules
_began_with_isa = environment_variable(ISA)
_in_use = False  # whether OpenVINO may have computed in this process, so that a new limit has no effect any more


@dataclass(frozen=True, slots=True)
class Choice:
    """The precision in which a backbone is computed on this processor, with the reason.

    Attributes:
        precision: ``bf16`` or ``f32``.
        isa: the value of `ISA` that the precision needs; empty for no limit.
        photos_per_s: the measured speeds of the backbone's graph, by precision; empty if nothing was measured.
        failed: the tests that failed on this processor, each as ``"bf16: SIGILL"``.
    """

    precision: Precision
    isa: str = ""
    photos_per_s: Mapping[str, float] = field(default_factory=dict)
    failed: tuple[str, ...] = ()

    @property
    def lasts(self) -> bool:
        """Whether the choice may be cached: the processor caused all failures, and no user or system ended a test."""
        return not any(failure.endswith(_FOREIGN_SIGNALS) for failure in self.failed)

    @property
    def reason(self) -> str:
        """The reason for the choice, in words for the user."""
        speeds = ", ".join(f"{name} {speed:g}" for name, speed in self.photos_per_s.items())
        found = f"{speeds} photos/s were measured" if speeds else "the fastest that the processor has"
        return "; ".join([found, *(f"this processor does not run {failure}" for failure in self.failed)])


def choose(name: str, fingerprint: str, graph: Callable[[], Path] | None, int8: bool = False) -> Choice:
    """Return the fastest precision that works on this processor. The result is cached for each kind of processor.

    Args:
        name: the name of the backbone, for messages.
        fingerprint: the fingerprint of the backbone.
        graph: returns the graph (.xml) on which speeds are measured; None tests only which precision works at all.
        int8: whether the network also has layers in int8, so that int8 must work too.
    """
    memo, general = _Memo(fingerprint if graph else "", int8), _Memo("", int8)
    known = memo.read()
    if known is None:
        built = graph and graph()
        with console.waiting_for("finding the fastest precision of this processor (once)"):
            works = general.read() or general.write(THIS_PROCESSOR, _what_works(int8))
            known = memo.write(name, _fastest(works, built)) if built else works
        _print_choice(name, known)
    return known


def is_known(fingerprint: str) -> bool:
    """Return whether the choice for the backbone with this fingerprint is cached, so that `choose` is fast."""
    return _Memo(fingerprint, False).read() is not None


def choose_bf16(name: str, fingerprint: str, graph: Callable[[], Path]) -> Choice:
    """Return the choice for bf16 that the user asked for. Raises BackboneError if this processor cannot compute it."""
    choice = choose(name, fingerprint, None)
    if choice.precision == "bf16":
        return choice
    ending = _measured(graph(), ["bf16"], "")
    if ending.result is None:
        raise BackboneError(
            f"this processor cannot compute {name} in bf16 ({_why(ending)}); leave {option('precision')} out"
        )
    return Choice("bf16", failed=choice.failed)


def limit_openvino(isa: str) -> bool:
    """Limit OpenVINO in this process to the instructions ``isa``; empty for no limit. Call it before each compilation.

    Returns:
        Whether the limit has an effect. It must be in the environment before OpenVINO first computes, so it has no
        effect in a process that loaded OpenVINO before this package, or that has computed without the limit.
    """
    global _in_use
    if isa and environment_variable(ISA) != isa:
        if _in_use or _began_with_openvino:
            return False
        set_environment(ISA, isa)
    _in_use = True
    return True


def limit_for_int8() -> None:
    """Keep OpenVINO from int8 instructions that this processor announces but does not run.

    Call this before a quantised network is compiled. Raises BackboneError if it is too late in this process.
    """
    isa = choose(THIS_PROCESSOR, "", None, int8=True).isa
    if not limit_openvino(isa):
        raise BackboneError(
            f"this processor needs {ISA}={isa} for a network in int8, and OpenVINO was loaded without it; "
            "set it before Python starts, or import regraft before openvino"
        )


def has_int8_layers(model: Any) -> bool:
    """Return whether an ``openvino.Model`` has layers that OpenVINO computes in int8."""
    return any(operation.get_type_name() == "FakeQuantize" for operation in model.get_ops())


def limit_tensorflow() -> None:
    """Keep TensorFlow, here and in child processes, from instructions that this processor announces but does not run.

    Call this before TensorFlow is loaded: its oneDNN reads the same environment variable as OpenVINO's.
    """
    isa = choose(THIS_PROCESSOR, "", None).isa
    if isa and not environment_variable(ISA):
        set_environment(ISA, isa)


def runs_bf16() -> bool:
    """Return whether this processor computes bf16 correctly with all the instructions that it announces."""
    choice = choose(THIS_PROCESSOR, "", None)
    return choice.precision == "bf16" and not choice.isa


def findings() -> list[dict[str, Any]]:
    """Return all choices that are cached for this processor, as JSON values."""
    rows = []
    for file in sorted(cache_folder("probes").glob(f"{processor_digest()[:16]}-*.json")):
        if facts := read_value(file):
            rows.append(_row(facts))
    return rows


def _row(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return one cached choice as a flat dict, with one entry for the speed of each precision."""
    speeds = {f"{name}_photos_per_s": speed for name, speed in dict(facts.get("photos_per_s") or {}).items()}
    names = ("backbone", "precision", "isa", "processor", "openvino")
    return {name: facts.get(name, "") for name in names} | speeds | {"failed": ", ".join(facts.get("failed") or ())}


class _Memo:
    """The cache of one `Choice`: one file for each processor, version of OpenVINO, backbone and kind of network."""

    _here: ClassVar[dict[Path, Choice]] = {}
    """The choices that this process has read or made. They also serve if the cache is not writable."""

    def __init__(self, fingerprint: str, int8: bool) -> None:
        key = digest_json([fingerprint, int8, _openvino_version(), _began_with_isa])
        self._path = cache_folder("probes") / f"{processor_digest()[:16]}-{key[:16]}.json"

    def read(self) -> Choice | None:
        """Return the cached choice; None if there is none, or its file is damaged."""
        if self._path not in self._here:
            facts = read_value(self._path)
            if facts is None:
                return None
            values = {name: facts[name] for name in ("precision", "isa", "photos_per_s")}
            self._here[self._path] = Choice(**values, failed=tuple(facts["failed"]))
        return self._here[self._path]

    def write(self, name: str, choice: Choice) -> Choice:
        """Cache and return ``choice``; only for this process if it does not last, or the cache is not writable."""
        self._here[self._path] = choice
        if choice.lasts:
            facts = {"backbone": name, **asdict(choice), "processor": processor_name(), "openvino": _openvino_version()}
            write_value(self._path, facts)
        return choice


def _what_works(int8: bool) -> Choice:
    """Return bf16 without a limit, or with older instructions if they are needed; f32 if bf16 does not work at all."""
    failed: list[str] = []
    for isa in ("", *LOWERED):
        ending = run("regraft.engines.probe:try_here", {"int8": int8}, _limited(isa), _TIMEOUT)
        if ending.result is None:
            failed.append(f"bf16{f' with {isa}' if isa else ''}: {_why(ending)}")
            continue
        wrong = [f"{kind}: off by {off:.0%}" for kind, off in ending.result.items() if off > TOLERANCE[kind]]
        if not wrong:
            return Choice("bf16" if "bf16" in ending.result else "f32", isa, failed=tuple(failed))
        failed += wrong
    return Choice("f32", failed=tuple(failed))


def _fastest(works: Choice, graph: Path) -> Choice:
    """Return the faster precision for a graph; f32 if bf16 works in general but not with this graph."""
    if works.precision == "f32":
        return works
    ending = _measured(graph, ["f32", "bf16"], works.isa)
    if ending.result is None:
        return replace(works, precision="f32", failed=(*works.failed, f"bf16 with this network: {_why(ending)}"))
    return _faster(works, ending.result)


def _faster(works: Choice, speeds: Mapping[str, Sequence[float]]) -> Choice:
    """Return the choice by the speeds of alternating repeats: bf16, which works, unless f32 is clearly faster."""
    medians = {name: round(float(np.median(values)), 1) for name, values in speeds.items()}
    ratios = [exact / rough for exact, rough in zip(speeds["f32"], speeds["bf16"], strict=True)]
    slower = np.median(ratios) >= FASTER and min(ratios) > 1
    return replace(works, precision="f32" if slower else "bf16", photos_per_s=medians)


def _measured(graph: Path, precisions: Sequence[str], isa: str) -> Ending:
    """Run `measure_graph` in a process of its own."""
    return run(
        "regraft.engines.probe:measure_graph", {"graph": str(graph), "precisions": precisions}, _limited(isa), _TIMEOUT
    )


def _limited(isa: str) -> dict[str, str]:
    """Return the environment for a child process with a limit. It must not inherit a limit that this process has set.

    For oneDNN an empty value means that there is no limit.
    """
    return {ISA: isa or _began_with_isa}


def _why(ending: Ending) -> str:
    """Return the reason why a process returned no result."""
    return ending.signal or ending.failure or str(ending.error)


def _print_choice(name: str, choice: Choice) -> None:
    """Print the choice with its reason: as a warning if a test failed, as a note if speeds were measured."""
    text = f"precision {choice.precision} for {name}: {choice.reason}"
    if choice.failed:  # the tests run in processes of their own, so a failed test does no harm
        again = "is not tried again" if choice.lasts else "is tried again the next time"
        console.warn(f"{text}; the test did no harm, and {again}")
    elif choice.photos_per_s:
        console.note(text)


def try_here(int8: bool) -> dict[str, float]:
    """Test the precisions of this processor. This runs in a process of its own, because it may kill the process.

    Returns:
        For each precision, the largest error of a small network compared with f32, as a share of its largest output.
    """
    import openvino

    core = openvino.Core()
    kinds = ["bf16"] if "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES") else []
    photo = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3), dtype=np.uint8)
    exact = core.compile_model(_small_network(False), "CPU", {_HINT: "f32"})({0: photo})[0]
    errors = {}
    for kind in [*kinds, *(["int8"] if int8 else [])]:
        network = _small_network(kind == "int8")
        output = core.compile_model(network, "CPU", {_HINT: "bf16" if kind == "bf16" else "f32"})({0: photo})[0]
        errors[kind] = float(np.abs(output - exact).max() / np.abs(exact).max())
    return errors


def measure_graph(graph: str, precisions: Sequence[str]) -> dict[str, list[float]]:
    """Return the photos per second of a graph (.xml) by precision, one value for each of the alternating repeats."""
    compiled = {name: compile_graph(Path(graph), _options(name), lambda: Path(graph)) for name in precisions}
    shape = list(next(iter(compiled.values())).inputs[0].shape)
    photo = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    speeds: dict[str, list[float]] = {name: [] for name in precisions}
    with ThreadPoolExecutor() as pool:
        requests = {name: [one.create_infer_request() for _ in range(_cores())] for name, one in compiled.items()}
        requests[precisions[0]][0].infer(
            {0: photo}
        )  # alone: OpenVINO can deadlock if two threads create their first tensors
        for waiting in requests.values():  # the first inference of a request allocates its memory
            list(pool.map(lambda request: request.infer({0: photo}), waiting))
        start = perf_counter()
        while len(speeds[precisions[0]]) < REPEATS and (
            not speeds[precisions[-1]] or perf_counter() - start < _MEASURE_SECONDS
        ):
            for name, waiting in requests.items():
                speeds[name].append(_rate(pool, waiting, photo))
    return speeds


def _rate(pool: ThreadPoolExecutor, requests: Sequence[Any], photo: Any) -> float:
    """Return the photos per second if all cores were free: the processor time does not depend on other programs."""
    start, done = process_time(), 0
    while (seconds := process_time() - start) < _REPEAT_SECONDS * len(requests):
        done += len(list(pool.map(lambda request: request.infer({0: photo}), requests)))
    return done / seconds * len(requests)


def _cores() -> int:
    """Return the number of cores that this process may use."""
    return getattr(os, "process_cpu_count", os.cpu_count)() or 1


_HINT = "INFERENCE_PRECISION_HINT"


def _options(precision: str) -> dict[str, str]:
    """Return the properties that the engine uses for many photos, so that it can reuse the graphs compiled here."""
    return {_HINT: precision, "PERFORMANCE_HINT": "THROUGHPUT"}


def _small_network(int8: bool) -> Any:
    """Return a network of convolutions and a matrix product, large enough for the processor's widest units."""
    import openvino
    from openvino import opset8 as ops

    rng = np.random.default_rng(0)

    def weights(*shape: int) -> Any:
        values = rng.normal(0, np.sqrt(2 / np.prod(shape[-3:])), shape).astype(np.float32)
        return (
            _rounded(ops.constant(values), float(np.abs(values).max()), signed=True) if int8 else ops.constant(values)
        )

    def quantised(x: Any) -> Any:
        return _rounded(x, 6.0, signed=False) if int8 else x

    photo = ops.parameter([1, 64, 64, 3], np.uint8, name="photo")
    x = ops.transpose(ops.divide(ops.convert(photo, "f32"), np.float32(64)), np.array([0, 3, 1, 2]))
    same = ([1, 1], [1, 1], [1, 1], [1, 1])
    x = ops.relu(ops.convolution(quantised(x), weights(64, 3, 3, 3), [2, 2], [1, 1], [1, 1], [1, 1]))
    x = ops.relu(ops.convolution(quantised(x), weights(128, 64, 3, 3), *same))
    x = ops.relu(ops.group_convolution(quantised(x), weights(128, 1, 1, 3, 3), *same))
    x = ops.relu(ops.convolution(quantised(x), weights(64, 128, 1, 1), [1, 1], [0, 0], [0, 0], [1, 1]))
    pooled = ops.reduce_mean(x, np.array([2, 3]))
    return openvino.Model([ops.matmul(quantised(pooled), weights(64, 32), False, False)], [photo], "probe")


def _rounded(x: Any, limit: float, signed: bool) -> Any:
    """Return ``x`` rounded to 8-bit steps, by the operation that marks a quantised layer for OpenVINO."""
    from openvino import opset8 as ops

    low = np.float32(-limit if signed else 0)
    high = np.float32(limit)
    return ops.fake_quantize(x, low, high, low, high, 255 if signed else 256)


def _openvino_version() -> str:
    from importlib.metadata import version

    return version("openvino")
