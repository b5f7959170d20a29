"""Fine-tuning on drawn photos, real Lite0 and real TensorFlow; killed for real. Needs the extra tensorflow."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file

from regraft.backbones.base import load_backbone
from regraft.backbones.tuned_weights import write_weights
from regraft.classifiers.classifier import Classifier
from regraft.classifiers.held_out import HeldOut
from regraft.config.finetuning import FinetuneConfig
from regraft.engines import keras_backend
from regraft.engines.keras_backend import trainable_keras
from regraft.engines.openvino import OpenVinoEngine
from regraft.errors import BackboneError, ConfigError
from regraft.photos.dataset import Dataset
from tests.conftest import Command

accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
needs_tensorflow = pytest.mark.skipif(find_spec("tensorflow") is None, reason="needs the extra tensorflow")
QUICK = ("--thaw", "2", "--batch-size", "8")

CHANGED = """
import json, sys
import numpy as np
from regraft.classifiers.classifier import Classifier
base, tuned = (Classifier.load(run).backbone.keras_model() for run in sys.argv[1:])
pairs = zip(base.variables, tuned.variables)
print(json.dumps([v.path for v, w in pairs if not np.array_equal(v.numpy(), w.numpy())]))
"""


SHORT_OF_MEMORY = """
import sys
from pathlib import Path
import numpy as np
from regraft.foundation import console as _console
from regraft.finetuning import thawed_network as thawing
from regraft.cli.verbs import main
_console.turn_on()
real = thawing.Augmented.batch
def batch(self, epoch, number):
    if epoch == 1 and self.size > 2:
        np.empty(2**60, np.uint8)
    return real(self, epoch, number)
thawing.Augmented.batch = batch
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture(autouse=True)
def _backend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KERAS_BACKEND", raising=False)


@pytest.fixture
def run(photos: Path, tmp_path: Path, regraft: Command) -> Path:
    regraft("train", photos, "--effort", "quick", "--folds", "0", "--out", "run")
    return tmp_path / "run"


@needs_tensorflow
def test_probabilities_of_labels_are_learned(photos: Path, tmp_path: Path, regraft: Command) -> None:
    """Where each label has the probability 0.7, no answers have a lower mean loss than 0.61, the entropy.

    With certain labels the loss of the second epoch is 0.001.
    """
    rows = [
        f"{path},{probability}"
        for label, probability in (("Square", 0.3), ("circle", 0.7))
        for path in sorted((photos / label).iterdir())
    ]
    (tmp_path / "graded.csv").write_text("\n".join(["path,label", *rows]), encoding="utf-8")
    regraft("train", "graded.csv", "--effort", "quick", "--folds", "0", "--out", "run")
    regraft("finetune", "run", *QUICK, "--epochs", "2", "--mixup", "0")
    start, *epochs = json.loads((tmp_path / "run-ft" / "history.json").read_text(encoding="utf-8"))
    assert start["val_loss"] == pytest.approx(0.611, abs=0.01)  # the head that it starts from has learned 0.7
    assert min(epoch["train_loss"] for epoch in epochs) > 0.6
    assert epochs[-1]["val_accuracy"] == 1.0


@needs_tensorflow
def test_a_run_with_folds_is_fine_tuned_on_sides_drawn_now(photos: Path, tmp_path: Path, regraft: Command) -> None:
    regraft("train", photos, "--effort", "quick", "--out", "folds")
    before = json.loads((tmp_path / "folds" / "metrics.json").read_text(encoding="utf-8"))
    assert before["folds"]["n"] == 60
    done = regraft("finetune", "folds", *QUICK, "--epochs", "1", "--json")
    document = json.loads(done.stdout)
    assert document["counts"] == {"train": 48, "val": 6, "test": 6}
    assert document["finetuned"]["beside"]["test"]["n"] == document["test"]["n"] == 6
    assert "folds" not in document
    assert "folds = 0" in (tmp_path / "folds-ft" / "config.toml").read_text(encoding="utf-8")
    told = regraft(
        "finetune", "folds", *QUICK, "--epochs", "1", "--overwrite", "--min-accuracy", "0.999", code=1
    ).stderr
    assert "the lower end of the interval is below --min-accuracy 0.999; nothing is kept" in told
    assert json.loads((tmp_path / "folds-ft" / "metrics.json").read_text(encoding="utf-8"))["test"] == document["test"]


