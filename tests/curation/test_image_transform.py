"""Every rounding is torchvision's; what can't be converted is refused by name."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from timm.data.transforms import CenterCropOrPad, ResizeKeepRatio
from torchvision.transforms import CenterCrop, Resize

from curation.errors import InputError
from curation.image_transform import ImageTransform, transform_from_timm

CONFIG = {
    "input_size": (3, 224, 224),
    "interpolation": "bicubic",
    "mean": (0.485, 0.456, 0.406),
    "std": (0.229, 0.224, 0.225),
    "crop_pct": 0.875,
    "crop_mode": "center",
}
SIDES = st.integers(1, 700)


def resized_size(resize: Any, width: int, height: int) -> tuple[int, int]:
    return resize(Image.new("L", (width, height))).size[::-1]


@given(width=SIDES, height=SIDES, size=st.integers(8, 64))
def test_the_shorter_side_is_resized_as_torchvision_does(
    width: int, height: int, size: int
) -> None:
    place = ImageTransform(height=8, width=8, resize=(size, size)).place(width, height)
    expected = resized_size(Resize(size, interpolation=0), width, height)
    assert (place.height, place.width) == expected


@given(
    width=st.integers(20, 400),
    height=st.integers(20, 400),
    size=st.tuples(st.integers(8, 64), st.integers(8, 64)),
    longest=st.sampled_from([0.0, 1.0]),
)
def test_both_sides_keep_their_ratio_as_timm_does(
    width: int, height: int, size: tuple[int, int], longest: float
) -> None:
    rule = "fit" if longest else "cover"
    transform = ImageTransform(height=8, width=8, resize=size, rule=rule)
    place = transform.place(width, height)
    resize = ResizeKeepRatio(size, longest=longest, interpolation="nearest")
    rows, columns = resize.get_params(Image.new("L", (width, height)), size, longest)
    assert (place.height, place.width) == (max(rows, 1), max(columns, 1))


@given(
    shape=st.tuples(st.integers(1, 60), st.integers(1, 60)),
    window=st.tuples(st.integers(1, 60), st.integers(1, 60)),
    crop=st.sampled_from([CenterCrop, CenterCropOrPad]),
)
def test_the_window_is_torchvisions_and_timms(
    shape: tuple[int, int], window: tuple[int, int], crop: Any
) -> None:
    rows, columns = shape
    numbers = np.arange(1, rows * columns + 1, dtype=np.int32)
    numbered = Image.fromarray(numbers.reshape(shape))
    found = crop(window)(numbered)
    transform = ImageTransform(
        height=window[0], width=window[1], resize=shape, rule="squash"
    )
    place = transform.place(columns, rows)
    expected = [
        row * columns + column + 1 if 0 <= row < rows and 0 <= column < columns else 0
        for row in range(place.top, place.top + window[0])
        for column in range(place.left, place.left + window[1])
    ]
    assert np.asarray(found).ravel().tolist() == expected


def test_a_config_of_timm_becomes_a_transform() -> None:
    transform = transform_from_timm(CONFIG)
    assert transform == ImageTransform(height=224, width=224, resize=(256, 256))
    assert transform_from_timm(CONFIG | {"crop_mode": "squash"}).rule == "squash"
    border = transform_from_timm(CONFIG | {"crop_mode": "border", "crop_pct": 1.0})
    assert (border.rule, border.fill) == ("fit", (124, 116, 104))
    wide = transform_from_timm(CONFIG | {"input_size": (3, 48, 80), "crop_pct": 1.0})
    assert (wide.rule, wide.resize) == ("cover", (48, 80))


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("interpolation", "lanczos"),
        ("interpolation", "nearest"),
        ("crop_mode", "corner"),
        ("input_size", (1, 28, 28)),
        ("crop_border_pixels", 4),
        ("naflex", True),
        ("patchify", True),
    ],
)
def test_what_cannot_be_converted_is_refused_by_name(setting: str, value: Any) -> None:
    with pytest.raises(InputError, match=f"{setting}="):
        transform_from_timm(CONFIG | {setting: value})


@pytest.mark.slow
def test_every_pretrained_model_of_timm_is_converted_or_refused() -> None:
    import timm
    from timm.data import resolve_data_config

    refused = []
    for name in timm.list_pretrained():
        config = resolve_data_config(pretrained_cfg=timm.get_pretrained_cfg(name).to_dict())
        try:
            transform_from_timm(config)
        except InputError:
            refused.append(name)
    assert refused == []


def test_the_record_names_every_setting() -> None:
    transform = ImageTransform(height=8, width=9, resize=(10, 11))
    assert transform.record() == {
        "height": 8,
        "width": 9,
        "resize": [10, 11],
        "rule": "shortest",
        "interpolation": "bicubic",
        "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225],
        "fill": [0, 0, 0],
    }
