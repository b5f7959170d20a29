"""How fast are shards written, beside a plain single-process TensorFlow writer of the same fields? In turn, one run.

Needs TensorFlow. Both read each photo, decode it (for its size, and to find damage), and write `tf.train.Example`
messages. regraft also digests every photo, orders them by digest, and converts those that readers would show wrong.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

from _common import regraft, report, run

PLAIN = """
import sys, time
from pathlib import Path
import tensorflow as tf
tf.config.set_visible_devices([], "GPU")
def b(value): return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
def i(value): return tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))
paths = sorted(Path(sys.argv[1]).rglob("*.jpg"))
names = sorted({p.parent.name for p in paths})
start, shard = time.perf_counter(), None
for number, path in enumerate(paths):
    if number % 1024 == 0:
        if shard: shard.close()
        shard = tf.io.TFRecordWriter(f"{sys.argv[2]}/train-{number // 1024:05}")
    data = path.read_bytes()
    image = tf.io.decode_jpeg(data, channels=3)
    shard.write(tf.train.Example(features=tf.train.Features(feature={
        "image/encoded": b(data), "image/format": b(b"JPEG"), "image/height": i(image.shape[0]),
        "image/width": i(image.shape[1]), "image/colorspace": b(b"RGB"), "image/channels": i(3),
        "image/filename": b(path.name.encode()), "image/class/label": i(names.index(path.parent.name) + 1),
        "image/class/text": b(path.parent.name.encode())})).SerializeToString())
shard.close()
print(time.perf_counter() - start)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number in range(options.repeats):
            out = folder / f"ours{number}"
            ours = regraft("shard", options.photos.resolve(), "--out", out, "--json", cache=folder / "c", cwd=folder)
            (folder / f"plain{number}").mkdir()
            command = [sys.executable, "-c", PLAIN, str(options.photos.resolve()), str(folder / f"plain{number}")]
            start = time.perf_counter()
            inside = float(run(command, folder / "c", folder).stdout)
            rows.append(
                {
                    "regraft_process_s": round(ours.seconds, 2),
                    "plain_process_s": round(time.perf_counter() - start, 2),
                    "plain_without_imports_s": round(inside, 2),
                }
            )
        photos = json.loads(ours.stdout)["photos"]
    ours_s = statistics.median(row["regraft_process_s"] for row in rows)
    plain_s = statistics.median(row["plain_without_imports_s"] for row in rows)
    report(
        photos=photos,
        regraft_photos_per_s=round(photos / ours_s),
        plain_photos_per_s=round(photos / plain_s),
        ratio=round(plain_s / ours_s, 2),
        runs=rows,
    )


if __name__ == "__main__":
    main()
