"""What the files of a repository say of photos, as a `Transform`."""

from __future__ import annotations

from typing import Any

import pytest

from regraft.foundation.documents import DamagedError, Fields
from regraft.photos.preprocessor_config import read_processor

HALF = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}
MEAN = [0.485, 0.456, 0.406]
STD = [0.229, 0.224, 0.225]
IMAGENET = {"image_mean": MEAN, "image_std": STD}
TIMM = {"input_size": [3, 256, 256], "mean": MEAN, "std": STD, "crop_pct": 0.95, "interpolation": "bicubic"}
SIDES = {"height": 224, "width": 224}


def read(own: dict[str, Any] | None, config: dict[str, Any] | None = None) -> Any:
    return read_processor(
        None if own is None else Fields(own, "preprocessor_config.json"),
        None if config is None else Fields(config, "config.json"),
    )


def kind(name: str, **values: Any) -> dict[str, Any]:
    return {"image_processor_type": name, **IMAGENET, **values}


@pytest.mark.parametrize(
    ("own", "size", "crop", "resample"),
    [
        (kind("ViTImageProcessor", size=SIDES, resample=2), 224, None, "bilinear"),
        (kind("ViTImageProcessorFast", size=384), 384, None, "bilinear"),
        ({**HALF, "feature_extractor_type": "ViTFeatureExtractor", "size": 224}, 224, None, "bilinear"),
        (kind("SiglipImageProcessor", size=SIDES), 224, None, "bicubic"),
        (kind("DINOv3ViTImageProcessorFast", size=SIDES, resample=2), 224, None, "bilinear"),
        (kind("CLIPImageProcessor", size={"shortest_edge": 224}, crop_size=SIDES), 224, 1.0, "bicubic"),
        (kind("CLIPFeatureExtractor", size=256, crop_size=224), 224, 0.875, "bicubic"),
        (kind("BitImageProcessor", size={"shortest_edge": 256}, crop_size=SIDES, resample=3), 224, 0.875, "bicubic"),
        (kind("MobileNetV2ImageProcessor", size={"shortest_edge": 256}, crop_size=SIDES), 224, 0.875, "bilinear"),
        (kind("ConvNextImageProcessor", size={"shortest_edge": 224}, crop_pct=0.9), 224, 0.9, "bicubic"),
        (kind("ConvNextFeatureExtractor", size=224, crop_pct=None), 224, 0.875, "bicubic"),
        (kind("ConvNextImageProcessor", size={"shortest_edge": 384}, crop_pct=0.9), 384, None, "bicubic"),
        (kind("EfficientNetImageProcessor", size=SIDES, resample=2), 224, None, "bilinear"),
        (kind("DeiTImageProcessor", size=SIDES, do_center_crop=False), 224, None, "bicubic"),
        (kind("BeitImageProcessor", size=SIDES, do_center_crop=True, crop_size=SIDES), 224, None, "bicubic"),
    ],
)
def test_size_crop_and_interpolation_of_transformers(
    own: dict[str, Any], size: int, crop: float | None, resample: str
) -> None:
    found = read(own)
    assert (found.transform.size, found.transform.crop, found.transform.resample) == (size, crop, resample)
    assert found.differences == ()