@needs_tensorflow
def test_folds_measure_a_fine_tuning_on_all_photos_and_go_on_after_a_kill(
    photos: Path, tmp_path: Path, regraft: Command
) -> None:
    photos = shutil.copytree(photos, tmp_path / "photos")
    regraft("train", photos, "--effort", "quick", "--out", "run")
    options = ("finetune", "run", *QUICK, "--epochs", "1", "--folds", "2")
    killed = subprocess.Popen([sys.executable, "-m", "regraft", *options], cwd=tmp_path, stderr=subprocess.DEVNULL)
    first = tmp_path / "run-ft-folds" / "0-ft" / "manifest.json"
    while not first.exists() and killed.poll() is None:
        time.sleep(0.05)
    killed.kill()
    killed.wait()
    before = first.stat().st_mtime_ns
    assert "has folds that are not finished; type --resume" in regraft(*options, code=1).stderr
    other = regraft(*options[:-1], "3", "--resume", code=1).stderr
    assert "was begun with other options, photos or from another run; type --overwrite to begin anew" in other
    gone = next(photos.rglob("*.jpg"))
    gone.rename(tmp_path / "gone.jpg")
    assert "was begun with other options, photos or" in regraft(*options, "--resume", code=1).stderr
    (tmp_path / "gone.jpg").rename(gone)
    shutil.copy(gone, photos / "circle" / "new.jpg")  # photos that the run does not know change nothing
    (photos / "circle" / "new.jpg").write_bytes(gone.read_bytes() + b" ")
    assert first.stat().st_mtime_ns == before
    document = json.loads(regraft(*options, "--resume", "--json").stdout)
    assert not first.exists()
    assert document["test"] is None
    assert (document["folds"]["k"], document["folds"]["n"]) == (2, 60)
    assert document["counts"] == {"train": 54, "val": 6, "test": 0}
    beside = document["finetuned"]["beside"]["folds"]
    assert beside["n"] == 60
    assert beside["after"]["accuracy"] == document["folds"]["accuracy"]
    assert 0 <= beside["accuracy"]["p"] <= 1
    assert document["seconds"]["total"] > document["seconds"]["folds"] > 0
    assert json.loads(regraft("info", "run-ft", "--json").stdout)["folds"]["n"] == 60
    sides = json.loads((tmp_path / "run-ft" / "split.json").read_text(encoding="utf-8"))
    held = HeldOut.read(tmp_path / "run-ft", 3)
    assert len(held.fold) == len(sides["train"]) + len(sides["val"]) == 60
    assert "run-ft is fine-tuned already" in regraft("finetune", "run-ft", "--folds", "2", code=1).stderr
    classes, dataset = document["classes"], Dataset.open(photos)
    labels = {record.identity: classes.index(record.label) for record in dataset.records}
    y = np.array([labels[identity] for identity in (*sides["train"], *sides["val"])])
    assert (held.answers.probabilities.argmax(1) == y).mean() == pytest.approx(document["folds"]["accuracy"])


