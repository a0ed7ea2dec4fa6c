"""The files of one sample of the demo dataset: image, caption, metadata.

Captions describe the photograph and what was done to it. The JSON's ``url``,
``similarity``, ``pwatermark``, ``punsafe`` and ``NSFW`` are invented. Its ``sha256`` is of
the image as it was before any damage, as a downloader would have noted it.
"""

import hashlib
import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from curation.ingest.demo_pictures import make_picture
from curation.ingest.demo_plan import (
    MIN_SIDE,
    NEAR_COPIES,
    NOT_SHOWN,
    Slot,
)

if TYPE_CHECKING:
    from PIL.Image import Image

ORIGINAL_SIDES = (252, 290)  # pixels; of images with near copies, which stay above MIN_SIDE

TINY_SIZES = ((1, 1), (8, 8), (32, 48), (64, 64), (120, 90), (150, 320), (320, 150)) + (
    (199, 199), (199, 260), (260, 199),
)  # fmt: skip
"""Widths and heights of the tiny images, in turn. 1 x 1 is a tracking pixel."""

CUTS = (0.02, 0.25, 0.5, 0.75, 0.97, -10)
"""Where JPEGs end too early, in turn: a share of the bytes, or bytes before the end."""

HTML_PAGE = (
    b"<!DOCTYPE html>\n<html><head><title>404 Not Found</title></head>\n"
    b"<body><h1>Not Found</h1><p>The image has moved.</p></body></html>\n"
)

ROTATED_BY_90 = 6  # EXIF orientation: the first row is the right-hand side of the scene
ORIENTATION_TAG = 0x0112  # EXIF tag


@dataclass(frozen=True, slots=True)
class DemoSample:
    """One sample as it is written."""

    slot: Slot
    files: dict[str, bytes]
    """Extension to content, the image first."""
    edit: str
    """What was done to the picture, in words; empty for an ordinary one."""
    caption: str
    """Of the picture, whether or not the sample has it."""
    credit: str
    """Whose photograph it is from; empty where nothing is shown."""


@dataclass(frozen=True, slots=True)
class _Format:
    """How an image is encoded, and under which extension it goes."""

    extension: str = "jpg"
    encoding: str = "JPEG"
    mode: str = "RGB"


_FORMATS = {
    "png": _Format("png", "PNG"),
    "png_with_alpha": _Format("png", "PNG", "RGBA"),
    "png_named_jpg": _Format("jpg", "PNG"),
    "webp": _Format("webp", "WEBP"),
    "webp_named_jpg": _Format("jpg", "WEBP"),
    "jpg_named_png": _Format("png"),
    "grey_jpg": _Format(mode="L"),
    "cmyk_jpg": _Format(mode="CMYK"),
    "upper_case_extension": _Format("JPG"),
    "jpeg_extension": _Format("jpeg"),
}


def make_sample(
    slot: Slot,
    photographs: Mapping[str, "Image"],
    originals: Mapping[tuple[int, int], DemoSample],
    seed: int,
) -> DemoSample:
    """Make the files of one sample.

    Args:
        slot: What it is.
        photographs: Name to image, RGB.
        originals: The samples that have copies, by shard and number.
        seed: What its look is drawn from, with its shard and number.
    """
    rng = np.random.default_rng([seed, slot.shard, slot.number])
    if slot.original:
        shown = _copied(slot, originals[slot.original.shard, slot.original.number], rng)
    elif slot.kind in NOT_SHOWN:
        shown = _not_shown(slot, rng)
    else:
        shown = _pictured(slot, photographs, rng)
    image, edit = shown.image, shown.edit
    if slot.kind == "truncated_jpeg":
        image, edit = _cut(image, CUTS[slot.occurrence % len(CUTS)])
    files = _files(slot, image, shown, rng)
    return DemoSample(slot, files, edit, shown.caption, shown.credit)