@pytest.mark.parametrize(
    ("own", "mean", "std"),
    [
        (kind("ViTImageProcessor", size=8), (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
        (kind("ViTImageProcessor", size=8, image_mean=0.5, image_std=0.5), (127.5,) * 3, (127.5,) * 3),
        (kind("ViTImageProcessor", size=8, do_normalize=False), (0.0,) * 3, (255.0,) * 3),
        (kind("ViTImageProcessor", size=8, do_rescale=False), tuple(MEAN), tuple(STD)),
        (kind("ViTImageProcessor", size=8, do_normalize=False, rescale_factor=1 / 127.5), (0.0,) * 3, (127.5,) * 3),
        (
            kind("EfficientNetImageProcessor", size=8, include_top=True, **{**HALF, "image_std": [0.5, 0.4, 0.2]}),
            (127.5,) * 3,
            (63.75, 40.8, 10.2),
        ),
        (
            kind(
                "EfficientNetImageProcessor",
                size=8,
                include_top=False,
                do_normalize=False,
                rescale_factor=1 / 127.5,
                rescale_offset=True,
            ),
            (127.5,) * 3,
            (127.5,) * 3,
        ),
    ],
)
def test_mean_and_standard_deviation_of_transformers(own: dict[str, Any], mean: Any, std: Any) -> None:
    found = read(own).transform
    assert found.mean == pytest.approx(mean)
    assert found.std == pytest.approx(std)
    assert found.channel_order == "RGB"


def test_mobilevit_takes_blue_first_and_no_mean() -> None:
    own = {"image_processor_type": "MobileViTImageProcessor", "size": {"shortest_edge": 288}, "crop_size": 256}
    found = read(own).transform
    assert (found.channel_order, found.mean, found.std) == ("BGR", (0.0,) * 3, (255.0,) * 3)


@pytest.mark.parametrize(
    ("own", "config"),
    [
        (None, {"architecture": "mobilenetv4_conv_medium", "pretrained_cfg": TIMM}),
        ({"image_processor_type": "TimmWrapperImageProcessor"}, {"pretrained_cfg": TIMM}),
        ({"image_processor_type": "TimmWrapperImageProcessor", "pretrained_cfg": TIMM}, None),
    ],
)
def test_timms_own_configuration(own: dict[str, Any] | None, config: dict[str, Any] | None) -> None:
    found = read(own, config)
    assert (found.transform.size, found.transform.crop, found.transform.resample) == (256, 0.95, "bicubic")
    assert found.transform.mean == pytest.approx((123.675, 116.28, 103.53))
    assert found.differences == ()


def test_transformers_own_file_comes_before_timms() -> None:
    assert read(kind("ViTImageProcessor", size=224), {"pretrained_cfg": TIMM}).transform.size == 224


@pytest.mark.parametrize(
    ("own", "config", "told"),
    [
        (kind("ViTImageProcessor", size=8, resample=0), None, "nearest; bilinear is taken instead"),
        (kind("EfficientNetImageProcessor", size=8), None, "nearest; bilinear is taken instead"),
        (kind("ViTImageProcessor", size=8, resample=1), None, "lanczos; bicubic is taken instead"),
        (kind("DeiTImageProcessor", size=256, crop_size=224), None, "squashed to a square and then cropped"),
        (None, {"pretrained_cfg": {**TIMM, "crop_mode": "squash"}}, "squashed to a square and then cropped"),
    ],
)
def test_what_is_done_in_another_way_is_told(own: Any, config: Any, told: str) -> None:
    (difference,) = read(own, config).differences
    assert told in difference


@pytest.mark.parametrize(
    ("own", "config", "told"),
    [
        (None, None, "does not say how the network wants photos"),
        (None, {"model_type": "vit"}, "does not say how the network wants photos"),
        ({"size": 224}, None, "wanted its image_processor_type, or pretrained_cfg in config.json"),
        (kind("SegformerImageProcessor", size=224), None, "'SegformerImageProcessor'; wanted a class among"),
        (kind("ViTImageProcessor"), None, "size is missing"),
        (kind("ViTImageProcessor", size="224"), None, "size is '224'; wanted a whole number"),
        (kind("ViTImageProcessor", size={"height": 224, "width": 192}), None, "width is 192; wanted 224"),
        (kind("ViTImageProcessor", size={"longest_edge": 224}), None, "height is missing"),
        (kind("ViTImageProcessor", size=10**9), None, "size is 1000000000; wanted"),
        (kind("ViTImageProcessor", size=8, do_resize=False), None, "do_resize is False; wanted true"),
        (kind("ViTImageProcessor", size=8, do_pad=True), None, "do_pad is True; wanted false"),
        (kind("ViTImageProcessor", size=8, do_normalize="yes"), None, "do_normalize is 'yes'; wanted true or false"),
        (kind("ViTImageProcessor", size=8, image_std=[1, 1]), None, "image_std is [1, 1]; wanted a list of 3 numbers"),
        (kind("ViTImageProcessor", size=8, image_std=[1, 1, 0]), None, "image_std[2] is 0; wanted"),
        (kind("ViTImageProcessor", size=8, resample=9), None, "resample is 9; wanted"),
        (kind("CLIPImageProcessor", size=224, crop_size=256), None, "crop_size is 256; wanted at most 224"),
        (kind("CLIPImageProcessor", size=224, do_center_crop=False), None, "do_center_crop is False; wanted true"),
        (None, {"pretrained_cfg": {**TIMM, "input_size": [1, 28, 28]}}, "wanted 3 and a square"),
        (None, {"pretrained_cfg": {**TIMM, "crop_mode": "border"}}, "crop_mode is 'border'; wanted center or squash"),
    ],
)
def test_what_cannot_be_done_is_told(own: Any, config: Any, told: str) -> None:
    with pytest.raises(DamagedError) as error:
        read(own, config)
    assert told in str(error.value)
    assert "\n" not in str(error.value)
