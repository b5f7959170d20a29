"""What does a photo cost through `regraft serve`, beside `regraft predict` and other servers of the same network?

A run of the photos and its ONNX export are made first, then JPEGs of the photos with a byte behind each, so that no
cache knows them. In turns, as often as told: `regraft predict` answers the JPEGs (CPU seconds of the process less
those of a process that answers one of them, over all but one), then each server is started alone, asked for 3 s to
warm it up, and loaded by wrk over loopback with 1 and with 32 connections. The CPU seconds of a server are those of
its process and of all that it started, read from /proc before and after; a photo that was begun but not answered when
wrk ended counts as CPU seconds only. wrk shares the cores. Peers get an environment each, by pip, in FOLDER, which is
kept.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import Any

from _common import regraft, report
from _servers import Server, load, serving, write_bodies

PEERS = Path(__file__).parent / "peers"
CORES = os.cpu_count() or 1
CONNECTIONS = (1, 32)
PIP = {
    "litserve": ["litserve", "python-multipart"],
    "mlserver": ["mlserver", "uvloop<0.22"],  # 1.7.1 does not start with a newer uvloop
    "bentoml": ["bentoml"],
    "kserve": ["kserve"],
    "ray": ["ray[serve]"],
}


def ours(name: str, model: str) -> Server:
    command = (sys.executable, "-m", "regraft", "serve", model, "--port", "{port}")
    return Server(name, command, "/v2/health/ready", "/predict", "jpeg")


def peer(name: str, batch: int, ready: str, path: str, body: str, field: str = "photo") -> Server:
    """A peer that computes up to ``batch`` photos at once, with a worker for each core."""
    command = (f"{{folder}}/{name}/bin/python", str(PEERS / f"{name}_peer.py"), "{export}", "{port}", str(CORES))
    return Server(
        f"{name}, batches of {batch}" if batch > 1 else name, (*command, str(batch)), ready, path, body, field
    )


SERVERS = (
    ours("regraft", "{run}"),
    ours("regraft, its ONNX export", "{export}"),
    *(peer("litserve", batch, "/health", "/predict", "form") for batch in (1, 8)),
    *(peer("mlserver", batch, "/v2/models/flowers/ready", "/v2/models/flowers/infer", "v2") for batch in (1, 8)),
    peer("bentoml", 1, "/readyz", "/predict", "jpeg"),
    peer("bentoml", 8, "/readyz", "/predict", "form", "photos"),
    peer("kserve", 1, "/v2/models/flowers/ready", "/v2/models/flowers/infer", "v2"),
    *(peer("ray", batch, "/-/healthz", "/predict", "jpeg") for batch in (1, 8)),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photos", type=Path)
    parser.add_argument("folder", type=Path, help="run, export, JPEGs and environments are made here, once")
    parser.add_argument("--servers", nargs="+", default=[server.name for server in SERVERS])
    parser.add_argument("--count", type=int, default=1000, help="number of different JPEGs")
    parser.add_argument("--seconds", type=int, default=20, help="length of each load")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--starts", type=int, default=5, help="further starts of regraft's servers, to time them")
    parser.add_argument("--memory", type=int, default=10_000, help="photos after which memory is read again; 0: never")
    options = parser.parse_args()
    bench = Bench(options.photos.resolve(), options.folder.resolve(), options.count, options.seconds)
    servers = [server for server in SERVERS if server.name in options.servers]
    for name in sorted({server.name.split(",")[0] for server in servers} & PIP.keys()):
        bench.environment(name)
    predicts: dict[str, list[float]] = {"run": [], "export": []}
    loads: dict[str, list[dict[str, Any]]] = {server.name: [] for server in servers}
    for repeat in range(options.repeats):
        for model, found in predicts.items():
            found.append(bench.predict(model))
        for server in servers:
            loads[server.name].append(bench.measure(server))
            print(repeat, server.name, loads[server.name][-1], file=sys.stderr)
    mine = [server for server in servers if server.name.startswith("regraft")]
    report(
        cores=CORES,
        seconds=options.seconds,
        predict_cpu_ms={model: spread(found, 1000) for model, found in predicts.items()},
        servers={
            name: summary(found, predicts["run" if name == "regraft" else "export"]) for name, found in loads.items()
        },
        start_s={server.name: spread(bench.starts(server, options.starts)) for server in mine if options.starts},
        resident_MiB={server.name: bench.memory(server, options.memory) for server in mine if options.memory},
    )


class Bench:
    """A run, its export and JPEGs in a folder, and the servers that are measured on them."""

    def __init__(self, photos: Path, folder: Path, count: int, seconds: int) -> None:
        self.folder, self.seconds = folder, seconds
        self.run, self.export, self.jpegs = (
            folder / "run",
            folder / "run" / "exports" / "onnx",
            folder / f"jpegs{count}",
        )
        self.cache = folder / "cache"
        folder.mkdir(parents=True, exist_ok=True)
        if not self.run.exists():
            regraft("train", photos, "--out", self.run, cache=self.cache, cwd=folder)
        if not self.export.exists():
            regraft("export", self.run, "--format", "onnx", cache=self.cache, cwd=folder)
        if not self.jpegs.exists():
            self.jpegs.mkdir()
            found = sorted(path for path in photos.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))
            random.Random(0).shuffle(found)
            for number, path in enumerate(found[:count]):
                (self.jpegs / f"{number:05}.jpg").write_bytes(path.read_bytes() + b"\0")
        self.data = [path.read_bytes() for path in sorted(self.jpegs.iterdir())]

    def environment(self, name: str) -> None:
        """An environment with the peer, ONNX Runtime and Pillow."""
        place = self.folder / name
        if not (place / "made").exists():
            subprocess.run([sys.executable, "-m", "venv", place], check=True)
            subprocess.run([place / "bin" / "pip", "install", "-q", *PIP[name], "onnxruntime", "pillow"], check=True)
            (place / "made").touch()

    def predict(self, model: str) -> float:
        """CPU seconds a photo of `regraft predict` with the run or the export."""
        path = self.run if model == "run" else self.export
        one = self._cpu(path, sorted(self.jpegs.iterdir())[0])
        return (self._cpu(path, self.jpegs) - one) / (len(self.data) - 1)

    def _cpu(self, model: Path, photos: Path) -> float:
        command = [sys.executable, "-m", "regraft", "predict", str(model), str(photos), "--quiet"]
        environment = {**os.environ, "REGRAFT_CACHE": str(self.cache)}
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            sys.exit(f"{' '.join(command)} failed")
        return usage.ru_utime + usage.ru_stime

    def _served(self, server: Server) -> Any:
        environment = {"REGRAFT_CACHE": str(self.cache)}
        log = self.folder / "server.log"
        return serving(server, log, environment, run=self.run, export=self.export, folder=self.folder)

    def _bodies(self, server: Server) -> tuple[Path, str]:
        place = self.folder / f"bodies-{server.body}-{server.field}-{len(self.data)}"
        return place, write_bodies(server, self.data, place)

    def measure(self, server: Server) -> dict[str, Any]:
        """One start of the server, and its loads by number of connections."""
        bodies = self._bodies(server)
        with self._served(server) as watched:
            load(watched, server, *bodies, 8, 3)
            loads = {f"{n} connections": load(watched, server, *bodies, n, self.seconds) for n in CONNECTIONS}
            return {"start_s": watched.start_seconds, "MiB": watched.resident_mib(), **loads}

    def starts(self, server: Server, repeats: int) -> list[float]:
        """Seconds from the start of the process until it says that it is ready."""
        found = []
        for _ in range(repeats):
            with self._served(server) as watched:
                found.append(watched.start_seconds)
        return found

    def memory(self, server: Server, photos: int) -> dict[str, float]:
        """Resident MiB after a tenth of the photos and after all of them, over 32 connections."""
        bodies = self._bodies(server)
        found: dict[str, float] = {}
        with self._served(server) as watched:
            answered = 0
            for goal in (photos // 10, photos):
                while answered < goal:
                    answered += load(watched, server, *bodies, 32, 5)["answers"]
                found[str(answered)] = round(watched.resident_mib(), 1)
        return found


def summary(found: list[dict[str, Any]], predicts: list[float]) -> dict[str, Any]:
    """Medians over the repetitions, with the smallest and the largest."""
    told: dict[str, Any] = {
        "start_s": spread([one["start_s"] for one in found]),
        "MiB": spread([one["MiB"] for one in found]),
    }
    for n in CONNECTIONS:
        loads = [one[f"{n} connections"] for one in found]
        costs = [one["cpu_s"] / max(1, one["answers"] - one["not_200"]) for one in loads]
        told[f"{n} connections"] = {
            "photos_a_second": spread([(one["answers"] - one["not_200"]) / one["seconds"] for one in loads]),
            "p50_ms": spread([one["p50_ms"] for one in loads]),
            "p99_ms": spread([one["p99_ms"] for one in loads]),
            "cpu_ms": spread(costs, 1000),
            "times_predict": spread([cost / predict for cost, predict in zip(costs, predicts, strict=True)]),
            "not_200": sum(one["not_200"] for one in loads),
            "lost": sum(one["lost"] for one in loads),
        }
    return told


def spread(found: list[float], scale: float = 1) -> list[float]:
    """Median, smallest and largest."""
    return [round(scale * value, 3) for value in (median(found), min(found), max(found))]


if __name__ == "__main__":
    main()
