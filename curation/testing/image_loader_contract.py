"""What every image loader must do, as tests that a member's test class inherits."""

import io
from abc import ABC, abstractmethod
from dataclasses import replace

import pytest
from PIL import Image, ImageOps

from curation.image_loaders.base import (
    EncodedImage,
    ImageBatch,
    ImageLoader,
    LoaderSettings,
)
from curation.image_loaders.pillow import PillowImageLoader
from curation.image_transform import ImageTransform
from curation.testing.odd_pictures import (
    DAMAGES,
    damaged_copies,
    odd_pictures,
    pictures_to_damage,
    pillows_verdict,
)
from curation.testing.pictures import (
    bomb_png,
    damaged_pictures,
    encode,
    encoded_pictures,
    make_picture,
)

SMALL = ImageTransform(height=32, width=32, resize=(36, 36))
SETTINGS = LoaderSettings(batch_size=8)
TRANSFORMS = {
    "shortest": SMALL,
    "bilinear": replace(SMALL, interpolation="bilinear"),
    "upscaled": replace(SMALL, height=128, width=128, resize=(144, 144)),
    "squash": replace(SMALL, rule="squash"),
    "cover": replace(SMALL, height=24, width=40, resize=(28, 46), rule="cover"),
    "fit": replace(SMALL, rule="fit", resize=(32, 32), fill=(12, 130, 250)),
    "padded": replace(SMALL, rule="squash", resize=(21, 26)),
}
SIZES = [(80, 60), (60, 80), (64, 64), (500, 31), (31, 500), (1, 1), (3, 200), (37, 36)]


