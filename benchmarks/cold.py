"""How near is cold extraction to what the hardware allows?

In one run, on the same photos: decoding alone (one thread's processor seconds), the backbone alone (its requests kept
full, seconds times cores), and `regraft train` on an empty cache as a process.
floor = (decode core-seconds + forward core-seconds) / cores. What it costs to find out which precision works and is
fastest, once for each processor, backbone and version of OpenVINO, is part of the extraction and shown apart.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from _common import regraft, report

from regraft.backbones.graphs import graph_path
from regraft.config.training import TrainConfig
from regraft.engines.openvino import OpenVinoEngine
from regraft.features.backbone_choice import choose_backbone
from regraft.photos.dataset import Dataset
from regraft.photos.images import read


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photos")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    cores = os.cpu_count() or 1
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        os.environ["REGRAFT_CACHE"] = f"{folder}/floor"
        engine = OpenVinoEngine(choose_backbone(TrainConfig(), []))
        graph_path(engine.backbone)
        start = time.perf_counter()
        choice = engine.choice
        probe = round(time.perf_counter() - start, 2)
        transform = engine.backbone.transform
        paths = [record.path for record in Dataset.open(options.photos).records]
        for number in range(options.repeats):
            done = regraft(
                "train", Path(options.photos).resolve(), "--json", cache=Path(folder, f"cold{number}"), cwd=Path(folder)
            )
            document = json.loads(done.stdout)
            decode = forward = 0.0
            for chunk in (paths[i : i + 256] for i in range(0, len(paths), 256)):
                start = time.thread_time()
                pixels = [transform.load(read(path)) for path in chunk]
                decode += time.thread_time() - start
                engine.run(pixels[0])
                start = time.perf_counter()
                with ThreadPoolExecutor(cores) as pool:
                    list(pool.map(engine.run, pixels))
                forward += (time.perf_counter() - start) * cores
            floor = (decode + forward) / cores
            extract = document["seconds"]["extract"]
            rows.append(
                {
                    "decode_core_s": round(decode, 2),
                    "forward_core_s": round(forward, 2),
                    "floor_s": round(floor, 2),
                    "extract_s": extract,
                    "ratio": round(extract / floor, 3),
                    "process_s": round(done.seconds, 2),
                    "photos_per_s": round(len(paths) / extract, 1),
                    "peak_MiB": round(done.mebibytes),
                }
            )
    rows.sort(key=lambda row: float(row["ratio"]))
    found = {"precision": choice.precision, "probe_s": probe, "probed_photos_per_s": choice.photos_per_s}
    report(photos=len(paths), **found, median=rows[len(rows) // 2], runs=rows)


if __name__ == "__main__":
    main()