@needs_tensorflow
def test_everything_works_on_a_fine_tuned_run(run: Path, photos: Path, tmp_path: Path, regraft: Command) -> None:
    (tmp_path / "run-ft-folds").mkdir()  # a folder of the user's, whose name a fine-tuning in folds would take
    done = regraft("finetune", run, *QUICK, "--epochs", "2", "--views", "2", "--json")
    assert (tmp_path / "run-ft-folds").is_dir()
    assert done.stderr == ""
    document = json.loads(done.stdout)
    assert document["finetuned"]["blocks"] == 2
    before = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    assert document["counts"] == before["counts"]
    assert set(document) == {*before, "finetuned", "run"}
    assert document["test"]["accuracy"] >= before["test"]["accuracy"]
    history = json.loads((tmp_path / "run-ft" / "history.json").read_text())
    assert [epoch["number"] for epoch in history] == [0, 1, 2]
    assert 0 < history[0]["val_accuracy"] <= 1
    with Image.open(tmp_path / "run-ft" / "history.png") as picture:
        assert picture.size == (1200, 340)
    assert document["finetuned"]["blend"] in (0.5, 0.75, 1)
    assert not (tmp_path / "run-ft" / "checkpoints").exists()
    split = [json.loads((folder / "split.json").read_text()) for folder in (run, tmp_path / "run-ft")]
    assert {k: sorted(v) for k, v in split[0].items()} == {k: sorted(v) for k, v in split[1].items()}

    # what is frozen keeps its bits, what is thawed does not
    environment = {**os.environ, "KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-c", CHANGED, str(run), str(tmp_path / "run-ft")]
    told = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    assert json.loads(told.splitlines()[-1]) == [
        "blocks.14_expand_conv/kernel",
        "blocks.14_project_conv/kernel",
        "blocks.15_expand_conv/kernel",
        "blocks.15_project_conv/kernel",
        "conv_head/kernel",
    ]

    # the report of both runs has exact maps, and the history
    looked = json.loads(regraft("report", run, tmp_path / "run-ft", "--json").stdout)
    assert looked["difference"]["n"] == looked["measured"] == document["counts"]["test"]
    page = (tmp_path / "run-ft" / "against-run.html").read_text(encoding="utf-8")
    assert '"maps_kind":"exact"' in page
    assert '"step":"epoch"' in page

    # a moved run answers as it did
    moved = Path(shutil.move(tmp_path / "run-ft", tmp_path / "elsewhere"))
    evaluated = json.loads(regraft("evaluate", moved, photos, "--json").stdout)
    assert evaluated["accuracy"] > 0.9
    assert "top" in json.loads(regraft("predict", moved, photos / "circle" / "000.jpg", "--json").stdout)[0]
    (moved / "backbone.safetensors").unlink()
    assert (
        "backbone.safetensors is missing; train the run again"
        in regraft("predict", moved, photos / "circle", code=1).stderr
    )


@needs_tensorflow
@pytest.mark.parametrize(
    "head",
    [
        ("sgd", "--learning-rate", "0.05", "--steps", "50", "--batch-size", "20"),
        ("kernel",),
        pytest.param(("knn",), marks=pytest.mark.slow),
        pytest.param(("prototype",), marks=pytest.mark.slow),
        pytest.param(("logistic", "--class-weight", "balanced"), marks=pytest.mark.slow),
    ],
    ids=lambda head: head[0],
)
def test_a_run_of_any_head_is_fine_tuned(head: tuple[str, ...], photos: Path, tmp_path: Path, regraft: Command) -> None:
    """A kernel head stays one, and others become linear.

    The options of gradient descent once ended the command after all was trained.
    """
    regraft("train", photos, "--effort", "quick", "--folds", "0", "--head", *head, "--out", "run")
    document = json.loads(regraft("finetune", "run", *QUICK, "--epochs", "1", "--mixup", "0", "--json").stdout)
    frozen = json.loads((tmp_path / "run" / "metrics.json").read_text(encoding="utf-8"))
    for side in ("val", "test"):
        beside = document["finetuned"]["beside"][side]
        assert beside["n"] == frozen[side]["n"] == document[side]["n"]
        for when, figures in (("before", frozen[side]), ("after", document[side])):
            assert beside[when]["accuracy"] == figures["accuracy"]
            assert beside[when]["log_loss"] == pytest.approx(figures["log_loss"], abs=0.02)
        change = beside["accuracy"]
        assert change["difference"] == pytest.approx((change["gained"] - change["lost"]) / beside["n"])
    config = (tmp_path / "run-ft" / "config.toml").read_text(encoding="utf-8")
    assert f'head = "{"kernel" if head[0] == "kernel" else "logistic"}"' in config
    assert ("balanced" in config) == ("balanced" in head)


