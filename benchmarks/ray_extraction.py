"""What does Ray cost? Photos/s of one engine: plain, as --ray local, in Ray Data, and in Daft where it is installed.

All of them compute the same features with all cores of this machine, and write them to Parquet files. Each runs in a
process of its own, with a cache that has the network and nothing else, in turn, several times. Listing the photos and
starting Ray are not counted; starting the process that computes, and compiling the network there, are.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import numpy as np
from _common import report

from regraft.backbones.base import load_backbone
from regraft.distributed.cluster import RayCluster
from regraft.engines.openvino import OpenVinoEngine
from regraft.features.computing import computed_rows
from regraft.features.elsewhere import computed_on
from regraft.features.features import extract
from regraft.foundation.files import threads
from regraft.photos.dataset import Dataset, ImageRecord
from regraft.photos.images import Transform
from regraft.photos.unlabelled import loader

BATCH = 256


def engine() -> OpenVinoEngine:
    return OpenVinoEngine(load_backbone("efficientnet_lite0"))


def plain(records: tuple[ImageRecord, ...], _: Path) -> float:
    """Plain extraction; the features go to the cache."""
    start = perf_counter()
    extract(records, engine())
    return perf_counter() - start


def with_ray(records: tuple[ImageRecord, ...], out: Path) -> float:
    """What --ray local does, from a Ray that runs."""
    with RayCluster("local") as cluster, computed_on(cluster):
        cluster._session.start()
        return plain(records, out)


def with_warm_ray(records: tuple[ImageRecord, ...], out: Path) -> float:
    """The same, when the node has its engine already, as for all photos but the first ones of a long run."""
    with RayCluster("local") as cluster, computed_on(cluster):
        plain(records[:BATCH], out)
        return plain(records[BATCH:], out) * len(records) / (len(records) - BATCH)


class Batches:
    """The function that Ray Data and Daft map over batches of paths; it keeps its engine."""

    def __init__(self) -> None:
        self.engine = engine()

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        batch["features"] = self.features(batch["path"])
        return batch

    def features(self, paths: Any) -> Any:
        transform: Transform = self.engine.backbone.transform
        x = np.full((len(paths), self.engine.backbone.num_features), np.nan, np.float32)
        for number, row in computed_rows(self.engine, [loader(record_of(path), transform) for path in paths]):
            if not isinstance(row, str):
                x[number] = row
        return x


def record_of(path: str) -> ImageRecord:
    return ImageRecord(Path(path), "", "")


def with_ray_data(records: tuple[ImageRecord, ...], out: Path) -> float:
    """One actor that computes with all cores, and takes one of Ray's, so that Ray can also read and write."""
    import ray

    ray.init(address="local", num_cpus=threads(), include_dashboard=False, log_to_driver=False)
    ray.data.DataContext.get_current().enable_progress_bars = False
    start = perf_counter()
    data = ray.data.from_items([{"path": str(record.path)} for record in records])
    data.map_batches(Batches, batch_size=BATCH, concurrency=1, num_cpus=1).write_parquet(str(out))
    return perf_counter() - start


def with_daft(records: tuple[ImageRecord, ...], out: Path) -> float:
    """Daft on this machine, with the same function as a stateful one."""
    import daft

    width = engine().backbone.num_features
    kind = daft.DataType.embedding(daft.DataType.float32(), width)

    class Extract:
        def __init__(self) -> None:
            self.batches = Batches()

        def __call__(self, paths: Any) -> Any:
            return self.batches.features(paths.to_pylist())

    extract_all: Any = daft.udf(return_dtype=kind, concurrency=1, batch_size=BATCH)(Extract)
    start = perf_counter()
    table = daft.from_pydict({"path": [str(record.path) for record in records]})
    table.with_column("features", extract_all(daft.col("path"))).write_parquet(str(out))
    return perf_counter() - start


WAYS: dict[str, Callable[[tuple[ImageRecord, ...], Path], float]] = {
    "plain": plain,
    "ray": with_ray,
    "warm_ray": with_warm_ray,
    "ray_data": with_ray_data,
    **({"daft": with_daft} if find_spec("daft") else {}),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--way", choices=list(WAYS), help="measure one way in this process, with the cache as it is")
    options = parser.parse_args()
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    records = Dataset.open(options.photos).records
    if options.way:
        with TemporaryDirectory() as out:
            print(WAYS[options.way](records, Path(out)))
        return
    seconds: dict[str, list[float]] = {name: [] for name in WAYS}
    with TemporaryDirectory(prefix="r-") as name:
        cache = Path(name) / "cache"
        os.environ["REGRAFT_CACHE"] = str(cache)
        extract(records[:16], engine())  # builds the network, and reads all photos from the disk once
        for record in records:
            record.read()
        for _ in range(options.repeats):
            for way in WAYS:
                shutil.rmtree(cache / "features", ignore_errors=True)
                seconds[way].append(measured(way, options.photos))
    rates = {way: [round(len(records) / each, 1) for each in found] for way, found in seconds.items()}
    medians = {way: statistics.median(found) for way, found in rates.items()}
    report(
        photos=len(records),
        photos_per_s=medians,
        of_plain={way: round(found / medians["plain"], 3) for way, found in medians.items()},
        runs=rates,
    )


def measured(way: str, photos: Path) -> float:
    """The seconds of one way in a process of its own."""
    command = [sys.executable, __file__, str(photos), "--way", way]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr}")
    return float(json.loads(done.stdout.strip().splitlines()[-1]))


if __name__ == "__main__":
    main()
