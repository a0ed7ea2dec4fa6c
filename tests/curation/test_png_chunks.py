"""A plain PNG is one that Pillow and nvImageCodec take alike, whoever wrote it."""

import random
import struct
import zlib
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.errors import DataError
from curation.image_decoding import decode_image, read_header
from curation.png_chunks import is_plain_png
from curation.testing.odd_pictures import (
    DAMAGES,
    damaged_copies,
    odd_pictures,
    pictures_to_damage,
    pillows_verdict,
    png_chunk,
)
from curation.testing.pictures import encode, encoded_pictures, make_picture

WIDTH, HEIGHT = 40, 30
PICTURE = make_picture(WIDTH, HEIGHT)
ROWS = [row.tobytes() for row in np.asarray(PICTURE)]
RAW = b"".join(b"\0" + row for row in ROWS)
STREAM = zlib.compress(RAW)
PNGS = {
    "rgb": encode(PICTURE, "PNG"),
    "gray": encode(PICTURE.convert("L"), "PNG"),
    "gray and alpha": encode(PICTURE.convert("LA"), "PNG"),
    "alpha": encode(PICTURE.convert("RGBA"), "PNG"),
    "palette": encode(PICTURE.quantize(200), "PNG"),
    "palette of 4 bits": encode(PICTURE.quantize(16), "PNG", bits=4),
    "palette and alpha": encode(PICTURE.quantize(9), "PNG", transparency=b"\0\x80\xff"),
    "one bit": encode(PICTURE.convert("1"), "PNG"),
}
NOT_PLAIN = {
    "png_rgb_16_bit", "png_gray_alpha_16_bit", "png_interlaced", "png_animated",
    "png_text_with_a_wrong_checksum", "png_without_its_end",
}  # fmt: skip


def written(
    stream: bytes, width: int = WIDTH, height: int = HEIGHT, part: int = 0
) -> bytes:
    """Write RGB by a stream that may be wrong, with checksums that are right."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    part = part or max(len(stream), 1)
    parts = [stream[at : at + part] for at in range(0, max(len(stream), 1), part)]
    data = b"".join(png_chunk(b"IDAT", one) for one in parts)
    end = png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + data + end


STREAMS = {
    "good": written(STREAM),
    "in parts": written(STREAM, part=7),
    "rows lack": written(zlib.compress(RAW[:-300])),
    "a byte lacks": written(zlib.compress(RAW[:-1])),
    "a row too many": written(zlib.compress(RAW + RAW[:121])),
    "no filter": written(zlib.compress(RAW.replace(b"\0" + ROWS[5], b"\7" + ROWS[5]))),
    "wrong Adler": written(STREAM[:-1] + bytes([STREAM[-1] ^ 1])),
    "no Adler": written(STREAM[:-4]),
    "cut": written(STREAM[:-90]),
    "empty": written(b""),
    "something behind it": written(STREAM + b"junk" * 9),
    "twice": written(STREAM * 2),
    "bare deflate": written(STREAM[2:-4]),
    "large window": written(b"\x88\x1c" + STREAM[2:]),
    "small window": written(b"\x08\x1d" + STREAM[2:]),
    "dictionary": written(b"\x78\xbb" + bytes(4) + STREAM[2:]),
    "wider": written(STREAM, width=WIDTH + 1),
    "narrower": written(STREAM, width=WIDTH - 1),
    "higher": written(STREAM, height=HEIGHT + 1),
    "lower": written(STREAM, height=HEIGHT - 1),
    "without pixels": written(STREAM, width=0),
}
TOO_MUCH = {"twice", "lower", "without pixels"}
"""More image data than the image needs, whatever is in them."""


@pytest.mark.parametrize("name", odd_pictures())
def test_odd_files_are_plain_where_they_mean_one_thing(name: str) -> None:
    plain = is_plain_png(odd_pictures()[name])
    assert plain == (name.startswith("png") and name not in NOT_PLAIN)


@pytest.mark.parametrize("name", PNGS)
def test_good_files_are_plain(name: str) -> None:
    assert read_header(PNGS[name]).codec == "nvimgcodec"
    assert_alike(PNGS[name])


@pytest.mark.parametrize("name", STREAMS)
def test_a_wrong_stream_under_right_checksums_has_pillows_verdict(name: str) -> None:
    assert is_plain_png(STREAMS[name]) == (name not in TOO_MUCH)
    assert_alike(STREAMS[name])


@given(st.integers(0, len(STREAM) - 1), st.binary(min_size=1, max_size=3))
def test_any_wrong_stream_has_pillows_verdict(place: int, wrong: bytes) -> None:
    assert_alike(written(STREAM[:place] + wrong + STREAM[place + len(wrong) :]))


_KINDS = (
    b"gAMA cHRM sRGB pHYs tIME iCCP sBIT bKGD hIST tRNS PLTE cICP eXIf tEXt zTXt acTL IDAT"
)


@given(
    st.sampled_from(sorted(PNGS)),
    st.sampled_from([*_KINDS.split(), b"prVt", b"CRIT", b"IHDR", b"IEND"]),
    st.binary(max_size=40),
    st.booleans(),
)
def test_any_chunk_anywhere_has_pillows_verdict(
    name: str, kind: bytes, content: bytes, at_the_end: bool
) -> None:
    png = PNGS[name]
    place = len(png) - 12 if at_the_end else 33
    assert_alike(png[:place] + png_chunk(kind, content) + png[place:])


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_is_damaged_has_pillows_verdict(damage: str) -> None:
    for name, png in pictures_to_damage().items():
        if name.startswith("PNG") and name != "PNG 16 bit":  # keeps its upper bits
            for data in damaged_copies(png, damage, 10):
                assert_alike(data)


def test_a_wrong_byte_anywhere_is_noticed() -> None:
    chosen, png = random.Random(2), encoded_pictures()["png"]
    for place in chosen.sample(range(len(png)), 300):
        wrong = bytes([png[place] ^ chosen.randrange(1, 256)])
        assert not is_plain_png(png[:place] + wrong + png[place + 1 :])
        assert not is_plain_png(png[:place])


def assert_alike(data: bytes) -> None:
    expected = pillows_verdict(data)
    found = None
    with suppress(DataError):
        found = decode_image(data, read_header(data))
    assert (found is None) == isinstance(expected, Exception), expected
    if found is not None:
        np.testing.assert_array_equal(found, np.asarray(expected))


def _with_image_data(stream: bytes, width: int = WIDTH, height: int = HEIGHT) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", stream), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*chunk) for chunk in chunks)


def test_image_data_that_would_be_inflated_for_long_are_left_to_pillow() -> None:
    assert is_plain_png(_with_image_data(STREAM))
    assert is_plain_png(_with_image_data(zlib.compress(RAW, 0)))  # nothing is shorter
    bomb = _with_image_data(zlib.compress(RAW + bytes(10_000_000)))
    assert not is_plain_png(bomb)
    header = read_header(bomb)
    assert header.codec == "pillow"
    np.testing.assert_array_equal(decode_image(bomb, header), np.asarray(PICTURE))
    assert not is_plain_png(_with_image_data(bytes(20 << 20), 10_000, 10_000))
