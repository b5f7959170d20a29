"""Networks of the Hugging Face Hub, from a server on this machine that speaks the Hub's protocol."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from regraft.backbones import hugging_face
from regraft.backbones.base import load_backbone
from regraft.downloads.hub_snapshot import snapshot
from regraft.engines.last_maps import LastMaps
from regraft.engines.openvino import OpenVinoEngine
from regraft.errors import BackboneError
from tests.conftest import Command
from tests.hub import WIDTH, Files, Hub, convolutional, serving, transformer, with_weights_beside

needs_hub = pytest.mark.skipif(
    not all(map(find_spec, ("huggingface_hub", "onnx", "onnxruntime"))), reason="needs the extra hf, and onnx"
)
REPOSITORY = "onnx-community/small.e1_r64"
SPEC = f"hf:{REPOSITORY}"
PROCESSOR: dict[str, Any] = {
    "image_processor_type": "BitImageProcessor",
    "size": {"shortest_edge": 80},
    "crop_size": {"height": 64, "width": 64},
    "resample": 3,
    "image_mean": [0.5, 0.4, 0.3],
    "image_std": [0.2, 0.25, 0.3],
}


def repository(network: bytes, card: str = "license: apache-2.0", **processor: Any) -> Files:
    """The files of a repository with an ONNX network for photos of 64 px."""
    return {
        "config.json": b"{}",
        "preprocessor_config.json": json.dumps({**PROCESSOR, **processor}).encode(),
        "README.md": f"---\n{card}\n---\n# A network\n".encode(),
        "onnx/model.onnx": network,
    }


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """A hub with one repository, for this process and for those that it starts; the Hub's cache is empty."""
    from huggingface_hub import constants

    snapshot.cache_clear()
    hugging_face._told.clear()
    with serving() as found:
        found.commit(REPOSITORY, repository(convolutional()))
        here = {"HF_ENDPOINT": found.address, "HF_HUB_CACHE": str(tmp_path / "hub"), "HF_HOME": str(tmp_path / "home")}
        for name, value in here.items():
            monkeypatch.setenv(name, value)
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
        monkeypatch.setattr(constants, "ENDPOINT", found.address)
        template = f"{found.address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", here["HF_HUB_CACHE"])
        yield found


def go_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    snapshot.cache_clear()


def photos_of(size: int) -> NDArray[np.uint8]:
    return np.random.default_rng(1).integers(0, 256, (2, size, size, 3), dtype=np.uint8)


def by_onnxruntime(network: bytes, photos: NDArray[np.uint8], output: str) -> NDArray[np.float32]:
    """An inner result of an ONNX network, for photos that are scaled as `PROCESSOR` says."""
    import onnx
    import onnxruntime

    model = onnx.load_from_string(network)
    if output not in {one.name for one in model.graph.output}:
        model.graph.output.append(onnx.ValueInfoProto(name=output))
    scaled = (photos / 255 - np.array(PROCESSOR["image_mean"])) / np.array(PROCESSOR["image_std"])
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    first = scaled.transpose(0, 3, 1, 2).astype(np.float32)
    return np.concatenate([session.run([output], {"pixel_values": photo[None]})[0] for photo in first])


def close(found: NDArray[np.float32], expected: NDArray[np.float32]) -> bool:
    return bool(np.abs(found - expected).max() <= 1e-4 * np.abs(expected).max())


