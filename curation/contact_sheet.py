"""Many small pictures in one, for where people would rather look than read."""

import io
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from curation.quiet_libraries import quiet_libraries

if TYPE_CHECKING:
    from PIL import Image

SIDE = 96  # pixels of one picture
BACKGROUND = (245, 245, 245)
UNREADABLE = (200, 60, 60)
MOST_PIXELS = 50_000_000  # of an image that is worth decoding for a thumbnail
JPEG_QUALITY = 72  # about 3 kB per picture


def contact_sheet(images: Sequence[bytes], *, columns: int = 8, side: int = SIDE) -> bytes:
    """Lay images out in rows, in their order, each whole and centred in a square.

    Args:
        images: Encoded images in any format that Pillow reads. One that it can't read,
            or that is larger than 50 million pixels, shows as a red square.
        columns: Pictures in a row.
        side: Of a square, in pixels.

    Returns:
        A JPEG, ``columns * side`` wide; of fewer columns if there are fewer images.
    """
    from PIL import Image

    columns = max(1, min(columns, len(images)))
    rows = max(1, math.ceil(len(images) / columns))
    sheet = Image.new("RGB", (columns * side, rows * side), BACKGROUND)
    for position, data in enumerate(images):
        picture = _thumbnail(data, side - 4)
        left = position % columns * side + (side - picture.width) // 2
        top = position // columns * side + (side - picture.height) // 2
        sheet.paste(picture, (left, top))
    out = io.BytesIO()
    sheet.save(out, "JPEG", quality=JPEG_QUALITY)
    return out.getvalue()


def _thumbnail(data: bytes, side: int) -> "Image.Image":
    from PIL import Image

    try:
        with quiet_libraries(), Image.open(io.BytesIO(data)) as image:
            if image.width * image.height > MOST_PIXELS:
                return Image.new("RGB", (side, side), UNREADABLE)
            image.draft(
                "RGB", (side * 2, side * 2)
            )  # decodes JPEG at a fraction of its size
            picture = image.convert("RGB")
    except Exception:  # hostile bytes make Pillow raise errors of every kind
        return Image.new("RGB", (side, side), UNREADABLE)
    picture.thumbnail((side, side))
    return picture