@dataclass(frozen=True, slots=True)
class _Shown:
    """An encoded image, whole, and what can be said of it."""

    image: bytes
    size: tuple[int, int]
    caption: str
    credit: str
    edit: str = ""


def _pictured(
    slot: Slot, photographs: Mapping[str, "Image"], rng: np.random.Generator
) -> _Shown:
    """Show the slot's region, with the flaws and in the format of its kind."""
    assert slot.region is not None
    photograph = photographs[slot.region.photograph]
    picture = make_picture(photograph, slot.region, rng, _size(slot, rng))
    flaw = _FLAWS.get(slot.kind, _no_flaw)
    image, options, edit = flaw(picture.image, rng)
    chosen = _FORMATS.get(slot.kind, _Format())
    if chosen.encoding != "PNG":
        options["quality"] = int(rng.integers(80, 96))
    if slot.kind == "progressive_jpg":
        options["progressive"] = True
    data = _encode(image.convert(chosen.mode), chosen.encoding, **options)
    return _Shown(data, image.size, picture.caption, picture.credit, edit)


def _size(slot: Slot, rng: np.random.Generator) -> tuple[int, int] | None:
    if slot.kind == "tiny":
        return TINY_SIZES[slot.occurrence % len(TINY_SIZES)]
    if slot.kind == "smallest_kept":
        return MIN_SIDE, MIN_SIDE + 40 * (slot.occurrence % 2)
    if slot.has_copies:
        width, height = rng.integers(*ORIGINAL_SIDES, size=2)
        return int(width), int(height)
    return None


_Flawed = tuple["Image", dict[str, Any], str]
"""An image, options of its encoder, and what was done in words."""


def _no_flaw(image: "Image", _rng: np.random.Generator) -> _Flawed:
    return image, {}, ""


def _blurred(image: "Image", rng: np.random.Generator) -> _Flawed:
    from PIL import ImageFilter

    radius = round(float(rng.uniform(3, 6)), 1)
    blurred = image.filter(ImageFilter.GaussianBlur(radius))
    return blurred, {}, f"Gaussian blur of {radius} pixels"


def _turned(image: "Image", _rng: np.random.Generator) -> _Flawed:
    from PIL import Image

    exif = Image.Exif()
    exif[ORIENTATION_TAG] = ROTATED_BY_90
    turned = image.transpose(Image.Transpose.ROTATE_90)
    return turned, {"exif": exif}, "turned left, with an EXIF orientation that says so"


def _fading(image: "Image", _rng: np.random.Generator) -> _Flawed:
    from PIL import Image

    fading = image.copy()
    fading.putalpha(Image.linear_gradient("L").resize(image.size))
    return fading, {}, "fades out to the top"


def _tiny(image: "Image", _rng: np.random.Generator) -> _Flawed:
    return image, {}, f"{image.width} x {image.height} pixels"


_FLAWS: dict[str, Callable[["Image", np.random.Generator], _Flawed]] = {
    "blurred": _blurred,
    "exif_rotated": _turned,
    "png_with_alpha": _fading,
    "tiny": _tiny,
}


def _copied(slot: Slot, original: DemoSample, rng: np.random.Generator) -> _Shown:
    """Copy an original: the same bytes, or nearly the same picture."""
    from PIL import Image

    data, edit = original.files["jpg"], "the same bytes"
    image: Image.Image = Image.open(io.BytesIO(data), formats=["JPEG"])
    if slot.kind in NEAR_COPIES:
        image, quality, edit = _NEAR_COPIES[slot.kind](image, rng)
        data = _encode(image, "JPEG", quality=quality)
    caption = f"Stock photo: {original.caption}"
    return _Shown(data, image.size, caption, original.credit, edit)


def _recompressed(image: "Image", rng: np.random.Generator) -> tuple["Image", int, str]:
    quality = int(rng.integers(30, 66))
    return image, quality, f"JPEG quality {quality}"


