"""What people do to pictures before they post them again.

Each edit takes a picture and gives another; together they are what thresholds are
calibrated on (``calibrate.py``). An edit is one entry of :data:`EDITS`.
"""

import io
from collections.abc import Callable
from typing import TYPE_CHECKING

from curation.errors import DataError, InputError, UnknownNameError
from curation.image_decoding import decode_to_pillow

if TYPE_CHECKING:
    from PIL import Image

Edit = Callable[["Image.Image"], "Image.Image"]
"""Gives an edited copy of an RGB picture, of any size."""

_GRAY = (128, 128, 128)


def edited(image: bytes, edit: str) -> bytes:
    """Decode an image, edit it, and encode it without further loss.

    Args:
        image: Encoded, in any format that Pillow reads.
        edit: A name in :data:`EDITS`.

    Returns:
        A BMP: of an image of 6 megapixels a PNG takes half a second to write.

    Raises:
        UnknownNameError: There is no such edit.
        InputError: The image can't be decoded.
    """
    if edit not in EDITS:
        raise UnknownNameError.among("edit", edit, EDITS)
    try:
        picture = decode_to_pillow(image)
    except DataError as error:
        raise InputError(f"an image to be edited can't be decoded: {error}") from error
    encoded = io.BytesIO()
    EDITS[edit](picture).save(encoded, "BMP")
    return encoded.getvalue()


def _jpeg(quality: int) -> Edit:
    def apply(picture: "Image.Image") -> "Image.Image":
        from PIL import Image

        encoded = io.BytesIO()
        picture.save(encoded, "JPEG", quality=quality)
        return Image.open(encoded, formats=["JPEG"]).convert("RGB")

    return apply


def _resize(width: float, height: float) -> Edit:
    def apply(picture: "Image.Image") -> "Image.Image":
        from PIL import Image

        size = round(picture.width * width), round(picture.height * height)
        return picture.resize((max(size[0], 1), max(size[1], 1)), Image.Resampling.LANCZOS)

    return apply


def _crop(share: float) -> Edit:
    """Keep a share of either side, from a third of what is cut off."""

    def apply(picture: "Image.Image") -> "Image.Image":
        width = max(round(picture.width * share), 1)
        height = max(round(picture.height * share), 1)
        left, top = (picture.width - width) // 3, (picture.height - height) // 3
        return picture.crop((left, top, left + width, top + height))

    return apply


def _pad(share: float) -> Edit:
    def apply(picture: "Image.Image") -> "Image.Image":
        from PIL import ImageOps

        border = round(max(picture.size) * share)
        return ImageOps.expand(picture, border, _GRAY)

    return apply


def _flip(picture: "Image.Image") -> "Image.Image":
    from PIL import ImageOps

    return ImageOps.mirror(picture)


def _rotate(degrees: float) -> Edit:
    def apply(picture: "Image.Image") -> "Image.Image":
        from PIL import Image

        return picture.rotate(degrees, Image.Resampling.BILINEAR, fillcolor=_GRAY)

    return apply


def _blur(pixels: float) -> Edit:
    """Blur as far as that many pixels are of a picture 512 wide."""

    def apply(picture: "Image.Image") -> "Image.Image":
        from PIL import ImageFilter

        return picture.filter(ImageFilter.GaussianBlur(pixels * picture.width / 512))

    return apply


def _enhance(kind: str, factor: float) -> Edit:
    def apply(picture: "Image.Image") -> "Image.Image":
        from PIL import ImageEnhance

        found: Image.Image = getattr(ImageEnhance, kind)(picture).enhance(factor)
        return found

    return apply


def _hue(picture: "Image.Image") -> "Image.Image":
    from PIL import Image

    hue, saturation, value = picture.convert("HSV").split()
    turned = hue.point(lambda level: (level + 20) % 256)
    return Image.merge("HSV", (turned, saturation, value)).convert("RGB")


def _gray(picture: "Image.Image") -> "Image.Image":
    return picture.convert("L").convert("RGB")


def _banner(picture: "Image.Image") -> "Image.Image":
    from PIL import ImageDraw

    found = picture.copy()
    top = round(picture.height * 0.85)
    ImageDraw.Draw(found).rectangle((0, top, *picture.size), fill=(20, 20, 20))
    return found


def _logo(picture: "Image.Image") -> "Image.Image":
    from PIL import ImageDraw

    found = picture.copy()
    side = min(picture.size)
    box = (round(0.05 * side), round(0.05 * side), round(0.2 * side), round(0.2 * side))
    ImageDraw.Draw(found).ellipse(box, fill=(230, 40, 40))
    return found


def _watermark(picture: "Image.Image") -> "Image.Image":
    from PIL import Image, ImageDraw

    lines = Image.new("L", picture.size, 0)
    step = max(picture.width // 6, 4)
    draw = ImageDraw.Draw(lines)
    for left in range(-picture.height, picture.width, step):
        ends = (left, 0, left + picture.height, picture.height)
        draw.line(ends, fill=90, width=max(step // 10, 1))
    white = Image.new("RGB", picture.size, (255, 255, 255))
    return Image.composite(white, picture, lines)


EDITS: dict[str, Edit] = {
    "JPEG quality 50": _jpeg(50),
    "JPEG quality 20": _jpeg(20),
    "half size": _resize(0.5, 0.5),
    "quarter size": _resize(0.25, 0.25),
    "15% narrower": _resize(0.85, 1),
    "crop to 95%": _crop(0.95),
    "crop to 80%": _crop(0.8),
    "crop to 60%": _crop(0.6),
    "10% border": _pad(0.1),
    "mirrored": _flip,
    "rotated by 3 degrees": _rotate(3),
    "rotated by 10 degrees": _rotate(10),
    "blurred": _blur(2),
    "brighter": _enhance("Brightness", 1.4),
    "less contrast": _enhance("Contrast", 0.6),
    "more colour": _enhance("Color", 1.6),
    "hue turned": _hue,
    "gray": _gray,
    "banner": _banner,
    "logo": _logo,
    "watermark": _watermark,
}
"""Name to edit."""