@needs_hub
def test_the_features_are_what_the_classifier_is_computed_from_and_earlier_stages(hub: Hub, cache: Path) -> None:
    backbone = load_backbone(SPEC)
    assert (
        backbone.transform.to_dict() | {"crop": 0.8, "size": 64, "resample": "bicubic"} == backbone.transform.to_dict()
    )
    assert backbone.transform.mean == (127.5, 102.0, 76.5)
    assert not backbone.fixed_size
    assert backbone.licence == "Apache-2.0"
    assert len(backbone.fingerprint) == 64
    photos = photos_of(64)
    features = OpenVinoEngine(backbone, "f32").features(photos)
    assert backbone.widths == (6, 8, WIDTH)  # strides 8 and 16, and what the classifier takes at stride 32
    assert close(features[:, -WIDTH:], by_onnxruntime(convolutional(), photos, "features"))
    inner = by_onnxruntime(convolutional(), photos, backbone.stages[1].removeprefix("node_")).mean(axis=(2, 3))
    assert close(features[:, 6:14], inner)
    maps = LastMaps.of(backbone)  # the average at the end of the network is found, for activation maps
    assert maps is not None
    assert maps.run(photos[0]).maps.shape == (2, 2, WIDTH)
    last = load_backbone(SPEC, stages="last")
    assert close(OpenVinoEngine(last, "f32").features(photos), features[:, -WIDTH:])
    assert load_backbone(SPEC, stages=backbone.stages[0]).widths == (6,)
    assert load_backbone(SPEC, 96).num_features == 26
    assert len({backbone.fingerprint, last.fingerprint, load_backbone(SPEC, 96).fingerprint}) == 3


@needs_hub
def test_of_a_transformer_the_features_are_the_mean_of_its_patches_and_its_class_token(hub: Hub, cache: Path) -> None:
    network = transformer(registers=4, size=64)
    hub.commit("owner/vit", repository(network))
    backbone = load_backbone("hf:owner/vit")
    assert backbone.fixed_size
    assert backbone.stages == ("patches", "class_token")
    photos = photos_of(64)
    tokens = by_onnxruntime(network, photos, "last_hidden_state")
    features = OpenVinoEngine(backbone, "f32").features(photos)
    assert close(features, np.concatenate([tokens[:, 5:].mean(axis=1), tokens[:, 0]], axis=1))
    with pytest.raises(BackboneError, match="does not take photos of 96 px"):
        assert load_backbone("hf:owner/vit", 96).num_features
    hub.commit("owner/siglip", repository(transformer(registers=-1, size=64, pooled=True)))
    assert load_backbone("hf:owner/siglip").stages == ("patches", "pooler_output")


@needs_hub
def test_a_network_of_one_size_keeps_it(hub: Hub, cache: Path) -> None:
    hub.commit("owner/fixed", repository(convolutional(64)))
    assert load_backbone("hf:owner/fixed").fixed_size
    with pytest.raises(BackboneError, match="takes photos of 64 px only; wanted 96 px"):
        assert load_backbone("hf:owner/fixed", 96).num_features


@needs_hub
def test_weights_beside_the_network_are_found(hub: Hub, cache: Path, tmp_path: Path) -> None:
    beside = with_weights_beside(convolutional(), tmp_path / "saved")
    assert set(beside) == {"onnx/model.onnx", "onnx/model.onnx_data"}
    hub.commit("owner/large", {**repository(b""), **beside})
    photos = photos_of(64)
    features = OpenVinoEngine(load_backbone("hf:owner/large", stages="last"), "f32").features(photos)
    assert close(features, by_onnxruntime(convolutional(), photos, "features"))