@needs_tensorflow
def test_a_kernel_head_learns_from_frozen_and_fine_tuned_features_of_symmetric_images(
    photos: Path, tmp_path: Path, regraft: Command
) -> None:
    regraft(
        "train", photos, "--effort", "quick", "--folds", "0", "--head", "kernel", "--symmetry", "all", "--out", "run"
    )
    regraft("finetune", "run", *QUICK, "--epochs", "1")
    frozen, tuned = (Classifier.load(tmp_path / name) for name in ("run", "run-ft"))
    assert 'symmetry = "all"' in (tmp_path / "run-ft" / "config.toml").read_text(encoding="utf-8")
    assert tuned.backbone.stages == (*frozen.backbone.stages, "tuned stage6", "tuned head")
    photo = np.random.default_rng(0).integers(0, 256, (1, *[tuned.backbone.transform.size] * 2, 3), np.uint8)
    old, both = (OpenVinoEngine(one.backbone, "f32").features(photo) for one in (frozen, tuned))
    np.testing.assert_allclose(both[:, : old.shape[1]], old, atol=1e-4)
    assert np.abs(both[:, old.shape[1] :] - old[:, -1472:]).max() > 0.01
    assert sum(tuned.head.state()["root_widths"]) == tuned.backbone.num_features == frozen.backbone.num_features + 1472

    with Image.open(photos / "circle" / "000.jpg") as image:
        image.save(tmp_path / "upright.png")
        image.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.png")
    upright, turned = tuned.predict_proba([tmp_path / "upright.png", tmp_path / "turned.png"])
    np.testing.assert_allclose(upright, turned, atol=5e-3)
    told = regraft("finetune", "run-ft", code=1).stderr
    assert "frozen and fine-tuned features side by side, which cannot be fine-tuned again; start from the run" in told


@needs_tensorflow
def test_what_ended_worse_is_said_in_words(run: Path, photos: Path, tmp_path: Path, regraft: Command) -> None:
    wild = ("--learning-rate", "0.2", "--head-learning-rate", "1", "--warmup", "0", "--optimizer", "sgd")
    done = regraft("finetune", run, *QUICK, "--epochs", "1", *wild)
    document = json.loads((tmp_path / "run-ft" / "metrics.json").read_text(encoding="utf-8"))
    worse = document["finetuned"]["worse"]
    assert any("accuracy fell from" in sentence and "95 % interval -" in sentence for sentence in worse)
    assert f"warning: fine-tuning made some figures worse: {'; '.join(worse)}; use the frozen run {run}" in done.stderr
    assert "fine-tuning, on the same photos:" in done.stdout
    assert document["finetuned"]["beside"]["val"]["before"]["accuracy"] == document["finetuned"]["frozen"]["val"]


@needs_tensorflow
@pytest.mark.slow
def test_killed_and_resumed_is_as_if_undisturbed(run: Path, tmp_path: Path, regraft: Command) -> None:
    wanted = ("finetune", str(run), *QUICK, "--epochs", "4", "--json")
    whole = json.loads(regraft(*wanted, "--out", "whole").stdout)
    environment = {key: value for key, value in os.environ.items() if key != "KERAS_BACKEND"}
    command = [sys.executable, "-m", "regraft", *wanted, "--out", "killed"]
    process = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL)
    history = tmp_path / "killed" / "checkpoints" / "history.json"
    while not history.is_file() and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "killed" / "manifest.json").exists()
    assert "--resume to continue it" in regraft(*wanted, "--out", "killed", code=1).stderr
    other = regraft(*wanted, "--out", "killed", "--resume", "--seed", "1", code=1)
    assert "was begun with other options" in other.stderr
    resumed = json.loads(regraft(*wanted, "--out", "killed", "--resume").stdout)
    for side in ("val", "test"):
        assert resumed[side] == whole[side]
    first, second = (load_file(tmp_path / name / "backbone.safetensors") for name in ("whole", "killed"))
    assert all(np.array_equal(first[key], second[key]) for key in first)


