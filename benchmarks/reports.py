"""How long does a report take, how large is it, and do its activation maps mark what an answer depends on?

With ``--scale N``, instead: a report of N photos whose features are synthetic (small JPEG files, 20 classes, a
twentieth of the labels wrong), with the largest memory of its process. With ``--map N``, instead: how long Chromium
takes to draw the map of a report, PHOTOS, whose photos are repeated until there are N, and to find the point under the
pointer.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from _common import regraft, report
from _synthetic import synthetic_photos
from PIL import Image

AREA = 0.1  # the share of the photo that is covered
PLACES = 10  # other places that are covered for comparison


def real(photos: Path, work: Path, repeats: int, explained: int) -> dict[str, Any]:
    """The report of a run on real photos, all features cached, and the maps of some of its test photos."""
    cache = work / "cache"
    regraft("train", photos, "--out", "run", cache=cache, cwd=work)
    regraft("report", "run", cache=cache, cwd=work)  # the page's own code and its network are compiled once
    runs = [regraft("report", "run", "--json", cache=cache, cwd=work) for _ in range(repeats)]
    found = [json.loads(done.stdout) for done in runs]
    return {
        "process_s": [round(done.seconds, 2) for done in runs],
        "report_s": [document["seconds"]["report"] for document in found],
        "projection_s": [document["seconds"]["projection"] for document in found],
        "MB": found[0]["bytes"] / 1e6,
        "MiB_of_memory": round(max(done.mebibytes for done in runs)),
        **{name: found[0][name] for name in ("photos", "thumbnails", "measured", "mistakes", "suspects", "projection")},
        "maps": covering(work / "run", cache, explained),
    }


def covering(run: Path, cache: Path, count: int) -> dict[str, Any]:
    """The share of test photos on which covering the top of the map costs the answer more than covering elsewhere."""
    os.environ["REGRAFT_CACHE"] = str(cache)
    from regraft import Classifier
    from regraft.classifiers.classifier import open_photos, sides_of
    from regraft.exploring.activation_maps import ActivationMaps

    classifier = Classifier.load(run)
    dataset = open_photos(classifier)
    sides = sides_of(classifier, dataset)
    chosen = np.random.default_rng(0).permutation(sides.test or sides.train)[:count]
    records = [dataset.records[i] for i in chosen]
    x = classifier.features(records)[0]
    answers = classifier.answers_to(x).probabilities.argmax(axis=1).tolist()
    maker, dice = ActivationMaps(classifier), np.random.default_rng(1)
    wins = {"the same shape, moved": 0, "a square": 0, "scattered patches": 0}
    for record, found, answer in zip(records, maker.of_all(records, x, [(a,) for a in answers]), answers, strict=True):
        assert found is not None
        pixels = classifier.backbone.transform.load(record.read())
        size, cells = len(pixels), found.maps.shape[1]
        top = top_of(found.maps[0], size)
        others = {
            "the same shape, moved": [np.roll(top, dice.integers(0, size, 2), (0, 1)) for _ in range(PLACES)],
            "a square": [square(size, dice) for _ in range(PLACES)],
            "scattered patches": [top_of(dice.normal(size=(cells, cells)), size) for _ in range(PLACES)],
        }
        masks = [top, *(mask for list_ in others.values() for mask in list_)]
        views = [pixels, *(np.where(mask[..., np.newaxis], np.uint8(127), pixels) for mask in masks)]
        logits = classifier.head.logits(np.concatenate([classifier.features(view)[0] for view in views]))[:, answer]
        fall = logits[0] - logits[1:]
        for i, name in enumerate(others):
            wins[name] += int(fall[0] > fall[1 + i * PLACES : 1 + (i + 1) * PLACES].mean())
    return {
        "photos": len(records),
        "kind": maker.kind,
        **{name: round(won / len(records), 3) for name, won in wins.items()},
    }


def top_of(values: Any, size: int) -> Any:
    """The tenth of a photo where a map is highest, as a mask (size, size)."""
    whole = np.asarray(Image.fromarray(np.float32(values)).resize((size, size), Image.Resampling.BILINEAR))
    return whole >= np.quantile(whole, 1 - AREA)


def square(size: int, dice: Any) -> Any:
    side = round(size * AREA**0.5)
    row, column = dice.integers(0, size - side, 2)
    mask = np.zeros((size, size), bool)
    mask[row : row + side, column : column + side] = True
    return mask


def synthetic(count: int, work: Path) -> dict[str, Any]:
    """The report of a run on many small photos with features that are drawn."""
    cache, photos = work / "cache", work / "photos"
    synthetic_photos(photos, cache, range(count))
    trained = regraft("train", photos, "--out", "run", cache=cache, cwd=work)
    done = regraft("report", "run", "--json", cache=cache, cwd=work)
    document = json.loads(done.stdout)
    kept = ("photos", "shown", "thumbnails", "measured", "mistakes", "suspects", "projection", "seconds", "bytes")
    return {
        "train_s": round(trained.seconds, 1),
        "process_s": round(done.seconds, 1),
        "MiB_of_memory": round(done.mebibytes),
        **{name: document[name] for name in kept},
    }


def drawing(page: Path, count: int, work: Path) -> dict[str, Any]:
    """The milliseconds of Chromium for the map of a page with ``count`` points, in a window of 1280 by 900 pixels."""
    from playwright.sync_api import sync_playwright

    text = page.read_text(encoding="utf-8")
    start = text.index(">", text.index('id="data"')) + 1
    end = text.index("</script>", start)
    data, dice = json.loads(text[start:end]), np.random.default_rng(0)
    for name, column in data["photos"].items():
        data["photos"][name] = [column[i % len(column)] for i in range(count)]
    for name in ("x", "y"):
        data["photos"][name] = (np.array(data["photos"][name]) + dice.normal(0, 0.02, count)).tolist()
    (work / "page.html").write_text(text[:start] + json.dumps(data).replace("<", "\\u003c") + text[end:], "utf-8")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        opened = browser.new_page(viewport={"width": 1280, "height": 900})
        opened.goto((work / "page.html").as_uri())
        opened.click("#tab-map")
        drawn, found = opened.evaluate(TIMED)
        browser.close()
    return {"points": count, "drawn_ms": drawn, "found_ms": found}


TIMED = """() => {
  const canvas = document.querySelector(".map > canvas"), box = canvas.getBoundingClientRect();
  const timed = (work) => {
    const times = [];
    for (let i = 0; i < 41; i += 1) { const began = performance.now(); work(i); times.push(performance.now() - began); }
    times.sort((a, b) => a - b);
    return { median: times[20], highest: times[40] };
  };
  return [
    timed(() => { state.view.x += 0.001; drawMap(canvas, state.view); }),
    timed((i) => nearestPoint(box, state.view, 300 + i, 300)),
  ];
}"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photos", nargs="?", type=Path)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--maps", type=int, default=100)
    parser.add_argument("--scale", type=int)
    parser.add_argument("--map", type=int)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        if options.map:
            report(**drawing(options.photos, options.map, Path(work)))
        elif options.scale:
            report(**synthetic(options.scale, Path(work)))
        else:
            report(**real(options.photos.resolve(), Path(work), options.repeats, options.maps))


if __name__ == "__main__":
    main()
