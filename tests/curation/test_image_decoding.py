"""Decoders agree with Pillow, and hostile bytes cost one image at most."""

import io
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from curation.errors import DataError
from curation.image_decoding import (
    decode_damaged,
    decode_image,
    decode_with_pillow,
    decodes,
    exif_orientation,
    read_damaged_header,
    read_header,
    read_pillow_header,
    turned,
)
from curation.testing.odd_pictures import (
    DAMAGES,
    damaged_copies,
    odd_pictures,
    pictures_to_damage,
    pillows_verdict,
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


@pytest.mark.parametrize("name", odd_pictures())
def test_every_colour_space_is_pillows_or_refused_as_by_pillow(name: str) -> None:
    """CMYK without Adobe's marker, RGB in a JPEG, Lab, two bytes a channel …."""
    data = odd_pictures()[name]
    expected = pillows_verdict(data)
    if isinstance(expected, Exception):
        with pytest.raises(DataError):
            decode_image(data, read_header(data))
        return
    found = decode_image(data, read_header(data))
    if name != "tiff_I_16":  # keeps its upper bits
        np.testing.assert_array_equal(found, np.asarray(expected))
    np.testing.assert_array_equal(found, decode_with_pillow(data))


DOCS = Path(__file__).parents[2] / "docs" / "images.md"
COPIES = 15


def test_the_table_of_damages_is_true() -> None:
    """What Pillow refuses is refused, and nothing else; the docs say how much that is."""
    rows = [["", *DAMAGES], ["---"] * (len(DAMAGES) + 1)]
    for name, picture in pictures_to_damage().items():
        row = [damage_cell(picture, damage) for damage in DAMAGES]
        rows.append([name, *row])
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    if os.environ.get("WRITE_TABLES"):
        begin, end = "<!-- damage -->\n", "<!-- end of damage -->"
        before, _, rest = DOCS.read_text().partition(begin)
        DOCS.write_text(f"{before}{begin}{table}\n{end}{rest.partition(end)[2]}")
    assert table in DOCS.read_text(), f"with these versions of the decoders it is\n{table}"


def damage_cell(picture: bytes, damage: str) -> str:
    refused = had = 0
    for data in damaged_copies(picture, damage, COPIES):
        bad = isinstance(pillows_verdict(data), Exception)
        assert bad == isinstance(
            outcome(lambda d: decode_image(d, read_header(d)), data), str
        )
        refused += bad
        had += bad and not isinstance(outcome(whatever_can_be_had, data), str)
    return f"{refused} + {had}" if had else f"{refused}"


def whatever_can_be_had(data: bytes) -> np.ndarray:
    read_damaged_header(data)
    return decode_damaged(data)


def outcome(decode: Callable[[bytes], np.ndarray], data: bytes) -> np.ndarray | str:
    try:
        return decode(data)
    except DataError as error:
        return str(error)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "it is HEIC"),
        (b"\xff\x0a\xfa\x1f\x41\x91\x08", "it is JPEG XL"),
        (b"\0\0\0\x0cJXL \r\n\x87\n\0\0\0\x14ftypjxl ", "it is JPEG XL"),
        (b"8BPS\0\1", "Photoshop"),
        (b"<?xml version='1.0'?>\n<svg xmlns='http://www.w3.org/2000/svg'/>", "it is SVG"),
        (odd_pictures()["jpeg_12_bit"], "JPEG: cannot handle 12-bit layers"),
        (
            odd_pictures()["png_text_with_a_wrong_checksum"],
            "PNG: broken PNG file .*checksum",
        ),
        (b"II*\0\x08\0\0\0\0\0", "TIFF: "),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_can_not_be_decoded_is_called_what_it_is(data: bytes, reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        read_header(data)


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


def test_only_plain_jpegs_and_pngs_reach_nvimgcodec() -> None:
    codecs = {name: read_header(data).codec for name, data in encoded_pictures().items()}
    plain = {name for name, codec in codecs.items() if codec == "nvimgcodec"}
    known = {name for name in encoded_pictures() if name.startswith(("jpeg", "png"))}
    assert plain == known - {"jpeg_cmyk", "png_16_bit"}


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


@pytest.mark.parametrize("read", [read_header, read_pillow_header, read_damaged_header])
def test_an_image_of_hundreds_of_scans_is_refused_before_it_is_decoded(
    read: Callable[[bytes], object],
) -> None:
    data = encode(Image.new("RGB", (3000, 3000)), "JPEG", progressive=True)
    endless = data[:-2] + data[data.rfind(b"\xff\xda") : -2] * 290 + b"\xff\xd9"
    with pytest.raises(DataError, match="too many scans: a JPEG of 3000 x 3000 pixels"):
        read(endless)
