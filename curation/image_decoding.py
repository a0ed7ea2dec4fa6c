"""One encoded image to its pixels on the CPU, or to the reason why not.

The format is known by content, never by extension.

**Pillow's verdict is the rule.** An image is good if Pillow opens, loads and converts it
to RGB, as it does by default; so do webdataset's ``decode("pil")``, timm and the loaders
of :mod:`curation.training`. Other decoders are more forgiving: nvImageCodec and a GPU give
pixels, gray in places, for files that end every one of those readers with an error. Which
decoder works must not decide what is released, so nvImageCodec, the decoder inside DALI 2,
gets only what both take, and take alike: JPEGs whose markers are in order
(:mod:`curation.jpeg_markers`), and PNGs whose checksums are right
(:mod:`curation.png_chunks`). Everything else is Pillow's to decode and to refuse. The
look at the markers costs 4% of decoding a photograph (``benchmarks/embed.py``).

**Pixels are those of Pillow's** ``convert("RGB")``: alpha is dropped, CMYK and palettes are
converted, of an animation the first frame is taken. One exception is meant: 16-bit
grayscale keeps its upper 8 bits, where Pillow's own conversion turns nearly all of it
white.

Every call costs one image at most: what is wrong with it is raised as a
:class:`~curation.errors.DataError` whose message is the reason, and nothing hostile gets
past the bound on pixels, which is checked on the header. A JPEG of hundreds of scans,
each of which goes over the whole image, is refused by their number.
"""

import io
import os
import threading
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np

from curation.errors import DataError, InputError
from curation.image_kinds import HEAD_BYTES, explain_no_image, image_extension, other_kind
from curation.jpeg_markers import (
    MOST_SCANNED,
    MOST_SCANS,
    MOST_STEPS,
    USUAL_SCANS,
    has_endless_header,
    has_endless_scans,
    read_plain_jpeg,
)
from curation.png_chunks import is_plain_png
from curation.quiet_libraries import quiet_libraries

if TYPE_CHECKING:
    from PIL import Image

JUDGED_BY_PILLOW = {"good_images": "pillow"}
"""What a table of embeddings says of itself since that is the rule; 0.1.0 had another."""

_DAMAGED_FORMATS = ("jpeg", "png", "webp")
"""What nvImageCodec 0.9 decodes safely however damaged it is: JPEG 2000 can end in a
segmentation fault of the OpenJPEG inside it."""

_PILLOW_FORMATS = (
    "JPEG", "PNG", "WEBP", "AVIF", "GIF", "TIFF", "BMP", "JPEG2000", "PPM",
)  # fmt: skip
"""Others (EPS, PSD, FITS …) are never images of a dataset, and more code to attack."""

_PLUGINS = {
    "jpg": "JPEG", "png": "PNG", "webp": "WEBP", "avif": "AVIF", "gif": "GIF",
    "tif": "TIFF", "bmp": "BMP", "jp2": "JPEG2000",
}  # fmt: skip
"""Extension by content to Pillow's name of the format."""

_NAMES = {"jpeg2000": "jp2", "jpeg2k": "jp2", "mpo": "jpeg", "ppm": "pnm"}

_EXIF_MARKS = (b"Exif", b"eXIf", b"EXIF", b"irot", b"imir")  # JPEG, PNG, WebP, AVIF
_ORIENTATION_TAG = 0x0112  # EXIF 2.3, "Orientation"

_TURNS = {
    1: (False, 0, False), 2: (False, 0, True), 3: (False, 2, False), 4: (False, 2, True),
    5: (True, 0, False), 6: (False, 3, False), 7: (True, 2, False), 8: (False, 1, False),
}  # fmt: skip
"""EXIF orientation to: transpose, quarter turns counter-clockwise, mirror, in order."""


@dataclass(frozen=True, slots=True)
class ImageHeader:
    """What an image says of itself before anything is decoded."""

    format: str
    """``jpeg``, ``png``, ``webp``, ``avif``, ``gif``, ``tiff``, ``bmp``, ``jp2`` …"""
    width: int
    """Pixels as encoded, before any EXIF rotation."""
    height: int
    codec: str
    """Who can decode it: ``nvimgcodec`` or ``pillow``."""


