"""What every registered source owes, plug-ins included."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import tarfile
import unicodedata
import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from urllib.parse import quote
from xml.etree import ElementTree

import pytest

from regraft.errors import DataError
from regraft.foundation.buckets import place_of
from regraft.foundation.tfrecord import example, frame
from regraft.photos.dataset import Dataset
from regraft.photos.images import decode, read
from regraft.photos.sources.base import SIDES, find_source, registry
from tests.s3 import s3_server

Maker = Callable[[Path, Path], str]
"""(20 photos in class folders, an empty folder) → a spec of the source's kind for the same photos."""


def archive(photos: Path, to: Path) -> str:
    with zipfile.ZipFile(to / "photos.zip", "w") as file:
        for path in sorted(photos.rglob("*.jpg")):
            file.write(path, path.relative_to(photos.parent))
    return str(to / "photos.zip")


def bucket(photos: Path, to: Path) -> str:
    address = s3_server()
    system, base = place_of(address)
    for path in sorted(photos.rglob("*.jpg")):
        with system.open_output_stream(f"{base}/{path.relative_to(photos).as_posix()}") as stream:
            stream.write(path.read_bytes())
    return address


def parquet(photos: Path, to: Path) -> str:
    import pyarrow as pa
    from pyarrow.parquet import write_table

    paths = sorted(photos.rglob("*.jpg"))
    names = [unicodedata.normalize("NFC", path.parent.name) for path in paths]
    write_table(pa.table({"image": [path.read_bytes() for path in paths], "label": names}), to / "photos.parquet")
    return str(to / "photos.parquet")


def demo(photos: Path, to: Path) -> str:
    pytest.importorskip("elpv_dataset", reason="needs the extra demo")
    return "demo:elpv"


def folder(photos: Path, to: Path) -> str:
    return str(photos)


def manifest(photos: Path, to: Path) -> str:
    with (to / "photos.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label"])
        writer.writerows((os.path.relpath(p, to), p.parent.name) for p in sorted(photos.rglob("*.jpg")))
    return str(to / "photos.csv")


def coco(photos: Path, to: Path) -> str:
    paths = sorted(photos.rglob("*.jpg"))
    names = sorted({path.parent.name for path in paths})
    document = {
        "images": [{"id": i, "file_name": str(p.relative_to(photos))} for i, p in enumerate(paths)],
        "categories": [{"id": i, "name": name} for i, name in enumerate(names)],
        "annotations": [{"image_id": i, "category_id": names.index(p.parent.name)} for i, p in enumerate(paths)],
    }
    (to / "labels.json").write_text(json.dumps(document), encoding="utf-8")
    return f"coco:{to / 'labels.json'}:{photos}"


def cvat(photos: Path, to: Path) -> str:
    root = ElementTree.Element("annotations")
    for path in sorted(photos.rglob("*.jpg")):
        image = ElementTree.SubElement(root, "image", {"name": str(path.relative_to(photos))})
        ElementTree.SubElement(image, "tag", {"label": path.parent.name, "source": "manual"})
    ElementTree.ElementTree(root).write(to / "annotations.xml", encoding="utf-8", xml_declaration=True)
    return f"cvat:{to / 'annotations.xml'}:{photos}"


def labelstudio(photos: Path, to: Path) -> str:
    tasks = []
    for path in sorted(photos.rglob("*.jpg")):
        value = {"type": "choices", "from_name": "choice", "to_name": "image", "value": {"choices": [path.parent.name]}}
        image = f"/data/local-files/?d={quote(str(path.relative_to(photos.parent)))}"
        tasks.append({"data": {"image": image}, "annotations": [{"result": [value]}]})
    (to / "export.json").write_text(json.dumps(tasks), encoding="utf-8")
    return f"labelstudio:{to / 'export.json'}:{photos.parent}"


def megadetector(photos: Path, to: Path) -> str:
    whole = {"category": "1", "conf": 0.9, "bbox": [0.0, 0.0, 1.0, 1.0]}
    images = [{"file": str(p.relative_to(photos)), "detections": [whole]} for p in sorted(photos.rglob("*.jpg"))]
    document = {"images": images, "detection_categories": {"1": "animal"}, "info": {"detector": "md_v5a.0.0.pt"}}
    (to / "detections.json").write_text(json.dumps(document), encoding="utf-8")
    return f"megadetector:{to / 'detections.json'}:{photos}"


