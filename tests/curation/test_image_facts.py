"""Facts are what other programs measure on the same thumbnail."""

import numpy as np
import pdqhash
import pytest
import torch
from PIL import Image
from skimage import data
from skimage.measure import shannon_entropy
from skimage.util import random_noise

from curation.image_facts import (
    MIN_HASH_QUALITY,
    brightness,
    entropy,
    measure_images,
    perceptual_hashes,
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
    low, middle, high = measure_images(images)[0][:, 0].tolist()
    assert low < middle < high


@pytest.mark.parametrize(("level", "expected"), [(0, 0.0), (255, 1.0)])
def test_a_plain_image_has_no_detail_and_one_tone(level: int, expected: float) -> None:
    plain = torch.full((1, 256, 256, 3), level, dtype=torch.uint8)
    facts, hashes = measure_images(plain)
    assert facts.tolist() == [[0.0, expected, 0.0]]
    assert not hashes.any()


def test_each_image_is_measured_by_itself() -> None:
    together = measure_images(THUMBNAILS)
    apart = [measure_images(THUMBNAILS[i : i + 1]) for i in range(5)]
    for one, others in zip(together, zip(*apart, strict=True), strict=True):
        assert one.equal(torch.cat(others))


def photographs() -> torch.Tensor:
    """Give photographs of scikit-image, cut in several ways, as gray thumbnails."""
    pictures = []
    for name in ("astronaut", "coffee", "chelsea", "rocket", "brick", "grass", "moon"):
        picture = Image.fromarray(getattr(data, name)()).convert("L")
        for cut in range(3):
            width, height = picture.size
            box = (cut * width // 8, 0, width, height - cut * height // 9)
            pictures.append(np.array(picture.resize((256, 256), box=box)))
    return torch.from_numpy(np.stack(pictures)).to(torch.int16)


def test_perceptual_hashes_are_those_of_pdqhash() -> None:
    gray = photographs()
    for image, found in zip(gray.numpy(), perceptual_hashes(gray).numpy(), strict=True):
        rgb = np.repeat(image.astype(np.uint8)[:, :, None], 3, axis=2)
        bits, quality = pdqhash.compute(rgb)
        expected = np.packbits(bits.astype(np.uint8)) * (quality >= MIN_HASH_QUALITY)
        assert np.bitwise_count(found ^ expected).sum() <= 1  # of rounding at the median


def test_a_perceptual_hash_survives_resizing_and_others_are_far() -> None:
    picture = PICTURES[0]
    small = picture.resize((200, 200)).resize((256, 256))
    images = np.stack([np.array(one) for one in (picture, small, PICTURES[1])])
    one, edited, other = perceptual_hashes(to_gray(torch.from_numpy(images))).numpy()
    assert np.bitwise_count(one ^ edited).sum() <= 31
    assert np.bitwise_count(one ^ other).sum() > 60


def test_images_with_too_few_features_have_no_perceptual_hash() -> None:
    level = torch.arange(256, dtype=torch.int16)
    slope, noise = level.expand(256, 256), photographs()[0]
    found = perceptual_hashes(torch.stack([slope, noise, torch.zeros_like(noise)]))
    assert found.any(dim=1).tolist() == [False, True, False]


def test_a_thumbnail_from_pillow_is_measured_alike() -> None:
    image = torch.from_numpy(np.array(Image.new("RGB", (256, 256), (255, 0, 0))))
    assert brightness(to_gray(image[None])).item() == pytest.approx(76 / 255)
