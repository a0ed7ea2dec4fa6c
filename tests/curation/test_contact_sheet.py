"""Contact sheets hold one picture per image, also for hostile bytes."""

import io

import pytest
from PIL import Image

from curation.contact_sheet import SIDE, contact_sheet
from curation.errors import DataError
from curation.image_decoding import decode_with_pillow, read_header
from curation.testing.odd_pictures import pillows_verdict
from curation.testing.pictures import encode, make_picture


def image(colour: tuple[int, int, int], size: tuple[int, int] = (300, 200)) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", size, colour).save(out, "PNG")
    return out.getvalue()


def opened(sheet: bytes) -> Image.Image:
    return Image.open(io.BytesIO(sheet)).convert("RGB")


def test_pictures_stand_in_rows_in_their_order() -> None:
    colours = [(250, 0, 0), (0, 250, 0), (0, 0, 250)]
    sheet = opened(contact_sheet([image(colour) for colour in colours], columns=2))
    assert sheet.size == (2 * SIDE, 2 * SIDE)
    for position, colour in enumerate(colours):
        centre = (position % 2 * SIDE + SIDE // 2, position // 2 * SIDE + SIDE // 2)
        found = sheet.getpixel(centre)
        assert isinstance(found, tuple)
        assert all(abs(a - b) < 12 for a, b in zip(found, colour, strict=True))


def ink(sheet: Image.Image) -> int:
    """Count the pixels of a sheet that are as light as text."""
    return sum(min(pixel) > 200 for pixel in zip(*[iter(sheet.tobytes())] * 3, strict=True))


@pytest.mark.parametrize("data", [b"", b"<html>", image((0, 0, 0))[:60]])
def test_what_cannot_be_read_shows_as_red_with_the_reason(data: bytes) -> None:
    sheet = opened(contact_sheet([data])).crop((4, 4, SIDE - 4, SIDE - 4))
    red, green, _ = sheet.getpixel((SIDE // 2, SIDE - 12))  # type: ignore[misc]
    assert red > 150 > green
    assert ink(sheet) > 30
    told = contact_sheet([data], reasons=["cut off"])
    assert told == contact_sheet([b"other"], reasons=["cut off"]) != contact_sheet([data])


def test_a_damaged_image_says_what_pillow_says() -> None:
    jpeg = encode(make_picture(), "JPEG")
    cut = jpeg[: len(jpeg) // 2]
    with pytest.raises(DataError, match="truncated") as refused:
        decode_with_pillow(cut)
    reason = str(refused.value).removeprefix("can't be decoded: ")
    assert contact_sheet([cut]) == contact_sheet([b""], reasons=[reason])


@pytest.mark.parametrize("format", ["PCX", "TGA", "SGI", "EPS"])
def test_a_format_that_no_dataset_has_is_not_opened(format: str) -> None:
    """To show EPS, Pillow would run Ghostscript on it."""
    other = encode(make_picture(), format)
    assert isinstance(pillows_verdict(other), Image.Image) or format == "EPS"
    with pytest.raises(DataError, match="no image of a known format") as refused:
        read_header(other)
    reason = str(refused.value)
    assert contact_sheet([other]) == contact_sheet([b""], reasons=[reason])


@pytest.mark.parametrize("reason", ["x" * 500, "a b " * 99, "żółć\x1b[2J\n日本", " ", "\0"])
@pytest.mark.parametrize("side", [12, SIDE])
def test_any_reason_fits_its_square(reason: str, side: int) -> None:
    sheet = opened(contact_sheet([b"", image((0, 200, 0))], side=side, reasons=[reason]))
    assert sheet.size == (2 * side, side)
    red, green, _ = sheet.getpixel((side + side // 2, side // 2))  # type: ignore[misc]
    assert green > 150 > red


def test_an_image_that_can_be_read_is_shown_whatever_is_said_against_it() -> None:
    good = image((0, 0, 200))
    assert contact_sheet([good], reasons=["too dark"]) == contact_sheet([good])


def test_an_enormous_image_is_not_decoded() -> None:
    header = image((0, 0, 0))
    width = (60_000).to_bytes(4, "big")
    bomb = header[:16] + width + width + header[24:]
    assert opened(contact_sheet([bomb])).size == (SIDE, SIDE)


def test_no_images_give_an_empty_sheet() -> None:
    assert opened(contact_sheet([])).size == (SIDE, SIDE)