@needs_hub
def test_a_run_keeps_to_its_commit_and_answers_offline(
    hub: Hub, photos: Path, regraft: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (first,) = hub.repositories[REPOSITORY]
    done = regraft("train", photos, "--backbone", SPEC, "--out", "run", "--effort", "quick", "--json")
    assert json.loads(done.stdout)["folds"]["accuracy"] > 0.5
    record = json.loads((tmp_path / "run" / "manifest.json").read_text())["backbone"]
    assert (record["name"], record["licence"]) == (f"{SPEC}@{first}", "Apache-2.0")
    photo = next(photos.rglob("*.jpg"))
    before = regraft("predict", "run", photo, "--json").stdout

    second = hub.commit(REPOSITORY, repository(convolutional(seed=1)))
    hub.asked.clear()
    assert regraft("predict", "run", photo, "--json").stdout == before
    assert hub.asked == []
    snapshot.cache_clear()
    assert load_backbone(SPEC).name == f"{SPEC}@{second}"
    assert load_backbone(f"{SPEC}@{first}").fingerprint == record["fingerprint"]

    shutil.rmtree(tmp_path / "cache" / "graphs")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    assert regraft("predict", "run", photo, "--json").stdout == before


@needs_hub
def test_without_a_network_the_last_commit_of_main_is_used(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    online = load_backbone(SPEC)
    online.require_weights()
    go_offline(monkeypatch)
    hub.commit(REPOSITORY, repository(convolutional(seed=1)))
    assert load_backbone(SPEC).name == online.name
    assert load_backbone(SPEC).fingerprint == online.fingerprint
    assert load_backbone(SPEC).at_hand


@needs_hub
def test_the_same_files_at_another_commit_have_the_same_fingerprint(hub: Hub) -> None:
    before = load_backbone(SPEC)
    assert before.fingerprint
    hub.commit(REPOSITORY, repository(convolutional(), card="license: mit"))
    snapshot.cache_clear()
    after = load_backbone(SPEC)
    assert (after.licence, before.licence) == ("MIT", "Apache-2.0")
    assert after.name != before.name
    assert after.fingerprint == before.fingerprint


@needs_hub
@pytest.mark.parametrize(
    ("card", "told"),
    [
        ("license: mit", ""),
        ("license: cc-by-nc-4.0", "the licence of its weights, cc-by-nc-4.0, does not allow commercial use; read"),
        (
            "license: other\nlicense_name: apple-amlr",
            "the licence of its weights, apple-amlr, does not allow commercial",
        ),
        (
            "license: other\nlicense_name: dinov3-license\nlicense_link: https://ai.meta.com/dinov3",
            "the licence of its weights, dinov3-license, has terms of its own; read https://ai.meta.com/dinov3",
        ),
        ("license: [openrail]", "the licence of its weights, openrail, has terms of its own"),
        ("tags: [a]", "the licence of its weights is unknown; read"),
        ("license: {a: [", "the licence of its weights is unknown; read"),
    ],
)
def test_licences_that_are_not_open_are_warned_of(
    hub: Hub, card: str, told: str, caplog: pytest.LogCaptureFixture
) -> None:
    hub.commit("owner/licensed", repository(convolutional(), card))
    load_backbone("hf:owner/licensed").require_weights()
    load_backbone("hf:owner/licensed").require_weights()
    warnings = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert len(warnings) == bool(told)
    assert all(told in warning for warning in warnings)


@needs_hub
def test_a_warning_is_one_line_of_train(hub: Hub, photos: Path, regraft: Command) -> None:
    hub.commit("owner/dino", repository(convolutional(), "license: other\nlicense_name: dinov3-license"))
    done = regraft("train", photos, "--backbone", "hf:owner/dino", "--out", "run", "--effort", "quick")
    (line,) = [line for line in done.stderr.splitlines() if "licence" in line]
    assert line == (
        "warning: hf:owner/dino: the licence of its weights, dinov3-license, has terms of its own; "
        f"read {hub.address}/owner/dino"
    )


@needs_hub
@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ("hf:small", "hf:small names no network; wanted hf:OWNER/NAME, with @REVISION if you like"),
        ("hf:owner/../x/y.onnx", "names no network"),
        ("hf:owner/nothing", "there is no repository owner/nothing at http://127.0.0.1"),
        (f"{SPEC}@v9", f"{REPOSITORY} has no revision 'v9'; wanted a branch, a tag or a commit"),
        ("hf:owner/gated", "owner/gated wants its terms to be accepted at http://127.0.0.1"),
        (
            "hf:owner/torch",
            "owner/torch has no onnx/vision_model.onnx and no onnx/model.onnx and no model.onnx; it has no",
        ),
        ("hf:owner/other", "there is onnx/model_fp16.onnx; type hf:owner/other/onnx/model_fp16.onnx"),
        (f"{SPEC}/onnx/model_q4.onnx", "has no onnx/model_q4.onnx; there is onnx/model.onnx; type"),
        ("hf:owner/text", "owner/text has no config.json and no preprocessor_config.json; wanted a network of transf"),
        ("hf:owner/damaged", "model.onnx cannot be read"),
        ("hf:owner/json", "preprocessor_config.json is damaged: Expecting value"),
        ("hf:owner/unknown", "image_processor_type is 'SamImageProcessor'; wanted a class among beit, bit, clip"),
    ],
)
def test_what_cannot_be_used_is_one_line(hub: Hub, photos: Path, regraft: Command, spec: str, told: str) -> None:
    files = repository(convolutional())
    network = files.pop("onnx/model.onnx")
    hub.gated.add("owner/gated")
    hub.commit("owner/torch", {**files, "model.safetensors": b""})
    hub.commit("owner/other", {**files, "onnx/model_fp16.onnx": network})
    hub.commit("owner/text", {"README.md": b""})
    hub.commit("owner/damaged", {**files, "onnx/model.onnx": network[:1000]})
    hub.commit("owner/json", {**files, "onnx/model.onnx": network, "preprocessor_config.json": b"nonsense"})
    hub.commit("owner/unknown", repository(network, image_processor_type="SamImageProcessor"))
    done = regraft("train", photos, "--backbone", spec, "--out", "run", code=1)
    (line,) = done.stderr.splitlines()
    assert line.startswith("regraft: ")
    assert told in line


