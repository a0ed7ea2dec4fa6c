"""Pillow does what every image loader does, and bit for bit what timm does."""

import io

import pytest
import torch
from PIL import Image
from timm.data import create_transform

from curation.image_loaders.base import EncodedImage, ImageLoader, LoaderSettings
from curation.image_loaders.pillow import PillowImageLoader
from curation.image_transform import ImageTransform, transform_from_timm
from curation.testing.image_loader_contract import SIZES, ImageLoaderContract
from curation.testing.pictures import encode, make_picture


class TestPillowImageLoader(ImageLoaderContract):
    mean_difference = 0
    max_difference = 0

    def make(self, transform: ImageTransform, settings: LoaderSettings) -> ImageLoader:
        return PillowImageLoader(transform, settings)


@pytest.mark.parametrize("mode", ["center", "squash", "border"])
@pytest.mark.parametrize("size", [(3, 64, 64), (3, 48, 80)])
@pytest.mark.parametrize("crop_fraction", [0.875, 1.0, 1.2])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_pixels_are_those_of_timms_transform(
    mode: str, size: tuple[int, int, int], crop_fraction: float, interpolation: str
) -> None:
    config = {
        "input_size": size,
        "crop_pct": crop_fraction,
        "crop_mode": mode,
        "interpolation": interpolation,
        "mean": (0.5, 0.4, 0.3),
        "std": (0.2, 0.3, 0.25),
    }
    transform = transform_from_timm(config)
    theirs = create_transform(
        input_size=size,
        crop_pct=crop_fraction,
        crop_mode=mode,
        interpolation=interpolation,
        mean=config["mean"],
        std=config["std"],
    )
    pictures = [encode(make_picture(*shape), "PNG") for shape in SIZES]
    loader = PillowImageLoader(transform, LoaderSettings(batch_size=len(SIZES)))
    (batch,) = loader.load(EncodedImage(i, data) for i, data in enumerate(pictures))
    ours = batch.pixels.permute(0, 3, 1, 2).float().div(255)
    ours -= torch.tensor(transform.mean)[:, None, None]
    ours /= torch.tensor(transform.std)[:, None, None]
    for picture, normalized in zip(pictures, ours, strict=True):
        expected = theirs(Image.open(io.BytesIO(picture)).convert("RGB"))
        torch.testing.assert_close(normalized, expected, rtol=0, atol=1e-6)