def read_header(data: bytes) -> ImageHeader:
    """Find out what an image is, and who can decode it.

    Raises:
        DataError: It is no image, or none of a format that can be decoded.
    """
    plain = read_plain_jpeg(data)
    if plain is None:
        header = read_pillow_header(data)
        return replace(header, codec="nvimgcodec") if is_plain_png(data) else header
    if plain.is_looked_into:
        read_pillow_header(data)  # some of it, damaged, is a reason for Pillow to refuse
    return ImageHeader("jpeg", plain.width, plain.height, "nvimgcodec")


def read_damaged_header(data: bytes) -> ImageHeader:
    """Find out what an image is that Pillow refuses.

    Raises:
        DataError: No decoder that is safe with damage knows its format.
    """
    stream = quiet_nvimgcodec().CodeStream(data)
    try:  # the stream is parsed when it is first asked something
        name, width, height = stream.codec_name, stream.width, stream.height
    except RuntimeError as error:
        raise DataError("no decoder makes anything of it") from error
    if name not in _DAMAGED_FORMATS:
        raise DataError(f"no decoder makes anything of a damaged {name}")
    _check_scans(data, width, height)
    return ImageHeader(name, width, height, "nvimgcodec")


def read_pillow_header(data: bytes) -> ImageHeader:
    """Find out what an image is with Pillow alone.

    Raises:
        DataError: As :func:`read_header`.
    """
    if not data:
        raise DataError("the file is empty")
    with open_image(data) as image:
        name = (image.format or "").lower()
        return ImageHeader(_NAMES.get(name, name), image.width, image.height, "pillow")


def decode_image(data: bytes, header: ImageHeader) -> np.ndarray:
    """Decode one image with nvImageCodec, and with Pillow where that can't.

    Returns:
        ``(height, width, 3)`` uint8, RGB, rows from the top.

    Raises:
        DataError: It can't be decoded; the message is Pillow's reason.
    """
    if header.codec == "nvimgcodec":
        image = _decoded(data)
        if image is not None:
            return np.asarray(image)
    return decode_with_pillow(data)


def decode_damaged(data: bytes) -> np.ndarray:
    """Decode what can be had of an image that Pillow refuses.

    Args:
        data: An image that :func:`read_damaged_header` knows.

    Returns:
        As :func:`decode_image`; gray, black or wrong where the damage is.

    Raises:
        DataError: Nothing can be had.
    """
    image = _decoded(data)
    if image is None:
        raise DataError("no decoder makes anything of it")
    return np.asarray(image)


def decodes(data: bytes) -> bool:
    """Tell whether nvImageCodec decodes an image, whose header it could read."""
    return _decoded(data) is not None


def decode_with_pillow(data: bytes, max_pixels: int | None = None) -> np.ndarray:
    """Decode one image with Pillow alone: the reference.

    Args:
        data: The encoded image.
        max_pixels: Width times height above which it is refused, by its header.

    Returns:
        As :func:`decode_image`.

    Raises:
        DataError: It can't be decoded; the message is Pillow's reason.
    """
    return np.array(decode_to_pillow(data, max_pixels))


def decode_to_pillow(data: bytes, max_pixels: int | None = None) -> "Image.Image":
    """Decode as :func:`decode_with_pillow`, to Pillow's own kind of image, in RGB."""
    from PIL import Image

    with open_image(data) as image:
        if max_pixels is not None and image.width * image.height > max_pixels:
            raise DataError(
                f"too many pixels: {image.width} x {image.height} is more than "
                f"max_pixels={max_pixels}"
            )
        try:
            with quiet_libraries():
                if image.mode.startswith("I;16"):
                    gray = (np.asarray(image) >> 8).astype(np.uint8)
                    return Image.fromarray(gray).convert("RGB")
                image.load()
                # convert copies what is RGB already
                return image if image.mode == "RGB" else image.convert("RGB")
        except Exception as error:  # hostile bytes make its plugins raise anything
            raise _undecodable(error) from error


