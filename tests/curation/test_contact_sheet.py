"""Contact sheets hold one picture per image, also for hostile bytes."""

import io

import pytest
from PIL import Image

from curation.contact_sheet import SIDE, contact_sheet


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


@pytest.mark.parametrize("data", [b"", b"<html>", image((0, 0, 0))[:60]])
def test_what_cannot_be_read_shows_as_red(data: bytes) -> None:
    red, green, _ = opened(contact_sheet([data])).getpixel((SIDE // 2, SIDE // 2))  # type: ignore[misc]
    assert red > 150 > green


def test_an_enormous_image_is_not_decoded() -> None:
    header = image((0, 0, 0))
    width = (60_000).to_bytes(4, "big")
    bomb = header[:16] + width + width + header[24:]
    assert opened(contact_sheet([bomb])).size == (SIDE, SIDE)


def test_no_images_give_an_empty_sheet() -> None:
    assert opened(contact_sheet([])).size == (SIDE, SIDE)
