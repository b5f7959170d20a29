"""How long will photos take on many nodes, and what will they cost? A simulator, calibrated and tried on this machine.

The simulator hands shards to nodes as `regraft --ray` does, and loses nodes in the middle of their work. Its costs are
measured on a Ray cluster of two nodes of one core each, on loopback (Linux): extraction of ``--calibrate`` photos (each
number in a run with an empty cache), the same photos again from the cache, and one run in which a node is killed. Then
it predicts a run that it has not seen, ``--unseen`` photos with a node killed in the middle, and this run is made. It
also tells the hours and the price of 10^5 to 10^9 photos on clusters of several sizes.

The photos are copies of those in PHOTOS with a number behind each, so that each has to be computed.
"""

from __future__ import annotations

import argparse
import heapq
import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from _common import report

NODES = 2


@dataclass(frozen=True)
class Costs:
    """What is measured. All are seconds.

    Attributes:
        photo: a photo on one core of a node, from its bytes to a row of a part file.
        driver: a photo on the driver, alone: to hand it out, and to read its row at the end.
        start: until a node has its engine and begins with the first photo.
        notice: until the driver notices that a node is lost.
    """

    photo: float
    driver: float
    start: float
    notice: float


def shard_sizes(photos: int, nodes: int) -> list[int]:
    """The sizes of the shards, as `regraft.distributed.shards.shards_of` chooses them."""
    size = min(256, max(16, photos // (4 * nodes)))
    return [min(size, photos - i) for i in range(0, photos, size)]


def simulate(
    costs: Costs, photos: int, nodes: int, cores: int, lost: list[float], replaced_after: float | None = None
) -> float:
    """Return the seconds of a run.

    Args:
        costs: the measured costs.
        photos: the number of photos.
        nodes: the number of nodes.
        cores: the cores of a node.
        lost: when a node is lost, in seconds from the start, ascending; each time it is the one that works the longest.
        replaced_after: the seconds after which another node takes its place; None for never.
    """
    shards, losses = shard_sizes(photos, nodes)[::-1], lost[::-1]
    each = costs.photo / cores
    ready = [(costs.start, number) for number in range(nodes)]  # when a node is free, and its number
    heapq.heapify(ready)
    held: dict[int, list[int]] = {number: [] for number in range(nodes)}
    end, number = 0.0, nodes
    waiting: list[tuple[float, int]] = []  # shards of lost nodes, and when they are noticed
    idle: list[int] = []
    while ready:
        now, node = heapq.heappop(ready)
        if losses and now >= losses[-1]:  # the node was lost before it could answer
            when = losses.pop()
            waiting += [(when + costs.notice, size) for size in held.pop(node)]
            for other in idle:
                heapq.heappush(ready, (when + costs.notice, other))
            idle = []
            if replaced_after is not None:
                held[number] = []
                heapq.heappush(ready, (when + replaced_after + costs.start, number))
                number += 1
            continue
        end = max(end, now) if held[node] else end
        held[node] = []
        if due := next((entry for entry in waiting if entry[0] <= now), None):
            waiting.remove(due)
            held[node] = [due[1]]
        elif shards:
            held[node] = [shards.pop()]
        elif waiting:
            heapq.heappush(ready, (min(waiting)[0], node))
            continue
        else:
            idle.append(node)
            continue
        heapq.heappush(ready, (now + each * held[node][0], node))
    return end + costs.driver * photos


def measure(photos: Path, cache: Path, count: int, kill_after: float | None = None) -> dict[str, float]:
    """Extract features of the first photos on a new cluster in a process of its own; return its seconds by step."""
    command = [sys.executable, __file__, str(photos), "--run", str(count), "--kill-after", str(kill_after or 0)]
    done = subprocess.run(
        command, env={**os.environ, "REGRAFT_CACHE": str(cache)}, stdout=subprocess.PIPE, encoding="utf-8", check=True
    )
    result: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return result


def extraction(photos: Path, count: int, kill_after: float) -> dict[str, float]:
    """One extraction on a cluster of two nodes; with ``kill_after``, the processes of a node are killed so late."""
    import threading

    import ray
    from ray.cluster_utils import Cluster

    from regraft import load_backbone
    from regraft.distributed.cluster import RayCluster
    from regraft.engines.openvino import OpenVinoEngine
    from regraft.features.elsewhere import computed_on
    from regraft.features.features import extract
    from regraft.photos.dataset import Dataset

    records = Dataset.open(photos).records[:count]
    machines = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    nodes, cores = [], os.sched_getaffinity(0)
    for core in sorted(cores)[:NODES]:  # a node that is lost must leave no core to the other one
        os.sched_setaffinity(0, {core})
        nodes.append(machines.add_node(num_cpus=1))
    os.sched_setaffinity(0, cores)
    machines.wait_for_nodes()
    engine = OpenVinoEngine(load_backbone("efficientnet_lite0", 288))
    try:
        with RayCluster(machines.address) as cluster, computed_on(cluster):
            killer = threading.Timer(kill_after, lambda: machines.remove_node(nodes[0], allow_graceful=False))
            start = time.perf_counter()
            if kill_after:
                killer.start()
            found = extract(records, engine)
            computed = time.perf_counter() - start
            killer.cancel()
            again = extract(records, engine)
            cached = time.perf_counter() - start - computed
    finally:
        if ray.is_initialized():
            ray.shutdown()
        machines.shutdown()
    assert (found.computed, again.cached) == (len(records), len(records))
    return {"computed_s": computed, "cached_s": cached}


def calibrated(sizes: list[int], runs: list[dict[str, float]], killed: dict[str, float], kill_after: float) -> Costs:
    """The costs under which the simulator comes nearest to the runs."""
    driver = float(np.mean([run["cached_s"] / size for run, size in zip(runs, sizes, strict=True)]))
    costs = Costs(photo=0.01, driver=driver, start=1.0, notice=0.0)
    rows = [[max(work_of_the_last(size)), 1.0] for size in sizes]
    wanted = [run["computed_s"] - driver * size for run, size in zip(runs, sizes, strict=True)]
    (photo, start), *_ = np.linalg.lstsq(np.array(rows), np.array(wanted), rcond=None)
    costs = replace(costs, photo=float(photo), start=max(0.0, float(start)))
    without = simulate(costs, sizes[-1], NODES, 1, [kill_after])
    return replace(costs, notice=max(0.0, killed["computed_s"] - without))


def work_of_the_last(photos: int) -> list[int]:
    """The photos of each of the two nodes, which take shards in turn."""
    sizes = shard_sizes(photos, NODES)
    return [sum(sizes[i::NODES]) for i in range(NODES)]


def table(costs: Costs, cores: int, price: float, hours_to_failure: float) -> list[dict[str, Any]]:
    """Hours and price for many photos, with nodes that are lost at random and replaced after five minutes."""
    rows = []
    for photos in (10**5, 10**6, 10**7, 10**8, 10**9):
        for nodes in (1, 10, 100, 1000):
            if photos < 10_000 * nodes or photos > 10**7 * nodes * 10:
                continue
            rate = nodes / (hours_to_failure * 3600)
            length = costs.photo * photos / (nodes * cores)
            dice = np.random.default_rng(0)
            lost = np.sort(dice.uniform(0, length, dice.poisson(rate * length))).tolist()
            seconds = simulate(costs, photos, nodes, cores, lost, replaced_after=300.0)
            hours = seconds / 3600
            rows.append(
                {
                    "photos": photos,
                    "nodes": nodes,
                    "hours": round(hours, 2),
                    "price": round(hours * nodes * cores * price, 2),
                    "lost_nodes": len(lost),
                }
            )
    return rows


def copies(source: Path, place: Path, count: int) -> None:
    """Write ``count`` photos, each with bytes of its own."""
    found = sorted(path for path in source.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))
    for i in range(count):
        path = found[i % len(found)]
        folder = place / path.parent.name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{i:07}.jpg").write_bytes(path.read_bytes() + i.to_bytes(8, "big"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--calibrate", type=int, nargs="+", default=[512, 1024, 2048])
    parser.add_argument("--unseen", type=int, default=10_240)
    parser.add_argument("--cores", type=int, default=4, help="cores of a node in the table")
    parser.add_argument("--price", type=float, default=0.04, help="price of a core for an hour")
    parser.add_argument("--hours-to-failure", type=float, default=1000.0, help="mean hours until a node is lost")
    parser.add_argument("--run", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--kill-after", type=float, default=0.0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        print(json.dumps(extraction(options.photos, options.run, options.kill_after)))
        return
    with TemporaryDirectory(prefix="s-") as name:
        work, largest = Path(name), options.calibrate[-1]
        copies(options.photos, work / "photos", options.unseen)

        def run(count: int, kill_after: float | None = None) -> dict[str, float]:
            cache = work / "cache"
            for part in (cache / "features").glob("*/*"):
                part.unlink()
            return measure(work / "photos", cache, count, kill_after)

        run(64)  # builds and compiles the network, as every later run finds it
        runs = [run(count) for count in options.calibrate]
        middle = runs[-1]["computed_s"] / 2
        costs = calibrated(options.calibrate, runs, run(largest, middle), middle)
        late = simulate(costs, options.unseen, NODES, 1, []) / 2
        predicted = simulate(costs, options.unseen, NODES, 1, [late])
        measured = run(options.unseen, late)["computed_s"]
        report(
            costs={name: round(value, 5) for name, value in asdict(costs).items()},
            runs=runs,
            unseen={
                "photos": options.unseen,
                "killed_after_s": round(late, 1),
                "predicted_s": round(predicted, 1),
                "measured_s": round(measured, 1),
                "measured_of_predicted": round(measured / predicted, 3),
            },
            table=table(costs, options.cores, options.price, options.hours_to_failure),
        )


if __name__ == "__main__":
    main()
