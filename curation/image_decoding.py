"""One encoded image to its pixels on the CPU, or to the reason why not.

The format is known by content, never by extension. nvImageCodec, the decoder inside
DALI 2, decodes what it can; Pillow decodes the rest (AVIF, GIF, odd TIFFs) and gives the
reason where nothing can. On every file that both decode, their pixels are the same, and
are those of Pillow's ``convert("RGB")``, which timm's loader uses: alpha is dropped, CMYK
and palettes are converted, of an animation the first frame is taken. One exception is
meant: 16-bit grayscale keeps its upper 8 bits, where Pillow's own conversion turns nearly
all of it white.

Every call costs one image at most: what is wrong with it is raised as a
:class:`~curation.errors.DataError` whose message is the reason, and nothing hostile gets
past the bound on pixels, which is checked on the header.
"""

import io
import os
import warnings
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np

from curation.errors import DataError, InputError

if TYPE_CHECKING:
    from PIL import Image

_NVIMGCODEC_FORMATS = ("jpeg", "png", "webp")
"""What nvImageCodec 0.9 decodes safely: damaged JPEG 2000 ends in a segmentation fault of
the OpenJPEG inside it. BMP, TIFF and PNM are too rare to be worth the same risk."""

_PILLOW_FORMATS = (
    "JPEG", "PNG", "WEBP", "AVIF", "GIF", "TIFF", "BMP", "JPEG2000", "PPM",
)  # fmt: skip
"""Others (EPS, PSD, FITS …) are never images of a dataset, and more code to attack."""

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
    """Find out what an image is from its first bytes.

    Raises:
        DataError: It is no image, or none of a format that can be decoded.
    """
    if not data:
        raise DataError("the file is empty")
    nv = _nvimgcodec()
    stream = nv.CodeStream(data)
    try:  # the stream is parsed when it is first asked something
        name, width, height = stream.codec_name, stream.width, stream.height
    except RuntimeError:
        return read_pillow_header(data)
    codec = "nvimgcodec" if name in _NVIMGCODEC_FORMATS else "pillow"
    return ImageHeader(_NAMES.get(name, name), width, height, codec)


def read_pillow_header(data: bytes) -> ImageHeader:
    """Find out what an image is with Pillow alone.

    Raises:
        DataError: As :func:`read_header`.
    """
    if not data:
        raise DataError("the file is empty")
    with _open(data) as image:
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

    with _open(data) as image:
        if max_pixels is not None and image.width * image.height > max_pixels:
            raise DataError(
                f"too many pixels: {image.width} x {image.height} is more than "
                f"max_pixels={max_pixels}"
            )
        try:
            with warnings.catch_warnings(action="ignore"):
                if image.mode.startswith("I;16"):
                    gray = (np.asarray(image) >> 8).astype(np.uint8)
                    return Image.fromarray(gray).convert("RGB")
                image.load()
                # convert copies what is RGB already
                return image if image.mode == "RGB" else image.convert("RGB")
        except Exception as error:  # hostile bytes make its plugins raise anything
            raise _undecodable(error) from error


def exif_orientation(data: bytes) -> int:
    """Read how an image is to be turned: 1 (as it is) to 8, by EXIF.

    Damaged EXIF counts as none. So does a TIFF's orientation, which Pillow, and so timm,
    follows by itself when it decodes.
    """
    if not any(mark in data for mark in _EXIF_MARKS):
        return 1
    try:
        with _open(data) as image, warnings.catch_warnings(action="ignore"):
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


def _open(data: bytes) -> "Image.Image":
    from PIL import Image, UnidentifiedImageError

    try:
        # Pillow warns of many pixels; the loaders count them against their own bound
        with warnings.catch_warnings(action="ignore"):
            return Image.open(io.BytesIO(data), formats=_PILLOW_FORMATS)
    except UnidentifiedImageError as error:
        raise DataError(f"no image: the file begins with {data[:16]!r}") from error
    except Exception as error:  # as in decode_with_pillow
        raise _undecodable(error) from error


def _undecodable(error: Exception) -> DataError:
    text = str(error) or type(error).__name__
    return DataError(f"can't be decoded: {text}")


@lru_cache(maxsize=1)
def _nvimgcodec() -> Any:
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
    decoder, parameters = _decoder()
    return decoder.decode(data, params=parameters)


@lru_cache(maxsize=1)
def _decoder() -> tuple[Any, Any]:
    nv = _nvimgcodec()
    decoder = nv.Decoder(
        device_id=nv.NVIMGCODEC_DEVICE_CPU_ONLY,
        max_num_cpu_threads=1,  # one image at a time
        backends=[nv.Backend(nv.CPU_ONLY)],
    )
    parameters = nv.DecodeParams(apply_exif_orientation=False, color_spec=nv.ColorSpec.SRGB)
    return decoder, parameters