@needs_hub
def test_what_is_not_here_offline_is_one_line(
    hub: Hub, photos: Path, regraft: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    done = regraft("train", photos, "--backbone", SPEC, "--out", "run", code=1)
    assert done.stderr == (
        f"regraft: config.json of {REPOSITORY}@main is not in {tmp_path / 'hub'}, and HF_HUB_OFFLINE is set; use it "
        "once without HF_HUB_OFFLINE\n"
    )


@needs_hub
def test_a_hub_that_cannot_be_reached_is_told(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    def unreachable(*arguments: Any, **options: Any) -> str:
        raise huggingface_hub.errors.LocalEntryNotFoundError("the library's own text has\nseveral lines")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", unreachable)
    with pytest.raises(BackboneError, match=f"and {hub.address} cannot be reached; use it once while online"):
        load_backbone(SPEC)


@needs_hub
def test_a_file_that_was_damaged_in_the_cache_is_told(hub: Hub) -> None:
    assert load_backbone(SPEC).fingerprint
    path = load_backbone(SPEC).source.file("onnx/model.onnx")  # type: ignore[attr-defined]
    blob = path.resolve()
    blob.write_bytes(blob.read_bytes()[:-1] + b"\0")
    with pytest.raises(
        BackboneError, match=r"model\.onnx is damaged; delete the folder .*models--onnx-community--small"
    ):
        load_backbone(SPEC).require_weights()


@needs_hub
def test_another_file_can_be_named(hub: Hub) -> None:
    hub.commit(REPOSITORY, {**repository(convolutional()), "onnx/model_fp16.onnx": convolutional(seed=1)})
    named = load_backbone(f"{SPEC}/onnx/model_fp16.onnx")
    assert named.name.startswith(f"{SPEC}/onnx/model_fp16.onnx@")
    assert load_backbone(named.name).fingerprint == named.fingerprint != load_backbone(SPEC).fingerprint


def test_options_of_other_backbones_are_refused() -> None:
    if find_spec("huggingface_hub") is None:
        pytest.skip("needs the extra hf")
    with pytest.raises(BackboneError, match="has its own weights; leave weights out"):
        load_backbone("hf:owner/name", weights="none")
    with pytest.raises(BackboneError, match="has its own pixels; leave pixels out"):
        load_backbone("hf:owner/name", pixels="0..1")


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hugging_face, "find_spec", lambda name: None)
    with pytest.raises(BackboneError, match=r"pip install 'regraft\[hf\]'"):
        load_backbone("hf:owner/name")