def open_image(data: bytes) -> "Image.Image":
    """Open one image with Pillow, of a format that a dataset may have; nothing is decoded.

    Raises:
        DataError: It is none, or Pillow refuses it.
    """
    from PIL import Image, UnidentifiedImageError

    if data.startswith(b"\xff\xd8") and has_endless_header(data):
        raise DataError(
            f"too many markers: a JPEG with more than {MOST_STEPS} markers and bytes of "
            "padding before its first scan; it would take too long to open"
        )
    try:
        # Pillow warns of many pixels; the loaders count them against their own bound
        with quiet_libraries():
            image = Image.open(io.BytesIO(data), formats=_PILLOW_FORMATS)
    except UnidentifiedImageError as error:
        raise DataError(_why_unidentified(data)) from error
    except Exception as error:  # as in decode_with_pillow
        raise _undecodable(error) from error
    _check_scans(data, image.width, image.height)
    return image


def _check_scans(data: bytes, width: int, height: int) -> None:
    if data.startswith(b"\xff\xd8") and has_endless_scans(data, width, height):
        raise DataError(
            f"too many scans: a JPEG of {width} x {height} pixels that has more than "
            f"{USUAL_SCANS} may have {min(MOST_SCANS, MOST_SCANNED // (width * height))}; "
            "it would take too long to decode"
        )


def exif_orientation(data: bytes) -> int:
    """Read how an image is to be turned: 1 (as it is) to 8, by EXIF.

    Damaged EXIF counts as none. So does a TIFF's orientation, which Pillow, and so timm,
    follows by itself when it decodes.
    """
    if not any(mark in data for mark in _EXIF_MARKS):
        return 1
    try:
        with open_image(data) as image, quiet_libraries():
            orientation = image.getexif().get(_ORIENTATION_TAG, 1)
    except Exception:  # as in decode_with_pillow
        return 1
    return orientation if orientation in _TURNS else 1


def turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Turn ``(height, width, 3)`` pixels upright, given their EXIF orientation."""
    transpose, quarters, mirror = _TURNS[orientation]
    if transpose:
        pixels = pixels.swapaxes(0, 1)
    pixels = np.rot90(pixels, quarters)
    return pixels[:, ::-1] if mirror else pixels


def _why_unidentified(data: bytes) -> str:
    """Say what a file is that Pillow names no reason for."""
    from PIL import Image

    head = data[:HEAD_BYTES]
    extension = image_extension(head)
    if extension is None:
        return explain_no_image(head)
    name = _PLUGINS[extension]
    try:
        with quiet_libraries():
            Image.OPEN[name][0](io.BytesIO(data), "")
    except Exception as error:  # as in decode_with_pillow
        reason = str(error) or type(error).__name__
        return f"can't be decoded: {other_kind(head) or name}: {reason}"
    return f"can't be decoded: {name}"


def _undecodable(error: Exception) -> DataError:
    text = str(error) or type(error).__name__
    return DataError(f"can't be decoded: {text}")


@lru_cache(maxsize=1)
def quiet_nvimgcodec() -> Any:
    """Import nvImageCodec, which has to be done before anything that brings it along.

    Raises:
        InputError: It is not installed.
    """
    # It prints a line on stderr for every bad image unless told not to; the reason is
    # in the quarantine ledger instead.
    os.environ.setdefault("PYNVIMGCODEC_VERBOSITY", "0")
    os.environ.setdefault("OPENCV_LOG_LEVEL", "OFF")
    try:
        return import_module("nvidia.nvimgcodec")
    except ImportError as error:
        raise InputError(
            "nvidia-nvimgcodec can't be imported; install nvidia-dali-cuda120, which "
            "brings it, or use the image loader 'pillow'"
        ) from error


def _decoded(data: bytes) -> Any:
    if not hasattr(_of_thread, "decoder"):  # one that threads share crashes
        _of_thread.decoder = _make_decoder()
    decoder, parameters = _of_thread.decoder
    with quiet_libraries():
        return decoder.decode(data, params=parameters)


_of_thread = threading.local()


def _make_decoder() -> tuple[Any, Any]:
    nv = quiet_nvimgcodec()
    decoder = nv.Decoder(
        device_id=nv.NVIMGCODEC_DEVICE_CPU_ONLY,
        max_num_cpu_threads=1,  # one image at a time
        backends=[nv.Backend(nv.CPU_ONLY)],
    )
    parameters = nv.DecodeParams(apply_exif_orientation=False, color_spec=nv.ColorSpec.SRGB)
    return decoder, parameters
