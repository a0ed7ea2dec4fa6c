"""DALI does what every image loader does, by the graph that also runs on a GPU."""

import logging
from dataclasses import replace

import pytest

from curation.errors import InputError
from curation.image_decoding import ImageHeader
from curation.image_loaders.base import EncodedImage, ImageLoader, LoaderSettings
from curation.image_loaders.dali import DaliImageLoader, build_pipeline, region
from curation.image_transform import ImageTransform
from curation.recipe import DaliSettings
from curation.testing.image_loader_contract import (
    SETTINGS,
    SMALL,
    TRANSFORMS,
    ImageLoaderContract,
)
from curation.testing.pictures import damaged_pictures, encode, make_picture

ONE_THREAD = replace(SETTINGS, dali=DaliSettings(num_threads=1))


class TestDaliImageLoader(ImageLoaderContract):
    # images of 500 x 31 pixels squashed to 26 x 21; photographs: benchmarks/parity.py
    mean_difference = 0.4
    max_difference = 12

    def make(self, transform: ImageTransform, settings: LoaderSettings) -> ImageLoader:
        return DaliImageLoader(transform, replace(settings, dali=ONE_THREAD.dali))


def encoded(*data: bytes) -> list[EncodedImage]:
    return [EncodedImage(row, item) for row, item in enumerate(data)]


def png_with_a_wrong_checksum() -> bytes:
    """Make an image that parses and has its end, and can't be decoded all the same."""
    data = bytearray(encode(make_picture(), "PNG"))
    position = data.index(b"IDAT") + 50
    data[position] ^= 0xFF
    return bytes(data)


def test_images_that_exceed_a_runs_pixels_are_shared_among_runs() -> None:
    pictures = encoded(*(encode(make_picture(seed=i), "JPEG") for i in range(8)))
    (whole,) = DaliImageLoader(SMALL, ONE_THREAD).load(pictures)
    few = DaliSettings(num_threads=1, pixels_at_once=3 * 80 * 60)
    (parts,) = DaliImageLoader(SMALL, replace(SETTINGS, dali=few)).load(pictures)
    assert parts.pixels.equal(whole.pixels)
    assert parts.images == whole.images


def test_the_pipeline_is_built_once_for_many_shards(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    loader = DaliImageLoader(SMALL, ONE_THREAD)
    picture = encode(make_picture(), "JPEG")
    for _ in range(20):
        list(loader.load(encoded(picture, picture, b"garbage", picture[:-200])))
    assert [record.getMessage() for record in caplog.records] == [
        "built a DALI pipeline on cpu"
    ]


def test_a_late_failure_is_found_and_the_rest_run_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What only the decoder notices costs one more run, and no other image a bit."""

    class Trusting(DaliImageLoader):
        """Stands for a GPU, whose decoder can fail where libjpeg does not."""

        def _sift(self, image: EncodedImage) -> ImageHeader | None:
            header = super()._sift(image)
            return header or ImageHeader("png", 80, 60, "nvimgcodec")

    loader = Trusting(SMALL, ONE_THREAD)
    pictures = [encode(make_picture(seed=i), "JPEG") for i in range(3)]
    (clean,) = loader.load(encoded(*pictures))
    (mixed,) = loader.load(encoded(*pictures, png_with_a_wrong_checksum()))
    assert mixed.pixels[:3].equal(clean.pixels[:3])
    assert [image.error is None for image in mixed.images] == [True, True, True, False]
    warnings = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
    assert len(warnings) == 1
    assert warnings[0].startswith("DALI failed a batch for 1 of its 4 images")


@pytest.mark.slow
def test_thousands_of_damaged_images_leave_one_process_alive() -> None:
    loader = DaliImageLoader(
        SMALL, replace(ONE_THREAD, batch_size=32, max_pixels=1_000_000)
    )
    damaged = (
        EncodedImage(row, data) for row, (_, data) in enumerate(damaged_pictures(5000, 7))
    )
    images = [image for batch in loader.load(damaged) for image in batch.images]
    assert [image.row for image in images] == list(range(5000))
    assert 1000 < sum(image.error is None for image in images) < 3000


@pytest.mark.parametrize("name", TRANSFORMS)
def test_the_pipeline_for_a_gpu_can_be_described_without_one(name: str) -> None:
    build_pipeline(TRANSFORMS[name], replace(ONE_THREAD, device="cuda:1"))


def test_settings_that_dali_refuses_are_named() -> None:
    refused = DaliSettings.model_construct(num_threads=-1)
    loader = DaliImageLoader(SMALL, replace(SETTINGS, dali=refused))
    with pytest.raises(InputError, match="num_threads=-1"):
        list(loader.load(encoded(encode(make_picture(), "JPEG"))))


def test_the_region_is_what_the_window_shows() -> None:
    transform = ImageTransform(height=224, width=224, resize=(256, 256))
    found = region(transform, ImageHeader("jpeg", 500, 375, "nvimgcodec"))
    # 256 x 341 after resizing, of which rows 16 to 240 and columns 58 to 282 are shown
    left, right = 58 * 500 / 341, 282 * 500 / 341
    assert found.across_start[1] == pytest.approx(left)
    assert found.across_end[1] == pytest.approx(right)
    first = found.across_start[0]
    assert found.down_start[0] + first == pytest.approx(16 * 375 / 256)
    assert found.down_end[0] + first == pytest.approx(240 * 375 / 256)
    assert found.down_size == (224, 224)
    assert found.window_start == (0, 0)