@needs_tensorflow
@pytest.mark.slow
def test_a_run_that_is_replaced_stays_whole_until_the_new_one_is(run: Path, tmp_path: Path, regraft: Command) -> None:
    old = Path(shutil.copytree(run, tmp_path / "old"))
    wanted = ("finetune", str(run), *QUICK, "--epochs", "3", "--out", "old")
    refused = regraft(*wanted, "--overwrite", "--learning-rate", "1e30", code=1)
    assert "diverged" in refused.stderr
    assert {path.name for path in old.iterdir()} == {path.name for path in run.iterdir()}, "nothing was learned"

    environment = {key: value for key, value in os.environ.items() if key != "KERAS_BACKEND"}
    command = [sys.executable, "-m", "regraft", *wanted, "--overwrite"]
    process = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL)
    checkpoints = old / "checkpoints"
    while not (checkpoints / "history.json").is_file() and process.poll() is None:
        time.sleep(0.02)
    busy = regraft(*wanted, "--overwrite", code=1).stderr
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert f"another regraft (process {process.pid} on" in busy
    assert f"the run that it is to replace is in {Path('old') / 'replaced'}" in regraft("info", "old", code=1).stderr
    assert regraft("info", "old/replaced").stdout.partition("\n")[2] == regraft("info", run).stdout.partition("\n")[2]

    kept = {path: path.read_bytes() for path in checkpoints.iterdir() if path.is_file()}
    for path in kept:
        path.write_bytes(kept[path][:-100])
        assert f"{path.name} is damaged" in regraft(*wanted, "--resume", code=1).stderr
        path.write_bytes(kept[path])
    regraft(*wanted, "--resume")
    assert not (old / "replaced").exists()
    assert "fine-tuned" in (old / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert {path.name for path in tmp_path.iterdir() if path.name.startswith(".")} == set()


@needs_tensorflow
@pytest.mark.slow
def test_where_memory_is_short_the_batch_is_halved_aloud(run: Path, tmp_path: Path) -> None:
    environment = {key: value for key, value in os.environ.items() if key != "KERAS_BACKEND"}
    command = [sys.executable, "-c", SHORT_OF_MEMORY, "finetune", str(run), *QUICK, "--epochs", "2", "--json"]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert [line for line in done.stderr.splitlines() if "memory" in line] == [
        f"warning: memory is too short: starting again with a batch size of {size}" for size in (4, 2)
    ]
    assert json.loads(done.stdout)["finetuned"]["epochs"] == 2


@needs_tensorflow
@pytest.mark.slow
def test_checkpoints_are_followed_until_the_end(run: Path, photos: Path, tmp_path: Path, regraft: Command) -> None:
    assert "type, for example, --watch 30" in regraft("evaluate", run, photos, "--watch", "0", code=1).stderr
    assert "nothing is fine-tuned in none;" in regraft("evaluate", "none", photos, "--once", code=1).stderr
    environment = {key: value for key, value in os.environ.items() if key != "KERAS_BACKEND"}
    command = [sys.executable, "-m", "regraft", "finetune", str(run), *QUICK, "--epochs", "3", "--out", "ft"]
    training = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL)
    while not (tmp_path / "ft" / "finetune.json").is_file() and training.poll() is None:
        time.sleep(0.02)
    told = regraft("evaluate", "ft", photos, "--watch", "0.1", "--json").stdout.splitlines()
    assert training.wait() == 0
    epochs = [json.loads(line)["epoch"] for line in told]
    assert epochs == sorted(epochs)
    assert epochs[-1] == 3
    final = json.loads(regraft("evaluate", "ft", photos, "--json").stdout)
    assert json.loads(told[-1]) == {"epoch": 3, **{key: final[key] for key in final if key != "problems"}}
    events = accumulators.EventAccumulator(str(tmp_path / "ft" / "logs" / "eval")).Reload()
    assert events.Scalars("accuracy")[-1].value == pytest.approx(final["accuracy"])
    assert len(told) == len(events.Scalars("accuracy"))
    assert regraft("evaluate", "ft", photos, "--once", "--json").stdout.splitlines() == told[-1:]


