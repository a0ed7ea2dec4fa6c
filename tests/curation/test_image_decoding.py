"""Decoders agree with Pillow, and hostile bytes cost one image at most."""

import io
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from curation.errors import DataError
from curation.image_decoding import (
    decode_image,
    decode_with_pillow,
    decodes,
    exif_orientation,
    read_header,
    read_pillow_header,
    turned,
)
from curation.testing.pictures import (
    damaged_pictures,
    encode,
    encoded_pictures,
    make_picture,
)


@pytest.mark.parametrize("name", encoded_pictures())
def test_pixels_are_those_of_pillow(name: str) -> None:
    data = encoded_pictures()[name]
    found = decode_image(data, read_header(data))
    if name != "png_16_bit":
        expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
        np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(found, decode_with_pillow(data))


def test_16_bit_grayscale_keeps_its_upper_bits() -> None:
    """Pillow's own conversion clips instead, and turns nearly all of it white."""
    data = encoded_pictures()["png_16_bit"]
    deep = np.asarray(Image.open(io.BytesIO(data)))
    found = decode_image(data, read_header(data))
    np.testing.assert_array_equal(found, np.stack([deep >> 8] * 3, axis=2))
    clipped = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    assert (clipped == 255).mean() > 0.95


@pytest.mark.parametrize("name", encoded_pictures())
def test_headers_agree_and_say_the_format_by_content(name: str) -> None:
    data = encoded_pictures()[name]
    header, pillows = read_header(data), read_pillow_header(data)
    assert (header.format, header.width, header.height) == (name.split("_")[0], 80, 60)
    assert (header.format, header.width, header.height) == (
        pillows.format,
        pillows.width,
        pillows.height,
    )


def test_only_formats_that_are_safe_reach_nvimgcodec() -> None:
    codecs = {name: read_header(data).codec for name, data in encoded_pictures().items()}
    safe = {name for name, codec in codecs.items() if codec == "nvimgcodec"}
    assert {name.split("_")[0] for name in safe} == {"jpeg", "png", "webp"}


@given(st.binary(max_size=200))
def test_any_bytes_are_an_image_or_a_reason(data: bytes) -> None:
    with suppress(DataError):
        assert read_header(data).width > 0


def test_thousands_of_damaged_images_leave_the_process_alive() -> None:
    outcomes = {"decoded": 0, "refused": 0}
    for _, data in damaged_pictures(5000):
        try:
            header = read_header(data)
            if header.width * header.height > 1_000_000:
                continue
            pixels = decode_image(data, header)
        except DataError:
            outcomes["refused"] += 1
        else:
            assert pixels.shape == (header.height, header.width, 3)
            assert pixels.dtype == np.uint8
            outcomes["decoded"] += 1
    assert min(outcomes.values()) > 1000


def test_a_cut_image_is_noticed_at_any_length() -> None:
    data = encode(make_picture(), "JPEG")
    for size in range(2, len(data) - 2, 97):
        with pytest.raises(DataError):
            decode_image(data[:size], read_header(data[:size]))


def test_decodes_tells_sound_from_damaged() -> None:
    data = encode(make_picture(), "JPEG")
    assert decodes(data)
    assert not decodes(data[:-100])


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "AVIF", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_are_turned_as_pillow_turns_them(format: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(make_picture(), format, exif=exif)
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
    by_itself = format == "TIFF"  # turned by Pillow's decoder
    assert exif_orientation(data) == (1 if by_itself else orientation)
    found = turned(decode_with_pillow(data), exif_orientation(data))
    np.testing.assert_array_equal(found, np.asarray(expected))


@pytest.mark.parametrize("tag", [b"", b"\x00" * 40, b"Exif\x00\x00MM\x00*\xff\xff\xff\xff"])
def test_damaged_exif_counts_as_none(tag: bytes) -> None:
    picture = make_picture()
    assert exif_orientation(encode(picture, "JPEG", exif=tag) if tag else b"Exif") == 1
