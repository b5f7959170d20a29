"""A real Ray cluster of two nodes on loopback: nothing is lost and nothing is computed twice, whatever ends."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyarrow import parquet

from regraft.backbones.base import load_backbone
from regraft.cli.verbs import main
from regraft.config.sweeping import SweepConfig
from regraft.config.training import TrainConfig
from regraft.distributed import carried as carrying
from regraft.distributed import cluster as clusters
from regraft.distributed.cluster import RayCluster, on_ray
from regraft.engines.openvino import OpenVinoEngine
from regraft.errors import BackboneError, ConfigError, DataError
from regraft.features.features import Extraction, extract
from regraft.foundation.documents import read_tensors
from regraft.photos.dataset import Dataset, ImageRecord
from regraft.sharding import shard
from regraft.sweeping.sweeping import sweep
from tests.conftest import SHAPES, Command, draw_folder
from tests.s3 import s3_server

ray = pytest.importorskip("ray", reason="needs Ray: pip install 'regraft[ray]'")
cluster_utils = pytest.importorskip("ray.cluster_utils")

pytestmark = pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::FutureWarning", "ignore::DeprecationWarning"
)
SHARD = 30
"""The photos of a shard, where two nodes share 240."""


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_folder(tmp_path_factory.mktemp("many") / "photos", dict.fromkeys(SHAPES, 80), seed=3)


@pytest.fixture(autouse=True)
def _other_clusters(request: pytest.FixtureRequest) -> Iterator[None]:
    """Let a test that wants no cluster wait for those of tests in other processes.

    The address ``auto`` finds them. One that ends at that moment makes Ray's C++ code abort the process.
    """
    alone = "[auto]" in request.node.name
    with (Path(tempfile.gettempdir()) / f"regraft-test-clusters-{os.getuid()}").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        yield


@pytest.fixture
def cluster(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Two nodes of one core each, which share the cache folder of the test."""
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("RAY_health_check_period_ms", "500")
    monkeypatch.setenv("RAY_health_check_failure_threshold", "3")
    with tempfile.TemporaryDirectory(prefix="r-", ignore_cleanup_errors=True) as folder:
        monkeypatch.setenv("RAY_TMPDIR", folder)  # short: the paths of sockets have a limit
        node = {"num_cpus": 1, "include_dashboard": False}
        found = cluster_utils.Cluster(initialize_head=True, head_node_args=node)
        found.second = found.add_node(**node)
        try:
            yield found
        finally:
            ray.shutdown()
            found.shutdown()


def engine() -> OpenVinoEngine:
    return OpenVinoEngine(load_backbone("efficientnet_lite0"))


def extracted_here(records: tuple[ImageRecord, ...], cache: Path) -> Extraction:
    """The features by this machine alone, which the cache then forgets."""
    found = extract(records, engine())
    shutil.rmtree(cache / "features")
    return found


def rows(cache: Path) -> Counter[str]:
    """The digests in all part files, and how often each is there."""
    found: Counter[str] = Counter()
    for part in (cache / "features").rglob("part-*.parquet"):
        found.update(parquet.read_table(part, columns=["digest"]).column("digest").to_pylist())
    return found


