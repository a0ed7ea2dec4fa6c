"""Formats by first bytes, against what Pillow wrote."""

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from curation.image_decoding import read_pillow_header
from curation.image_kinds import HEAD_BYTES, explain_no_image, image_extension, other_kind
from curation.recipe import ImageSettings

FORMATS = {
    "JPEG": "jpg", "PNG": "png", "WEBP": "webp", "GIF": "gif", "BMP": "bmp",
    "TIFF": "tif", "JPEG2000": "jp2", "AVIF": "avif",
}  # fmt: skip


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("size", [(1, 1), (40, 32)])
def test_every_format_that_recipes_look_for_is_known_by_its_bytes(
    name: str, size: tuple[int, int]
) -> None:
    stored = io.BytesIO()
    Image.fromarray(np.zeros((*size, 3), np.uint8)).save(stored, name)
    found = image_extension(stored.getvalue()[:HEAD_BYTES])
    assert found == FORMATS[name]
    assert found in ImageSettings().extensions


def test_big_endian_tiffs_are_tiffs() -> None:
    stored = io.BytesIO()
    Image.fromarray(np.zeros((4, 4), ">u2")).save(stored, "TIFF", big_tiff=False)
    head = b"MM\0*" + stored.getvalue()[4:HEAD_BYTES]
    assert image_extension(head) == "tif"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"<!DOCTYPE html><html>",
        b'{"error": "not found"}',
        b"%PDF-1.7",
        b"RIFF\x24\0\0\0WAVEfmt ",
        b"BM, said the letter, is no bitmap at all",
        b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom",
        b"\0\0\0\x18ftypheic\0\0\0\0mif1heic",
        b"\xff\xd8",
    ],
)
def test_what_is_no_image_is_told_by_its_begin(data: bytes) -> None:
    assert image_extension(data) is None
    assert explain_no_image(data).startswith("the file is empty" if not data else "no ima")


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"%PDF-1.7", "PDF"),
        (b"8BPS\0\1", "a Photoshop file (PSD)"),
        (b"\xef\xbb\xbf\n  <SVG xmlns=", "SVG"),
        (b"<?xml version='1.0'?><svg>", "SVG"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic", "HEIC"),
        (b"\0\0\0\x18ftypcrx \0\0\0\1crx isom", "a camera's raw file (CR3)"),
        (b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom", "a video (MP4)"),
        (b"\xff\x0a\xfa\x1f", "JPEG XL"),
        (b"\0\0\1\0\1\0", "an icon (ICO)"),
        (b"II\xbc\1", "JPEG XR"),
        (b"FUJIFILMCCD-RAW 0201", "a camera's raw file (RAF)"),
        (b"\x1f\x8b\x08\0", "a gzip file"),
    ],
)
def test_files_of_other_kinds_are_called_by_their_names(data: bytes, name: str) -> None:
    assert other_kind(data) == name
    assert explain_no_image(data) == f"no image of a known format: it is {name}"
    assert image_extension(data) is None


@given(st.binary(max_size=HEAD_BYTES))
def test_any_bytes_have_an_answer(head: bytes) -> None:
    assert image_extension(head) in (None, *FORMATS.values())


def test_a_brand_that_is_only_compatible_counts() -> None:
    stored = io.BytesIO()
    Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(stored, "AVIF")
    data = stored.getvalue()
    at = int.from_bytes(data[:4], "big")
    other = (at + 4).to_bytes(4, "big") + b"ftypmif1" + data[12:at] + b"avif" + data[at:]
    assert image_extension(other[:HEAD_BYTES]) == "avif"
    assert read_pillow_header(data).format == "avif"