@needs_tensorflow
@pytest.mark.slow
def test_a_budget_decides_how_many_blocks_are_thawed(run: Path, regraft: Command) -> None:
    few = ("--epochs", "1", "--batch-size", "8", "--json")
    short = regraft("finetune", run, "--budget", "0.01s", *few, "--out", "short")
    assert json.loads(short.stdout)["finetuned"]["blocks"] == 1
    assert "warning: training 1 block takes about" in short.stderr
    assert (
        json.loads(regraft("finetune", run, "--budget", "1h", *few, "--out", "long").stdout)["finetuned"]["blocks"] == 5
    )


@needs_tensorflow
@pytest.mark.slow
def test_all_from_pixels_and_a_stage_by_name(run: Path, tmp_path: Path, regraft: Command) -> None:
    few = ("--epochs", "1", "--batch-size", "8", "--json")
    pixels = json.loads(regraft("finetune", run, "--thaw", "all", *few, "--out", "all").stdout)
    assert pixels["finetuned"]["blocks"] == 0
    stage = json.loads(regraft("finetune", run, "--thaw", "stage:stage6", *few, "--out", "stage").stdout)
    assert stage["finetuned"]["blocks"] == 5
    for thaw, told in (("stage:nonsense", "there is no stage 'nonsense'"), ("99", "blocks to thaw, not 99")):
        assert told in regraft("finetune", run, "--thaw", thaw, "--out", thaw[-2:], code=1).stderr


@needs_tensorflow
def test_batch_normalisation_alone_is_trained(run: Path, tmp_path: Path, regraft: Command) -> None:
    """As in the fourth of the posts: all convolutions stay as they are, and the rest of the network learns."""
    few = ("--thaw", "batch-norm", "--epochs", "1", "--batch-size", "8", "--out", "norms", "--json")
    assert json.loads(regraft("finetune", run, *few).stdout)["finetuned"]["blocks"] == 0
    network = load_backbone("efficientnet_lite0").keras_model()
    assert network is not None
    kinds = [(type(layer).__name__, len(layer.variables)) for layer in network.layers]
    kind_of = [kind for kind, count in kinds for _ in range(count)]
    learned = load_file(tmp_path / "norms" / "backbone.safetensors")
    assert {kind_of[int(number)] for number in learned} == {"BatchNormalization"}
    assert len(learned) == kind_of.count("BatchNormalization")
    changed = [not np.array_equal(x, network.variables[int(number)].numpy()) for number, x in learned.items()]
    assert np.mean(changed) > 0.9


