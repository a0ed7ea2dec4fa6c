"""A plain JPEG is one that all decoders take, and take alike, whatever happened to it."""

import random
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from curation.errors import DataError
from curation.image_decoding import decode_damaged, read_header, read_pillow_header
from curation.jpeg_markers import (
    MOST_SCANS,
    USUAL_SCANS,
    has_endless_header,
    has_endless_scans,
    read_plain_jpeg,
)
from curation.testing.odd_pictures import (
    DAMAGES,
    damaged_copies,
    odd_pictures,
    pictures_to_damage,
    pillows_verdict,
)
from curation.testing.pictures import encode, encoded_pictures, make_picture
from tests.timms_answers import photographs

PICTURES = encoded_pictures()
JPEGS = {name: data for name, data in pictures_to_damage().items() if "JPEG" in name[:5]}
NOT_PLAIN = {
    "jpeg_rgb", "jpeg_rgb_without_adobe", "jpeg_ycc_said_to_be_rgb", "jpeg_ycck",
    "jpeg_cmyk_without_adobe", "jpeg_without_its_end", "jpeg_with_junk_between_segments",
    "jpeg_with_fill_bytes", "jpeg_with_fill_before_its_end", "jpeg_12_bit",
}  # fmt: skip


@pytest.mark.parametrize("name", odd_pictures())
def test_odd_files_are_plain_where_they_mean_one_thing(name: str) -> None:
    plain = read_plain_jpeg(odd_pictures()[name])
    assert (plain is not None) == (name.startswith("jpeg") and name not in NOT_PLAIN)


def test_a_plain_jpeg_says_its_size() -> None:
    for size in ((1, 1), (33, 17), (300, 5)):
        plain = read_plain_jpeg(encode(make_picture(*size), "JPEG"))
        assert plain is not None
        assert (plain.width, plain.height) == size


@pytest.mark.parametrize("restarts", [0, 1])
def test_files_of_several_blocks_are_looked_through(restarts: int) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (900, 1200, 3), dtype=np.uint8)
    options = {"quality": 100, "subsampling": 0, "restart_marker_blocks": restarts}
    data = encode(Image.fromarray(noise), "JPEG", **options)
    assert len(data) > 2 << 20
    assert read_plain_jpeg(data)
    for place in (1 << 20, (1 << 20) - 1, len(data) - 3):
        assert read_plain_jpeg(data[:place] + b"\xff\x37" + data[place + 2 :]) is None
        assert read_plain_jpeg(data[:place]) is None


def test_a_file_that_is_all_markers_costs_no_memory() -> None:
    data = encode(make_picture(), "JPEG")
    hostile = data[:2] + (b"\xff\xfe\xff\xff" + b"\xff" * 65533) * 200 + data[2:]
    tracemalloc.start()
    try:
        assert read_plain_jpeg(hostile)
        assert tracemalloc.get_traced_memory()[1] < 64 << 20
    finally:
        tracemalloc.stop()


def test_good_photographs_are_plain() -> None:
    """None of them costs more than the look at its markers."""
    assert all(read_plain_jpeg(data) for data in photographs())


@pytest.mark.parametrize("name", JPEGS)
@pytest.mark.parametrize("damage", DAMAGES)
def test_what_is_plain_after_damage_is_read_by_all_alike(name: str, damage: str) -> None:
    for data in damaged_copies(JPEGS[name], damage, 20):
        assert_alike(data)


@given(st.sampled_from(sorted(PICTURES)), st.integers(0), st.binary(max_size=3))
def test_a_header_with_any_bytes_is_plain_only_if_all_read_it(
    name: str, place: int, wrong: bytes
) -> None:
    data = bytearray(PICTURES[name])
    place %= data.find(b"\xff\xda") + 14 if name.startswith("jpeg") else 60
    data[place : place + len(wrong)] = wrong
    assert_alike(bytes(data))


def test_headers_wrong_in_one_byte_are_plain_only_if_all_read_them() -> None:
    """Of tables, of components, of scans: what libjpeg finds impossible is not plain."""
    chosen = random.Random(5)
    jpegs = [encode(make_picture(24, 16), "JPEG"), PICTURES["jpeg_progressive"]]
    for _ in range(1500):
        data = bytearray(chosen.choice(jpegs))
        starts = [at for at in range(len(data) - 1) if data[at : at + 2] == b"\xff\xda"]
        place = chosen.choice([chosen.randrange(2, starts[0] + 14), *starts])
        data[place + chosen.randrange(14) * (place in starts)] = chosen.randrange(256)
        assert_alike(bytes(data))