def test_features_are_those_of_one_machine_to_the_bit(photos: Path, tmp_path: Path, cluster: Any, cache: Path) -> None:
    root = shutil.copytree(photos, tmp_path / "p")
    whole = (root / "circle" / "000.jpg").read_bytes()
    (root / "circle" / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    shutil.copy(root / "circle" / "001.jpg", root / "Square" / "twin.jpg")
    records = Dataset.open(root).records
    here = extracted_here(records, cache)
    with on_ray(cluster.address):
        there = extract(records, engine())
        again = extract(records, engine())
    assert np.array_equal(here.x, there.x, equal_nan=True)
    assert np.array_equal(here.looks, there.looks)
    assert here.problems == there.problems
    assert [problem.path.name for problem in there.problems] == ["cut.jpg"]
    assert (there.computed, there.cached) == (here.computed, here.cached) == (60, 1)
    assert (again.computed, again.cached) == (0, 61)
    assert not list((cache / "features").rglob(".ray-*"))


def test_a_node_that_is_lost_loses_nothing(
    many: Path, cluster: Any, cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    records = Dataset.open(many).records
    here = extracted_here(records, cache)
    kept: list[str] = []
    keep = RayCluster._keep

    def losing(self: RayCluster, part: Any, engine: OpenVinoEngine, folder: Path) -> None:
        keep(self, part, engine, folder)
        kept.append(part.name)
        if len(kept) == 2:
            cluster.remove_node(cluster.second, allow_graceful=False)

    monkeypatch.setattr(RayCluster, "_keep", losing)
    with on_ray(cluster.address):
        there = extract(records, engine())
    assert np.array_equal(here.x, there.x)
    assert (there.computed, there.problems) == (240, ())
    counted = rows(cache)
    assert set(counted) == {record.digest for record in records}
    assert counted.total() - len(counted) <= 2 * SHARD  # what was under way on the lost node
    assert "has ended; its work is done again" in caplog.text


def test_a_driver_that_is_killed_resumes(many: Path, tmp_path: Path, cluster: Any, cache: Path) -> None:
    command = [sys.executable, "-m", "regraft", "train", str(many), "--effort", "quick", "--val", "0.2", "--json"]
    command += ["--ray", cluster.address, "--out", str(tmp_path / "run")]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    end = time.monotonic() + 120
    while not rows(cache) and process.poll() is None and time.monotonic() < end:
        time.sleep(0.05)
    process.kill()
    told = process.communicate()[1].decode()
    known = rows(cache).total()
    assert 0 < known < 240, told
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr
    features = json.loads(done.stdout)["features"]
    assert features["computed"] + features["cached"] == 240
    assert features["cached"] >= known
    counted = rows(cache)
    assert len(counted) == 240
    assert counted.total() - 240 <= 4 * SHARD  # two shards under way on each node


def test_nodes_that_do_not_share_the_cache_send_their_files(
    photos: Path, cluster: Any, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = Dataset.open(photos).records
    here = extracted_here(records, cache)
    marked = clusters._marked
    monkeypatch.setattr(clusters, "_marked", lambda folder: marked(folder.with_name("unseen")))
    with on_ray(cluster.address):
        there = extract(records, engine())
    assert np.array_equal(here.x, there.x)
    assert extract(records, engine()).cached == 60


@pytest.fixture
def bucket() -> str:
    """A bucket for ``--storage``. The nodes inherit its credentials, so that it comes before the cluster."""
    return s3_server("features")


def test_a_bucket_keeps_the_features_beyond_the_cache(photos: Path, bucket: str, cluster: Any, cache: Path) -> None:
    records = Dataset.open(photos).records
    here = extracted_here(records, cache)
    with on_ray(cluster.address, bucket):
        first = extract(records[:40], engine())
        shutil.rmtree(cache / "features")
        second = extract(records, engine())
    assert np.array_equal(here.x[:40], first.x)
    assert np.array_equal(here.x, second.x)
    assert (first.computed, second.computed, second.cached) == (40, 20, 40)


@pytest.mark.parametrize("format_", ["tfrecord", "webdataset"])
def test_shards_are_the_same_to_the_byte(photos: Path, cluster: Any, tmp_path: Path, format_: str) -> None:
    place = tmp_path / "photos"
    shutil.copytree(photos, place)
    next(place.rglob("*.jpg")).write_bytes(b"\xff\xd8\xff no photo")
    options = {"format": format_, "per_shard": 25}
    here = shard(place, tmp_path / "here", options)
    called = Calls()
    with on_ray(cluster.address), called:
        there = shard(place, tmp_path / "there", options)
    assert called.count == 1  # 60 photos are one batch
    assert {**here, "out": ""} == {**there, "out": ""}
    assert len(here["problems"]) == 1
    for entry in here["shards"]:
        one, other = (tmp_path / name / entry["file"] for name in ("here", "there"))
        assert one.read_bytes() == other.read_bytes()


def test_the_trials_of_a_sweep_are_tasks(photos: Path, cluster: Any, tmp_path: Path) -> None:
    values = SweepConfig(head="logistic,prototype,discriminant,knn")
    quick = TrainConfig(resolution=64)
    here = sweep(photos, tmp_path / "here", values, quick)
    called = Calls()
    with on_ray(cluster.address), called:
        there = sweep(photos, tmp_path / "there", values, quick)
    assert called.count == 4
    trials_here, trials_there = (
        {(t.name, t.accuracy, round(t.log_loss or 0, 4)) for t in found.trials} for found in (here, there)
    )
    assert trials_here == trials_there
    for trial in here.trials:
        one, other = (place / trial.name / "head.safetensors" for place in (tmp_path / "here", tmp_path / "there"))
        heads = [read_tensors(file, 2**26) for file in (one, other)]  # nodes have other numbers of cores for BLAS
        assert heads[0].keys() == heads[1].keys()
        for name, array in heads[0].items():
            np.testing.assert_allclose(array, heads[1][name], rtol=1e-3, atol=1e-3)


def test_a_trial_whose_node_is_lost_runs_here(photos: Path, cluster: Any, tmp_path: Path) -> None:
    called = Calls(lost=True)
    with on_ray(cluster.address), called:
        found = sweep(photos, tmp_path / "sweep", SweepConfig(head="logistic,knn"), TrainConfig(resolution=64))
    assert called.count == 2
    assert [trial.error for trial in found.trials] == ["", ""]


class Calls:
    """Counts what nodes were told to call; with ``lost``, each of them is killed then."""

    def __init__(self, lost: bool = False) -> None:
        self.count, self._lost, self._start = 0, lost, RayCluster.start

    def __enter__(self) -> None:
        def start(cluster: RayCluster, *args: Any, **options: Any) -> Any:
            self.count += 1
            wait = self._start(cluster, *args, **options)
            if self._lost:
                for member in cluster._crew.members.values():
                    ray.kill(member.actor)
            return wait

        RayCluster.start = start  # type: ignore[method-assign, assignment]

    def __exit__(self, *_: object) -> None:
        RayCluster.start = self._start  # type: ignore[method-assign]


def test_photos_in_the_cache_of_this_machine_are_sent_along(
    photos: Path, cluster: Any, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The nodes find another cache folder than the driver, as on machines of their own."""
    with tarfile.open(tmp_path / "photos.tar", "w") as file:
        file.add(photos, "photos")
    records = Dataset.open(tmp_path / "photos.tar").records
    assert all(record.path.is_relative_to(cache) for record in records)
    here = extracted_here(records, cache)
    monkeypatch.setattr(carrying, "_carried", seen := Seen(carrying._carried))
    with on_ray(cluster.address):
        there = extract(records, engine())
    assert np.array_equal(here.x, there.x)
    assert seen.sent == len(records)


class Seen:
    """Counts the photos that are sent along, and hides the files of these from the nodes."""

    def __init__(self, original: Any) -> None:
        self._original, self.sent = original, 0

    def __call__(self, photo: Any, cache: Path) -> Any:
        found = self._original(photo, cache)
        self.sent += isinstance(found, carrying.Carried)
        return replace(found, photo=replace(photo, path=photo.path.with_name("unseen.jpg")))


def test_photos_that_only_this_machine_sees_are_an_error(
    photos: Path, cluster: Any, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = Dataset.open(photos).records
    monkeypatch.setattr(
        ImageRecord, "__reduce__", lambda self: (ImageRecord, (Path(f"{self.path}.gone"), self.label, self.digest))
    )
    with on_ray(cluster.address), pytest.raises(DataError, match=r"cannot read .*\(there is no such file\)"):
        extract(records, engine())


def test_a_network_that_the_nodes_do_not_have_is_an_error(
    photos: Path, cluster: Any, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = Dataset.open(photos).records
    found = engine()
    monkeypatch.setitem(found.__dict__, "fingerprint", "0" * 64)
    with (
        on_ray(cluster.address),
        pytest.raises(BackboneError, match="no node can compute the features: node "),
    ):
        extract(records, found)


def test_predictions_are_those_of_one_machine(
    photos: Path, tmp_path: Path, cluster: Any, cache: Path, regraft: Command
) -> None:
    options = ("--effort", "quick", "--val", "0.3")
    regraft("train", photos, *options, "--out", "here")
    shutil.rmtree(cache / "features")
    regraft("train", photos, *options, "--out", "there", "--ray", cluster.address)
    for name in ("head.safetensors", "calibration.safetensors", "split.json"):
        assert (tmp_path / "here" / name).read_bytes() == (tmp_path / "there" / name).read_bytes()
    new = draw_folder(tmp_path / "new", {"circle": 80}, seed=99)
    (new / "circle" / "bad.jpg").write_bytes(b"\xff\xd8\xffno")
    here = regraft("predict", "here", "new", "--json", code=1)  # the nodes work in another folder
    there = regraft("predict", "here", "new", "--json", "--ray", cluster.address, code=1)
    assert json.loads(here.stdout) == json.loads(there.stdout)
    assert sum("error" in answer for answer in json.loads(there.stdout)) == 1


def processes_in(folder: str) -> list[str]:
    """The command lines of the processes that name a folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if folder in line:
            found.append(line)
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)])
def test_a_ray_of_its_own_ends_with_the_command(
    number: int, code: int, many: Path, tmp_path: Path, cache: Path
) -> None:
    with tempfile.TemporaryDirectory(prefix="r-", ignore_cleanup_errors=True) as folder:
        command = [sys.executable, "-m", "regraft", "train", str(many), "--effort", "quick", "--ray", "local"]
        environment = {**os.environ, "TMPDIR": folder}
        process = subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE)
        end = time.monotonic() + 120
        while not rows(cache) and process.poll() is None and time.monotonic() < end:
            time.sleep(0.05)
        process.send_signal(number)
        told = process.communicate(timeout=60)[1].decode()
        assert process.returncode == code, told
        if number != signal.SIGKILL:
            assert told.startswith("regraft: stopped; what was computed is kept")
            assert told.count("\n") == 1
        end = time.monotonic() + 60
        while (left := processes_in(folder)) and time.monotonic() < end:
            time.sleep(0.1)
        assert not left
    assert 0 < rows(cache).total() < 240


def test_a_ray_of_its_own_is_not_started_for_what_is_known(photos: Path, cache: Path) -> None:
    records = Dataset.open(photos).records
    extract(records, engine())
    with on_ray("local"):
        assert extract(records, engine()).cached == 60
        assert not ray.is_initialized()


@pytest.mark.parametrize("address", ["auto", "127.0.0.1:1", "localhost:99999999"])
def test_no_cluster_is_one_line(address: str, photos: Path, cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(photos), "--ray", address]) == 1
    told = capsys.readouterr().err
    assert told.startswith(f"regraft: --ray {address}: there is no Ray cluster (")
    assert told.count("\n") == 1


def test_a_process_has_one_ray(cluster: Any, cache: Path) -> None:
    ray.init(address=cluster.address, log_to_driver=False)
    with pytest.raises(ConfigError, match="this process already uses Ray"), on_ray(cluster.address):
        pass