@pytest.mark.skipif(find_spec("jax") is None, reason="needs the extra jax")
@pytest.mark.slow
def test_jax_trains_on_two_devices_as_on_one(
    run: Path, tmp_path: Path, regraft: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for count in (1, 2):
        monkeypatch.setenv("XLA_FLAGS", f"--xla_force_host_platform_device_count={count}")
        code = "from regraft.engines.keras_backend import *; trainable_keras('jax'); print(devices())"
        assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == f"{count}\n"
        wanted = ("--backend", "jax", "--epochs", "2", "--out", f"on{count}", "--histograms", "--json")
        found.append(json.loads(regraft("finetune", run, *QUICK, *wanted).stdout))
    one, two = (load_file(tmp_path / name / "backbone.safetensors") for name in ("on1", "on2"))
    assert found[0]["finetuned"] == found[1]["finetuned"]
    assert all(np.allclose(one[key], two[key], atol=1e-3) for key in one)


@needs_tensorflow
@pytest.mark.slow
@pytest.mark.parametrize("augment", ["colour", "randaugment"])
def test_pixels_are_changed_where_all_is_thawed(run: Path, regraft: Command, augment: str) -> None:
    wanted = ("--epochs", "1", "--batch-size", "8", "--augment", augment, "--cutmix", "1")
    assert "type --thaw all with it" in regraft("finetune", run, *wanted, code=1).stderr
    document = json.loads(regraft("finetune", run, "--thaw", "all", *wanted, "--json").stdout)
    assert document["finetuned"]["blocks"] == 0


@needs_tensorflow
@pytest.mark.slow
@pytest.mark.parametrize(("kind", "changing"), [("trained", 4), ("statistics", 2)])
def test_batch_normalisation_learns(run: Path, tmp_path: Path, regraft: Command, kind: str, changing: int) -> None:
    wanted = ("--thaw", "1", "--epochs", "1", "--batch-size", "8", "--batch-norm", kind)
    regraft("finetune", run, *wanted)
    environment = {**os.environ, "KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-c", CHANGED, str(run), str(tmp_path / "run-ft")]
    told = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    changed = [path for path in json.loads(told.splitlines()[-1]) if "/kernel" not in path]
    assert len(changed) == 4 * changing  # of blocks.15's three, and of the head's one


@needs_tensorflow
def test_what_goes_wrong_is_told_in_one_line(run: Path, tmp_path: Path, regraft: Command) -> None:
    wild = ("--learning-rate", "1e20", "--head-learning-rate", "1e30", "--optimizer", "sgd", "--out", "wild")
    diverged = regraft("finetune", run, *QUICK, *wild, code=1).stderr
    assert "it diverged; type a smaller --learning-rate" in diverged
    assert "--disk" in regraft("finetune", run, "--thaw", "3", "--disk", "0.000001", "--out", "small", code=1).stderr


def test_the_run_to_start_from_is_never_replaced(run: Path, regraft: Command) -> None:
    before = sorted(path.name for path in run.iterdir())
    told = regraft("finetune", run, "--out", run, "--overwrite", code=1).stderr
    assert "is the run to start from; type another --out" in told
    assert sorted(path.name for path in run.iterdir()) == before


@pytest.mark.filterwarnings("ignore:__array__ implementation")  # Keras' own, on OpenVINO
def test_a_second_fine_tuning_keeps_what_the_first_learned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERAS_BACKEND", "openvino")
    import keras

    photo = keras.Input((4,))
    first, second = keras.layers.Dense(3), keras.layers.Dense(2)
    network = keras.Model(photo, second(first(photo)))
    write_weights(network, [first], tmp_path / "first")
    write_weights(network, [second], tmp_path / "both", str(tmp_path / "first"))
    assert sorted(load_file(tmp_path / "first")) == ["0000", "0001"]
    assert sorted(load_file(tmp_path / "both")) == ["0000", "0001", "0002", "0003"]


def test_without_a_backend_that_trains_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "keras", raising=False)
    monkeypatch.setattr(keras_backend, "find_spec", lambda name: None)
    with pytest.raises(BackboneError, match=r"pip install 'regraft\[tensorflow\]'"):
        trainable_keras("auto")


@pytest.mark.parametrize(
    "wrong",
    [
        {"budget": "soon"},
        {"budget": "9s", "thaw": "2"},
        {"views": 0},
        {"mixup": -1.0},
        {"thaw": "0"},
        {"thaw": "many"},
        {"epochs": 0},
        {"optimizer": "adam"},
        {"dropout": 1.0},
        {"learning_rate": 0.0},
    ],
)
def test_options_that_cannot_be(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=str(next(iter(wrong)))):
        FinetuneConfig.from_dict(wrong)