class ImageLoaderContract(ABC):
    """Subclass it as ``Test…`` and say how to make a loader."""

    mean_difference = 0.1
    """Of 255, from Pillow's resize: two of three values rounded otherwise at most."""
    max_difference = 4

    @abstractmethod
    def make(self, transform: ImageTransform, settings: LoaderSettings) -> ImageLoader:
        """Make a loader for CPU tensors."""

    def load(self, *data: bytes, loader: ImageLoader | None = None) -> list[ImageBatch]:
        """Load images, numbered from 100."""
        loader = loader or self.make(SMALL, SETTINGS)
        return list(loader.load(EncodedImage(100 + i, item) for i, item in enumerate(data)))

    def reference(
        self, transform: ImageTransform, settings: LoaderSettings, *data: bytes
    ) -> list[ImageBatch]:
        return self.load(*data, loader=PillowImageLoader(transform, settings))

    def assert_like(self, found: ImageBatch, expected: ImageBatch) -> None:
        for name in ("pixels", "thumbnails"):
            left = getattr(found, name).numpy().astype(int)
            difference = abs(left - getattr(expected, name).numpy())
            assert difference.mean() <= self.mean_difference, name
            assert difference.max() <= self.max_difference, name

    def test_no_images_give_no_batches(self) -> None:
        assert self.load() == []

    def test_batches_have_a_fixed_size_and_rows_come_back_in_order(self) -> None:
        picture = encode(make_picture(), "PNG")
        batches = self.load(*[picture] * 19)
        assert [len(batch.images) for batch in batches] == [8, 8, 3]
        assert [image.row for batch in batches for image in batch.images] == list(
            range(100, 119)
        )
        for batch in batches:
            assert batch.pixels.shape == (8, 32, 32, 3)
            assert batch.thumbnails.shape == (8, 256, 256, 3)
            assert str(batch.pixels.dtype) == "torch.uint8"

    def test_slots_without_an_image_are_black(self) -> None:
        picture = encode(make_picture(), "PNG")
        (batch,) = self.load(picture, b"garbage", picture)
        for slot in (1, 3, 4, 5, 6, 7):
            assert not batch.pixels[slot].any()
            assert not batch.thumbnails[slot].any()
        assert batch.pixels[0].equal(batch.pixels[2])

    def test_one_loader_serves_many_shards(self) -> None:
        loader = self.make(SMALL, SETTINGS)
        first, second = (encode(make_picture(seed=seed), "JPEG") for seed in (1, 2))
        for _ in range(3):
            (one,) = self.load(first, second, loader=loader)
            (other,) = self.load(second, loader=loader)
            assert one.pixels[1].equal(other.pixels[0])

    @pytest.mark.parametrize("name", TRANSFORMS)
    def test_pixels_are_where_the_reference_has_them(self, name: str) -> None:
        settings = replace(SETTINGS, batch_size=len(SIZES))
        pictures = [encode(make_picture(*size), "PNG") for size in SIZES]
        transform = TRANSFORMS[name]
        loader = self.make(transform, settings)
        (found,) = self.load(*pictures, loader=loader)
        (expected,) = self.reference(transform, settings, *pictures)
        assert found.images == expected.images
        self.assert_like(found, expected)

    @pytest.mark.parametrize("name", encoded_pictures())
    def test_every_format_is_decoded_by_its_content(self, name: str) -> None:
        data = encoded_pictures()[name]
        (found,) = self.load(data)
        (expected,) = self.reference(SMALL, SETTINGS, data)
        assert found.images[0].error is None
        assert found.images[0].format == name.split("_", 1)[0]
        assert found.images == expected.images
        self.assert_like(found, expected)

    def test_colours_and_modes_are_pillows(self) -> None:
        """Of every file that Pillow reads, however it is made, and of no other."""
        pictures = odd_pictures()
        names = list(pictures)
        read = [
            not isinstance(pillows_verdict(pictures[name]), Exception) for name in names
        ]
        found = self.load(*pictures.values())
        expected = self.reference(SMALL, SETTINGS, *pictures.values())
        images = [image for batch in found for image in batch.images]
        wrong = [
            n for n, i, r in zip(names, images, read, strict=True) if bool(i.error) == r
        ]
        assert not wrong
        for ours, theirs in zip(found, expected, strict=True):
            assert ours.images == theirs.images
            self.assert_like(ours, theirs)

    @pytest.mark.parametrize("name", pictures_to_damage())
    def test_what_pillow_refuses_is_refused_and_nothing_else(self, name: str) -> None:
        damaged = [
            data
            for damage in DAMAGES
            for data in damaged_copies(pictures_to_damage()[name], damage, 5)
        ]
        images = [image for batch in self.load(*damaged) for image in batch.images]
        read = [not isinstance(pillows_verdict(data), Exception) for data in damaged]
        assert [image.error is None for image in images] == read
        assert not any(image.corruption for image in images)

    def test_what_pillow_refuses_can_be_kept_with_its_reason(self) -> None:
        keeping = self.make(SMALL, replace(SETTINGS, on_corruption="keep"))
        damaged = list(
            damaged_copies(pictures_to_damage()["JPEG"], "sector overwritten", 8)
        )
        refused = [isinstance(pillows_verdict(data), Exception) for data in damaged]
        assert True in refused
        (batch,) = self.load(*damaged, loader=keeping)
        assert [image.corruption is not None for image in batch.images] == refused
        for slot, image in enumerate(batch.images):
            assert image.error is None
            assert image.corruption is None or "broken data stream" in image.corruption
            assert (image.format, image.width, image.height) == ("jpeg", 160, 120)
            assert batch.pixels[slot].any()

    @pytest.mark.parametrize(
        ("data", "reason"),
        [
            (b"<html>", "no image"),
            (bomb_png(30_000, 5_000), "too many pixels"),
            (encode(make_picture(), "JPEG")[:-200], "truncated"),
            (encode(make_picture(), "GIF")[:-200], "can't be decoded"),
        ],
        ids=["page", "bomb", "cut", "gif"],
    )
    def test_what_no_decoder_gives_pixels_for_is_not_kept(
        self, data: bytes, reason: str
    ) -> None:
        keeping = replace(SETTINGS, on_corruption="keep", max_pixels=10_000_000)
        (batch,) = self.load(data, loader=self.make(SMALL, keeping))
        assert reason in (batch.images[0].error or "")
        assert batch.images[0].corruption is None
        assert not batch.pixels[0].any()

    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_exif_turns_images_if_told_to(self, orientation: int) -> None:
        exif = Image.Exif()
        exif[0x0112] = orientation
        data = encode(make_picture(), "PNG", exif=exif)
        upright = encode(ImageOps.exif_transpose(Image.open(io.BytesIO(data))), "PNG")
        turning = self.make(SMALL, replace(SETTINGS, rotate_by_exif=True))
        (found,) = self.load(data, loader=turning)
        (expected,) = self.reference(SMALL, SETTINGS, upright)
        self.assert_like(found, expected)
        assert (found.images[0].width, found.images[0].height) == (80, 60)
        (ignored,) = self.load(data)
        (expected,) = self.reference(SMALL, SETTINGS, encode(make_picture(), "PNG"))
        self.assert_like(ignored, expected)

    @pytest.mark.parametrize(
        ("data", "reason"),
        [
            (b"", "empty"),
            (b"<!DOCTYPE html><p>404 Not Found</p>", "begins with b'<!DOCTYPE html>"),
            (bytes(3000), "no image"),
            (encode(make_picture(), "JPEG")[:-200], "truncated"),
            (encode(make_picture(), "JPEG")[:300], "can't be decoded"),
            (encode(make_picture(), "PNG")[:-400], "can't be decoded"),
            (encode(make_picture(), "WEBP")[:-20], "can't be decoded"),
            (bomb_png(30_000, 5_000), "too many pixels: 30000 x 5000"),
            (encode(Image.new("L", (1, 9_000)), "PNG"), "too long and thin: 1 x 9000"),
        ],
        ids=lambda value: value if isinstance(value, str) else "",
    )
    def test_what_cannot_be_decoded_says_why(self, data: bytes, reason: str) -> None:
        loader = self.make(SMALL, replace(SETTINGS, max_pixels=10_000_000))
        good = encode(make_picture(), "JPEG")
        (batch,) = self.load(good, data, good, loader=loader)
        assert batch.images[0].error is None
        assert batch.images[2].error is None
        assert reason in (batch.images[1].error or "")

    def test_damage_costs_no_other_image_a_bit(self) -> None:
        """Good images among damaged ones have exactly their pixels of a clean run."""
        loader = self.make(SMALL, replace(SETTINGS, max_pixels=1_000_000))
        good = list(encoded_pictures().values())
        damaged = [data for _, data in damaged_pictures(400)]
        mixed = [good[i % len(good)] if i % 3 == 0 else damaged.pop() for i in range(500)]
        clean = [good[i % len(good)] if i % 3 == 0 else good[0] for i in range(500)]
        for found, expected in zip(
            self.load(*mixed, loader=loader), self.load(*clean, loader=loader), strict=True
        ):
            for slot, image in enumerate(found.images):
                assert (image.error is None) or image.error.strip()
                if (image.row - 100) % 3 == 0:
                    assert image.error is None
                    assert found.pixels[slot].equal(expected.pixels[slot])
                    assert found.thumbnails[slot].equal(expected.thumbnails[slot])