def tfrecord(photos: Path, to: Path) -> str:
    with (to / "data-00000-of-00001").open("wb") as file:
        for path in sorted(photos.rglob("*.jpg")):
            file.write(frame(example({"image/encoded": path.read_bytes(), "image/class/text": path.parent.name})))
    return str(to)


def webdataset(photos: Path, to: Path) -> str:
    with tarfile.open(to / "data-0.tar", "w") as file:
        for number, path in enumerate(sorted(photos.rglob("*.jpg"))):
            for kind, data in (("jpg", path.read_bytes()), ("cls", path.parent.name.encode())):
                member = tarfile.TarInfo(f"{number:04}.{kind}")
                member.size = len(data)
                file.addfile(member, BytesIO(data))
    return str(to)


def hf(photos: Path, to: Path) -> str:
    datasets = pytest.importorskip("datasets", reason="needs the extra hf")
    paths = sorted(photos.rglob("*.jpg"))
    names = sorted({p.parent.name for p in paths})
    columns = {
        "image": [{"bytes": p.read_bytes(), "path": None} for p in paths],
        "label": [names.index(p.parent.name) for p in paths],
    }
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=names)})
    datasets.Dataset.from_dict(columns, features=features).save_to_disk(str(to / "saved"))
    return f"hf:{to / 'saved'}"


PREPARE = """
import sys
from pathlib import Path
import numpy, tensorflow_datasets as tfds
from PIL import Image
paths = sorted(Path(sys.argv[1]).rglob("*.jpg"))
names = sorted({p.parent.name for p in paths})
kinds = tfds.features.FeaturesDict({
    "image": tfds.features.Image(shape=(None, None, 3)), "label": tfds.features.ClassLabel(names=names)})
rows = [(i, {"image": numpy.asarray(Image.open(p)), "label": p.parent.name}) for i, p in enumerate(paths)]
tfds.dataset_builders.store_as_tfds_dataset(
    name="drawn", version="1.0.0", features=kinds, split_datasets={"train": rows}, data_dir=sys.argv[2])
"""


def tfds(photos: Path, to: Path) -> str:
    for package in ("tensorflow_datasets", "tensorflow"):
        if subprocess.run([sys.executable, "-c", f"import {package}"], capture_output=True, check=False).returncode:
            pytest.skip("needs the extra tfds")
    subprocess.run([sys.executable, "-c", PREPARE, photos, to], capture_output=True, check=True)
    pytest.MonkeyPatch().setenv("TFDS_DATA_DIR", str(to))
    return "tfds:drawn"


MAKERS: dict[str, Maker] = {
    maker.__name__: maker
    for maker in (
        archive,
        bucket,
        coco,
        cvat,
        demo,
        folder,
        hf,
        labelstudio,
        manifest,
        megadetector,
        parquet,
        tfds,
        tfrecord,
        webdataset,
    )
}


@pytest.fixture(scope="module", params=registry.names())
def spec(request: pytest.FixtureRequest, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A spec of the source's kind; a new source adds its maker to `MAKERS`."""
    made = MAKERS[request.param](photos, tmp_path_factory.mktemp(request.param))
    assert type(find_source(made)) is registry.load(request.param)
    return made


def test_it_lists_photos_that_can_be_read_under_nfc_labels(spec: str) -> None:
    entries = find_source(spec).list(spec).entries
    assert entries
    for entry in entries:
        assert decode(read(entry.path, entry.part))
        assert entry.label == unicodedata.normalize("NFC", entry.label) != ""
        assert entry.split in (None, *SIDES)


def test_it_lists_the_same_twice_and_no_photo_twice(spec: str) -> None:
    source = find_source(spec)
    one, two = source.list(spec), source.list(spec)
    assert one == two
    assert len({(e.path, e.label) for e in one.entries}) == len(one.entries)


def test_the_same_photos_are_the_same_data_set(spec: str, photos: Path) -> None:
    if spec == "demo:elpv":
        pytest.skip("has photos of its own")
    there, here = Dataset.open(spec), Dataset.open(photos)
    assert there.counts() == here.counts()
    assert there.problems == ()
    if not spec.startswith(("tfds:", "megadetector:")):  # these encode photos again
        assert there.digest == here.digest


@pytest.mark.parametrize("name", registry.names())
def test_it_leaves_other_specs_alone(name: str, tmp_path: Path) -> None:
    assert not registry.load(name)().accepts(str(tmp_path / "nowhere"))


def test_a_spec_that_none_takes_is_a_data_error(tmp_path: Path) -> None:
    with pytest.raises(DataError):
        find_source(str(tmp_path / "nowhere"))