def assert_alike(data: bytes) -> None:
    """Hold a file that is plain to the readers that it may go to."""
    plain = read_plain_jpeg(data)
    if plain is None or plain.width * plain.height > 1_000_000:
        return
    if plain.is_looked_into:
        try:
            read_pillow_header(data)
        except DataError:
            return  # it is not given to another decoder then
    verdict = pillows_verdict(data)
    assert not isinstance(verdict, Exception), verdict
    assert verdict.size == (plain.width, plain.height)
    np.testing.assert_array_equal(decode_damaged(data), np.asarray(verdict))


def with_scans(picture: Image.Image, scans: int) -> bytes:
    """Write a progressive JPEG, and repeat its last scan."""
    data = encode(picture, "JPEG", progressive=True)
    more = scans - data.count(b"\xff\xda")
    return data[:-2] + data[data.rfind(b"\xff\xda") : -2] * more + b"\xff\xd9"


def test_few_scans_pass_at_any_size_and_many_only_of_small_images() -> None:
    data = with_scans(make_picture(24, 16), 30)
    assert read_plain_jpeg(data) is not None
    assert not has_endless_scans(data, 24, 16)
    assert not has_endless_scans(data, 8_000, 8_000)  # what optimizers write
    assert has_endless_scans(data, 10_000, 10_000)
    assert has_endless_scans(with_scans(make_picture(24, 16), MOST_SCANS + 1), 24, 16)
    usual = with_scans(make_picture(24, 16), USUAL_SCANS)
    assert not has_endless_scans(usual, 65_500, 65_500)


def test_what_looks_like_a_scan_in_metadata_is_none() -> None:
    comment = b"\xff\xfe" + (2 + 60_000).to_bytes(2, "big") + b"\xff\xda" * 30_000
    data = encode(make_picture(24, 16), "JPEG")
    assert not has_endless_scans(data[:2] + comment + data[2:], 24, 16)
    assert not has_endless_scans(data + b"\xff\xda" * 30_000, 24, 16)


def test_scans_after_the_only_one_of_a_sequential_image_are_not_read() -> None:
    data = encode(make_picture(24, 16), "JPEG")
    scan = data[data.index(b"\xff\xda") : -2]
    more = data[:-2] + scan * (MOST_SCANS + 1) + b"\xff\xd9"
    assert not has_endless_scans(more, 24, 16)
    assert isinstance(pillows_verdict(more), OSError)  # it gives up at the second


def test_scans_of_single_components_count() -> None:
    data = encode(make_picture(24, 16).convert("L"), "JPEG")
    frame, scan = data.index(b"\xff\xc0"), data.index(b"\xff\xda")
    table = data[frame + 12 : frame + 13]
    components = b"".join(bytes([i, 0x11]) + table for i in (1, 2, 3))
    header = b"\xff\xc0\x00\x11" + data[frame + 4 : frame + 9] + b"\x03" + components
    # each plane is the same gray picture
    scans = [data[scan : scan + 5] + bytes([i]) + data[scan + 6 : -2] for i in (1, 2, 3)]
    start = data[:frame] + header + data[frame + 13 : scan]
    few = start + b"".join(scans) + b"\xff\xd9"
    assert pillows_verdict(few).size == (24, 16)
    assert not has_endless_scans(few, 24, 16)
    many = start + b"".join(scans * (MOST_SCANS // 3 + 1)) + b"\xff\xd9"
    assert has_endless_scans(many, 24, 16)


BEFORE_THE_SCAN = {
    "padding": b"\xff" * 3_000_000,
    "markers": b"\xff\xe5\x00\x02" * 150_000,
    "zeros": bytes(3_000_000),
    "escapes": b"\xff\x00" * 99_999,
    "restarts": b"\xff\xd0" * 99_999,
    "markers without a length": b"\xff\xf0?" * 70_000,
}


@pytest.mark.parametrize("before", BEFORE_THE_SCAN.values(), ids=BEFORE_THE_SCAN)
def test_a_header_that_takes_long_to_open_is_refused(before: bytes) -> None:
    jpeg = encode(make_picture(64, 64), "JPEG")
    with pytest.raises(DataError, match="too many markers"):
        read_header(jpeg[:2] + before + jpeg[2:])


@pytest.mark.parametrize("jpeg", JPEGS.values(), ids=JPEGS)
def test_no_header_of_a_picture_takes_long(jpeg: bytes) -> None:
    assert not has_endless_header(jpeg)
    assert not has_endless_header(jpeg[:2] + b"\xff\xe1\xff\xff" + bytes(65_533) + jpeg[2:])