def _resized(image: "Image", rng: np.random.Generator) -> tuple["Image", int, str]:
    from PIL import Image

    factor = float(rng.choice([0.8, 0.85, 0.9, 0.95]))
    size = round(image.width * factor), round(image.height * factor)
    return image.resize(size, Image.Resampling.BICUBIC), 85, f"{factor} times the size"


def _cropped(image: "Image", rng: np.random.Generator) -> tuple["Image", int, str]:
    share = round(float(rng.uniform(0.02, 0.04)), 3)
    left, top = round(image.width * share), round(image.height * share)
    part = image.crop((left, top, image.width - left, image.height - top))
    return part, 85, f"{100 * share:.1f} % cut from every side"


def _recoloured(image: "Image", rng: np.random.Generator) -> tuple["Image", int, str]:
    from PIL import ImageEnhance

    saturation = float(rng.choice([0.4, 0.6, 1.5, 1.8]))
    brightness = float(rng.choice([0.75, 0.85, 1.15, 1.25]))
    image = ImageEnhance.Color(image).enhance(saturation)
    image = ImageEnhance.Brightness(image).enhance(brightness)
    return image, 85, f"{saturation} times the saturation, {brightness} the brightness"


_NEAR_COPIES = {
    "near_copy_quality": _recompressed,
    "near_copy_resize": _resized,
    "near_copy_crop": _cropped,
    "near_copy_colour": _recoloured,
}


def _not_shown(slot: Slot, rng: np.random.Generator) -> _Shown:
    """Give what came in the place of an image."""
    data = {"html_page": HTML_PAGE, "garbage": rng.bytes(5000)}.get(slot.kind, b"")
    return _Shown(data, (640, 480), "An image that went missing on its way", "")


def _cut(data: bytes, where: float) -> tuple[bytes, str]:
    if where < 0:
        return data[: int(where)], f"the last {-int(where)} bytes are missing"
    return data[: int(where * len(data))], f"cut at {100 * where:g} % of its bytes"


def _encode(image: "Image", encoding: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, encoding, **options)
    return buffer.getvalue()


def _files(
    slot: Slot, image: bytes, shown: _Shown, rng: np.random.Generator
) -> dict[str, bytes]:
    caption = _CAPTIONS.get(slot.kind, shown.caption)
    metadata = json.dumps(_metadata(slot, shown, caption, rng))
    chosen = _FORMATS.get(slot.kind, _Format())
    files = {chosen.extension: image, "txt": (caption or "").encode()}
    files["json"] = metadata.encode()
    if slot.kind == "no_image":
        del files[chosen.extension]
    if caption is None:
        del files["txt"]
    if slot.kind == "extra_component":
        files["mask.png"] = _mask(shown.size)
    if slot.kind == "dotted_base_name":
        files = {f"final.{extension}": data for extension, data in files.items()}
    return files


_CAPTIONS = {"no_caption_file": None, "empty_caption": ""}
"""Of the kinds that have another caption than their picture's."""


def _mask(size: tuple[int, int]) -> bytes:
    from PIL import Image

    return _encode(Image.radial_gradient("L").resize(size), "PNG")


def _metadata(
    slot: Slot, shown: _Shown, caption: str | None, rng: np.random.Generator
) -> dict[str, Any]:
    """Make up what img2dataset and LAION note of an image."""
    width, height = shown.size
    return {
        "key": slot.key,
        "caption": caption,
        "url": f"https://images.example.org/{rng.bytes(8).hex()}.jpg",
        "status": "success",
        "error_message": None,
        "width": width,
        "height": height,
        "original_width": width,
        "original_height": height,
        "sha256": hashlib.sha256(shown.image).hexdigest(),
        "LANGUAGE": "en",
        "NSFW": "UNLIKELY",
        "similarity": round(float(np.clip(rng.normal(0.31, 0.03), 0.2, 0.45)), 4),
        "pwatermark": round(float(rng.beta(1, 8)), 4),
        "punsafe": round(float(rng.beta(1, 40)), 4),
        "credit": shown.credit,
    }
