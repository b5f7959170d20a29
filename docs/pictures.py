"""Draw the pictures of the README and the docs with regraft itself: ``scripts/screenshots``.

Needs the extra ``plot``, the group ``browser`` and Chromium. The photos are those of the tutorial, which
examples/draw_flowers.py draws, since pictures of the demo's photos may not be committed. ``scripts/screenshots PHOTOS``
shows other photos, such as ``demo:elpv``, and writes the pictures to ``build/images``.
"""

from __future__ import annotations

import io
import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import Page, sync_playwright

DOCS = Path(__file__).parent
OPTIONS = ("--val", "0.2", "--test", "0.2", "--precision", "fp32")
WINDOWS = {1280: (1060, 1), 390: (900, 2)}  # height in pixels, and dots in a pixel, by the width: a laptop and a phone
MOST_BYTES = 150_000  # of a picture


def main(photos: str | None = None) -> None:
    """Draw the pictures of the tutorial's photos, or take screenshots of pages about other photos."""
    into = DOCS / "images" if photos is None else DOCS.parent / "build" / "images"
    into.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        if photos is None:
            run(folder, str(DOCS.parent / "examples" / "draw_flowers.py"), ".")
        elif Path(photos).exists():
            photos = str(Path(photos).resolve())
        name = photos or "flowers"
        run(folder, "-m", "regraft", "check", name, "--precision", "fp32", "--html", "check.html")
        run(folder, "-m", "regraft", "train", name, "--precision", "fp32", "--out", "runs/flowers")
        run(folder, "-m", "regraft", "report", "runs/flowers", "--out", "report.html")
        take_screenshots(Path(folder), into)
        if photos is None:
            draw_answers(Path(folder), into)


def run(folder: str | Path, *command: str) -> None:
    """Run Python with arguments in a folder."""
    subprocess.run([sys.executable, *command], cwd=folder, check=True, stdout=subprocess.DEVNULL)


def draw_answers(folder: Path, into: Path) -> None:
    """Train as the tutorial does, draw the answers, and store them smaller than they were drawn."""
    (folder / "flowers/daisy/daisy-101.jpg").rename(folder / "flowers/sunflower/daisy-101.jpg")
    run(folder, "-m", "regraft", "check", "flowers", "--precision", "fp32", "--write", "clean.csv")
    run(folder, "-m", "regraft", "train", "clean.csv", *OPTIONS, "--out", "runs/clean")
    run(folder, "-m", "regraft", "predict", "runs/clean", "new", "--plot", "answers.png")
    picture = Image.open(folder / "answers.png").convert("RGB")
    size = (1000, 1000 * picture.height // picture.width)
    picture.resize(size, Image.Resampling.LANCZOS).save(into / "answers.png", optimize=True)


def take_screenshots(folder: Path, into: Path) -> None:
    """Take the pictures of the pages ``report.html`` and ``check.html`` in a folder, on a laptop and on a phone."""
    confusion = data_of(folder / "report.html")["evaluation"]["confusion"]
    kinds = [found["kind"] for found in data_of(folder / "check.html")["findings"] if found["items"]]
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for width, (height, dots) in WINDOWS.items():
            window = {"width": width, "height": height}
            page = browser.new_page(viewport=window, device_scale_factor=dots, locale="en-US")  # type: ignore[arg-type]
            page.goto((folder / "report.html").as_uri())
            save(page, into / f"report-overview-{width}.webp")
            page.click("#tab-mistakes")
            page.click(most_confused(confusion))
            save(page, into / f"report-cell-{width}.webp")
            page.click("#tab-map")
            page.evaluate("window.scrollTo(0, 0)")
            save(page, into / f"report-map-{width}.webp")
            page.goto((folder / "check.html").as_uri())
            save(page, into / f"check-overview-{width}.webp")
            if kinds:
                page.click(f"#tab-{'mislabelled' if 'mislabelled' in kinds else kinds[0]}")
                save(page, into / f"check-labels-{width}.webp")
        browser.close()


def data_of(page: Path) -> dict[str, Any]:
    """Return the data in a page."""
    found = re.search(r'id="data">(.*?)</script>', page.read_text(encoding="utf-8"), re.DOTALL)
    if not found:
        raise ValueError(f"{page} has no data")
    data: dict[str, Any] = json.loads(found[1])
    return data


def most_confused(confusion: list[list[int]]) -> str:
    """Return the selector of the cell with the largest number beside the diagonal."""
    cells = ((count, i, j) for i, row in enumerate(confusion) for j, count in enumerate(row) if i != j)
    _, row, column = max(cells)
    return f'[data-cell="{row}-{column}"]'


def save(page: Page, path: Path) -> None:
    """Save what the window shows down to the end of the content, as WebP in the best quality that is small enough."""
    page.wait_for_timeout(300)  # pictures are decoded
    end = page.evaluate("document.getElementById('panel').getBoundingClientRect().bottom + 24")
    window = page.viewport_size or {"width": 0, "height": 0}
    data = page.screenshot(clip={"x": 0, "y": 0, "width": window["width"], "height": min(window["height"], end)})
    with Image.open(io.BytesIO(data)) as picture:
        for quality in (90, 80, 60, 40):
            picture.convert("RGB").save(path, quality=quality, method=6)
            if path.stat().st_size <= MOST_BYTES:
                break


if __name__ == "__main__":
    main(*sys.argv[1:])
