"""Facts are what other programs measure on the same thumbnail."""

import numpy as np
import pytest
import torch
from PIL import Image
from skimage.measure import shannon_entropy
from skimage.util import random_noise

from curation.image_facts import (
    brightness,
    entropy,
    measure_images,
    perceptual_hash,
    sharpness,
    to_gray,
)
from curation.testing.pictures import make_picture

PICTURES = [make_picture(256, 256, seed) for seed in range(5)]
THUMBNAILS = torch.from_numpy(np.stack([np.array(picture) for picture in PICTURES]))


def test_gray_is_pillows() -> None:
    expected = np.stack([np.array(picture.convert("L")) for picture in PICTURES])
    np.testing.assert_array_equal(to_gray(THUMBNAILS).numpy(), expected)


def test_entropy_is_that_of_scikit_image() -> None:
    gray = to_gray(THUMBNAILS)
    expected = [shannon_entropy(image) for image in gray.numpy()]
    np.testing.assert_allclose(entropy(gray).numpy(), expected, rtol=1e-5)


def test_sharpness_is_the_variance_of_the_laplacian() -> None:
    gray = to_gray(THUMBNAILS)
    kernel = torch.tensor([[0.0, 1, 0], [1, -4, 1], [0, 1, 0]])[None, None]
    filtered = torch.nn.functional.conv2d(gray[:, None].double(), kernel.double())
    expected = [np.var(image) for image in filtered.numpy()]
    np.testing.assert_allclose(sharpness(gray).numpy(), expected, rtol=1e-4)


def test_brightness_is_the_mean() -> None:
    gray = to_gray(THUMBNAILS)
    expected = gray.numpy().mean(axis=(1, 2)) / 255
    np.testing.assert_allclose(brightness(gray).numpy(), expected, rtol=1e-5)


def test_blur_lowers_sharpness_and_noise_raises_it() -> None:
    picture = np.array(PICTURES[0])
    blurred = np.array(PICTURES[0].resize((32, 32)).resize((256, 256)))
    noisy = (random_noise(picture, var=0.05, rng=0) * 255).astype(np.uint8)
    images = torch.from_numpy(np.stack([blurred, picture, noisy]))
    low, middle, high = measure_images(images)[:, 0].tolist()
    assert low < middle < high


@pytest.mark.parametrize(("level", "expected"), [(0, 0.0), (255, 1.0)])
def test_a_plain_image_has_no_detail_and_one_tone(level: int, expected: float) -> None:
    plain = torch.full((1, 256, 256, 3), level, dtype=torch.uint8)
    assert measure_images(plain).tolist() == [[0.0, expected, 0.0]]


def test_each_image_is_measured_by_itself() -> None:
    together = measure_images(THUMBNAILS)
    apart = torch.cat([measure_images(THUMBNAILS[i : i + 1]) for i in range(5)])
    assert together.equal(apart)


def test_a_perceptual_hash_survives_resizing() -> None:
    pytest.importorskip("pdqhash", reason="the optional package pdqhash is not installed")
    picture = np.array(PICTURES[0])
    small = np.array(PICTURES[0].resize((200, 200)).resize((256, 256)))
    other = np.array(PICTURES[1])

    def distance(left: np.ndarray, right: np.ndarray) -> int:
        pair = [int.from_bytes(perceptual_hash(image), "big") for image in (left, right)]
        return (pair[0] ^ pair[1]).bit_count()

    assert len(perceptual_hash(picture)) == 32
    assert distance(picture, small) <= 31
    assert distance(picture, other) > 60


def test_a_thumbnail_from_pillow_is_measured_alike() -> None:
    image = torch.from_numpy(np.array(Image.new("RGB", (256, 256), (255, 0, 0))))
    assert brightness(to_gray(image[None])).item() == pytest.approx(76 / 255)
