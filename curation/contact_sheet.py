"""Many small pictures in one, for where people would rather look than read."""

import io
import math
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

from curation.image_decoding import open_image
from curation.quiet_libraries import quiet_libraries

if TYPE_CHECKING:
    from PIL import Image

SIDE = 96  # pixels of one picture
BACKGROUND = (245, 245, 245)
UNREADABLE = (200, 60, 60)
TEXT = (255, 255, 255)
MOST_PIXELS = 50_000_000  # of an image that is worth decoding for a thumbnail
JPEG_QUALITY = 72  # about 3 kB per picture


def contact_sheet(
    images: Sequence[bytes],
    *,
    columns: int = 8,
    side: int = SIDE,
    reasons: Sequence[str | None] = (),
) -> bytes:
    """Lay images out in rows, in their order, each whole and centred in a square.

    Args:
        images: Encoded images in any format that Pillow reads. One that it can't read,
            or that is larger than 50 million pixels, shows as a red square that says why.
        columns: Pictures in a row.
        side: Of a square, in pixels.
        reasons: Why an image could not be used, in the order of ``images``: what its red
            square says. Without any, it says what is wrong here.

    Returns:
        A JPEG, ``columns * side`` wide; of fewer columns if there are fewer images.
    """
    from PIL import Image

    columns = max(1, min(columns, len(images)))
    rows = max(1, math.ceil(len(images) / columns))
    sheet = Image.new("RGB", (columns * side, rows * side), BACKGROUND)
    for position, data in enumerate(images):
        reason = reasons[position] if position < len(reasons) else None
        picture = _thumbnail(data, side - 4, reason)
        left = position % columns * side + (side - picture.width) // 2
        top = position // columns * side + (side - picture.height) // 2
        sheet.paste(picture, (left, top))
    out = io.BytesIO()
    sheet.save(out, "JPEG", quality=JPEG_QUALITY)
    return out.getvalue()


def _thumbnail(data: bytes, side: int, reason: str | None) -> "Image.Image":
    try:
        # Pillow by itself would also open what is no image of a dataset, and run programs
        with open_image(data) as image, quiet_libraries():
            if image.width * image.height > MOST_PIXELS:
                size = f"{image.width} x {image.height} pixels"
                return _written(reason or f"too large to be shown: {size}", side)
            # decodes JPEG at a fraction of its size
            image.draft("RGB", (side * 2, side * 2))
            picture = image.convert("RGB")
    except Exception as error:  # hostile bytes make Pillow raise errors of every kind
        return _written(reason or str(error) or type(error).__name__, side)
    picture.thumbnail((side, side))
    return picture


def _written(reason: str, side: int) -> "Image.Image":
    """Write on a red square why there is no picture, as much of it as there is room."""
    from PIL import Image, ImageDraw, ImageFont

    square = Image.new("RGB", (side, side), UNREADABLE)
    draw = ImageDraw.Draw(square)
    font = ImageFont.load_default()
    # the font that Pillow falls back to has no other characters
    plain = "".join(c if " " <= c <= "~" else "?" for c in " ".join(reason.split()))
    width, height = max(draw.textlength("n", font), 1), 12
    lines = textwrap.wrap(
        plain,
        max(int((side - 4) / width), 4),
        max_lines=max(side // height, 1),
        placeholder="...",
    )
    for number, line in enumerate(lines):
        draw.text((2, 2 + number * height), line, TEXT, font)
    return square
