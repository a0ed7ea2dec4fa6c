"""Pictures that are valid and rare, and damage of every kind: what decoders disagree on."""

import io
import random
import struct
import zlib
from collections.abc import Callable, Iterator
from functools import lru_cache

import numpy as np
from PIL import Image

from curation.quiet_libraries import quiet_libraries
from curation.testing.pictures import encode, encoded_pictures, make_picture

SECTOR = 512
"""Bytes of a disk that go wrong together."""


def pillows_verdict(data: bytes) -> Image.Image | Exception:
    """Read an image as webdataset's ``decode("pil")`` does: in RGB, or why not."""
    try:
        with quiet_libraries(), Image.open(io.BytesIO(data)) as image:
            image.load()
            return image.convert("RGB")
    except Exception as error:
        return error


@lru_cache(maxsize=1)
def odd_pictures() -> dict[str, bytes]:
    """Encode a picture in colour spaces, modes and layouts that few files have."""
    return {**_jpegs(), **_pngs(), **_tiffs(), **_animations(), **_bmps()}


def _jpegs() -> dict[str, bytes]:
    picture = make_picture()
    plain = encode(picture, "JPEG")
    gray = encode(picture.convert("L"), "JPEG")
    cmyk = encode(picture.convert("CMYK"), "JPEG")
    rgb = encode(picture, "JPEG", keep_rgb=True)
    exif = Image.Exif()
    exif[0x010E] = "a picture"
    adobe = b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0"
    jfif = plain[2:20]
    return {
        "jpeg_422": encode(picture, "JPEG", subsampling=1),
        "jpeg_restarts": encode(picture, "JPEG", restart_marker_blocks=2),
        "jpeg_progressive_restarts": encode(
            picture, "JPEG", progressive=True, restart_marker_rows=1
        ),
        "jpeg_progressive_gray": encode(picture.convert("L"), "JPEG", progressive=True),
        "jpeg_1_pixel": encode(make_picture(1, 1), "JPEG"),
        "jpeg_17_pixels": encode(make_picture(17, 1), "JPEG", subsampling=2),
        "jpeg_rgb": rgb,
        "jpeg_rgb_without_adobe": _without(rgb, b"\xff\xee"),
        "jpeg_rgb_as_jfif": rgb[:2] + jfif + _without(rgb, b"\xff\xee")[2:],
        "jpeg_ycc_by_adobe": plain[:2] + adobe + b"\1" + plain[20:],
        "jpeg_ycc_said_to_be_rgb": plain[:2] + adobe + b"\0" + plain[20:],
        "jpeg_without_jfif": plain[:2] + plain[20:],
        "jpeg_cmyk_without_adobe": _without(cmyk, b"\xff\xee"),
        "jpeg_ycck": cmyk.replace(b"Adobe\0\x64\0\0\0\0\0", b"Adobe\0\x64\0\0\0\0\2"),
        "jpeg_gray_by_adobe": gray[:2] + adobe + b"\0" + gray[2:],
        "jpeg_gray_sampled_twice": gray.replace(b"\1\1\x11\0", b"\1\1\x22\0", 1),
        "jpeg_with_trailing_bytes": plain + b"\0trailing\xff\xd9\xff\x37" * 50,
        "jpeg_with_zeros_after_its_end": plain + bytes(5000),
        "jpeg_without_its_end": plain[:-2],
        "jpeg_with_junk_between_segments": plain[:20] + b"junk" + plain[20:],
        "jpeg_with_fill_bytes": plain[:20] + b"\xff\xff\xff" + plain[20:],
        "jpeg_with_fill_before_its_end": plain[:-2] + b"\xff\xff\xff\xd9",
        "jpeg_exif": encode(picture, "JPEG", exif=exif, dpi=(72, 72)),
        "jpeg_broken_exif": plain[:20] + _segment(0xE1, _BROKEN_EXIF) + plain[20:],
        "jpeg_comment": encode(picture, "JPEG", comment=b"\xff\xd9" * 20),
        "jpeg_mpo": encode(picture, "MPO", save_all=True, append_images=[picture]),
        "jpeg_12_bit": plain.replace(b"\xff\xc0\0\x11\x08", b"\xff\xc1\0\x11\x0c"),
    }


_BROKEN_EXIF = b"Exif\0\0MM\0*\0\0\0\x08\0\2" + b"".join(
    # a unit of resolution, and a resolution without numbers
    (b"\1\x1a\0\5\0\0\0\0\0\0\0\0", b"\1\x28\0\3\0\0\0\1\0\2\0\0", bytes(4))
)


def _segment(marker: int, data: bytes) -> bytes:
    return bytes([0xFF, marker]) + (len(data) + 2).to_bytes(2, "big") + data


def _without(jpeg: bytes, marker: bytes) -> bytes:
    """Take a segment out of a JPEG's header."""
    start = jpeg.index(marker)
    end = start + 2 + int.from_bytes(jpeg[start + 2 : start + 4], "big")
    return jpeg[:start] + jpeg[end:]


def _pngs() -> dict[str, bytes]:
    picture = make_picture()
    deep = np.random.default_rng(3).integers(0, 1 << 16, (60, 80, 3)).astype(">u2")
    four = encode(picture.quantize(16), "PNG", bits=4)
    plain = encode(picture, "PNG")
    text = png_chunk(b"tEXt", b"k\0" + b"words " * 20)
    return {
        "png_rgb_16_bit": _png(80, 60, 16, 2, [deep.tobytes()]),
        "png_gray_alpha_16_bit": _png(80, 60, 16, 4, [deep[:, :, :2].tobytes()]),
        "png_interlaced": interlaced_png(),
        "png_palette_4_bit": four,
        "png_gray_transparent": encode(picture.convert("L"), "PNG", transparency=7),
        "png_rgb_transparent": encode(picture, "PNG", transparency=(1, 2, 3)),
        "png_text": _with_chunk(plain, text),
        "png_text_with_a_wrong_checksum": _with_chunk(plain, text[:-1] + b"\0"),
        "png_icc_of_2_mib": encode(picture, "PNG", icc_profile=bytes(2 << 20)),
        "png_text_of_2_mib": _with_chunk(
            plain, png_chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(2 << 20)))
        ),
        "png_with_trailing_bytes": plain + b"trailing" * 50,
        "png_without_its_end": plain[:-12],
    }


def png_chunk(kind: bytes, data: bytes) -> bytes:
    """Write one chunk of a PNG, with its length and its checksum."""
    body = kind + data
    return len(data).to_bytes(4, "big") + body + zlib.crc32(body).to_bytes(4, "big")


def _with_chunk(png: bytes, chunk: bytes) -> bytes:
    return png[:33] + chunk + png[33:]


def _png(
    width: int, height: int, bits: int, colour: int, passes: list[bytes], adam7: int = 0
) -> bytes:
    """Write a PNG whose rows, all unfiltered, are ``height`` parts of each pass."""
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, adam7)
    rows = passes if adam7 else _rows(passes[0], height)
    data = zlib.compress(b"".join(b"\0" + row for row in rows))
    chunks = (png_chunk(b"IHDR", header), png_chunk(b"IDAT", data), png_chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def _rows(data: bytes, height: int) -> list[bytes]:
    size = len(data) // height
    return [data[i * size : (i + 1) * size] for i in range(height)]


def interlaced_png(width: int = 80, height: int = 60) -> bytes:
    """Write a PNG by Adam7, which Pillow reads and doesn't write."""
    pixels = np.asarray(make_picture(width, height))
    passes = ((0, 8, 0, 8), (0, 8, 4, 8), (4, 8, 0, 4), (0, 4, 2, 4)) + (
        (2, 4, 0, 2), (0, 2, 1, 2), (1, 2, 0, 1),
    )  # fmt: skip
    rows = [
        row.tobytes()
        for top, down, left, across in passes
        for row in pixels[top::down, left::across]
    ]
    return _png(width, height, 8, 2, rows, adam7=1)


def _tiffs() -> dict[str, bytes]:
    picture = make_picture()
    deep = np.random.default_rng(4).integers(0, 1 << 16, (60, 80), dtype=np.uint16)
    modes = {mode: picture.convert(mode) for mode in ("1", "L", "P", "CMYK", "YCbCr")}
    modes["LA"] = picture.convert("LA")
    modes["I_16"] = Image.fromarray(deep)
    modes["I"] = Image.fromarray(deep.astype(np.int32))
    modes["F"] = Image.fromarray(deep.astype(np.float32))
    modes["LAB"] = Image.frombytes("LAB", (80, 60), picture.tobytes())
    return {f"tiff_{mode}": encode(image, "TIFF") for mode, image in modes.items()} | {
        "tiff_jpeg": encode(picture, "TIFF", compression="jpeg"),
        "tiff_deflate": encode(picture, "TIFF", compression="tiff_adobe_deflate"),
        "tiff_fax": encode(picture.convert("1"), "TIFF", compression="group4"),
    }


def _animations() -> dict[str, bytes]:
    frames = [make_picture(seed=seed) for seed in range(3)]
    options = {"save_all": True, "append_images": frames[1:]}
    return {
        "png_animated": encode(frames[0], "PNG", **options),
        "webp_animated": encode(frames[0], "WEBP", **options),
        "webp_alpha": encode(frames[0].convert("RGBA"), "WEBP"),
        "gif_animated": encode(frames[0], "GIF", **options),
        "gif_transparent": encode(frames[0].quantize(32), "GIF", transparency=3),
        "avif_alpha": encode(frames[0].convert("RGBA"), "AVIF"),
    }


def _bmps() -> dict[str, bytes]:
    picture = make_picture()
    modes = {mode: encode(picture.convert(mode), "BMP") for mode in ("1", "L", "P", "RGBA")}
    return {f"bmp_{mode}": data for mode, data in modes.items()}


@lru_cache(maxsize=1)
def pictures_to_damage() -> dict[str, bytes]:
    """Encode a picture of some sectors in every format and way that has its own decoder."""
    picture = make_picture(160, 120)
    known = encoded_pictures(160, 120)
    frames = {"save_all": True, "append_images": [make_picture(160, 120, 1)]}
    return {
        "JPEG": encode(picture, "JPEG", quality=90, subsampling=0),
        "JPEG 4:2:0": encode(picture, "JPEG", quality=90, subsampling=2),
        "JPEG with restarts": encode(picture, "JPEG", quality=90, restart_marker_blocks=4),
        "JPEG progressive": encode(picture, "JPEG", quality=90, progressive=True),
        "JPEG gray": known["jpeg_gray"],
        "JPEG CMYK": known["jpeg_cmyk"],
        "PNG": known["png"],
        "PNG palette": known["png_palette"],
        "PNG 16 bit": known["png_16_bit"],
        "PNG interlaced": interlaced_png(160, 120),
        "PNG animated": encode(picture, "PNG", **frames),
        "PNG with text": _with_chunk(
            known["png"], png_chunk(b"tEXt", b"k\0" + bytes(5000))
        ),
        "WebP": encode(picture, "WEBP", quality=90),
        "WebP lossless": encode(picture, "WEBP", lossless=True),
        "WebP animated": encode(picture, "WEBP", **frames),
        "GIF": known["gif"],
        "AVIF": known["avif"],
        "BMP": known["bmp"],
        "TIFF LZW": known["tiff"],
        "TIFF JPEG": encode(picture, "TIFF", compression="jpeg"),
        "JPEG 2000": known["jp2"],
    }


def _flip(data: bytearray, chosen: random.Random) -> None:
    for _ in range(chosen.randrange(1, 9)):
        data[chosen.randrange(len(data))] ^= 1 << chosen.randrange(8)


def _sector(data: bytearray, chosen: random.Random) -> slice:
    start = chosen.randrange(len(data)) // SECTOR * SECTOR
    return slice(start, min(start + SECTOR, len(data)))


def _zero(data: bytearray, chosen: random.Random) -> None:
    where = _sector(data, chosen)
    data[where] = bytes(len(data[where]))


def _overwrite(data: bytearray, chosen: random.Random) -> None:
    where = _sector(data, chosen)
    data[where] = chosen.randbytes(len(data[where]))


def _swap(data: bytearray, chosen: random.Random) -> None:
    one, other = _sector(data, chosen), _sector(data, chosen)
    if len(data[one]) == len(data[other]):
        data[one], data[other] = data[other], data[one]


def _lose(data: bytearray, chosen: random.Random) -> None:
    del data[_sector(data, chosen)]


def _repeat(data: bytearray, chosen: random.Random) -> None:
    where = _sector(data, chosen)
    data[where.start : where.start] = data[where]


def _cut(data: bytearray, chosen: random.Random) -> None:
    del data[chosen.randrange(1, len(data)) :]


DAMAGES: dict[str, Callable[[bytearray, random.Random], None]] = {
    "bits flipped": _flip,
    "sector zeroed": _zero,
    "sector overwritten": _overwrite,
    "sectors swapped": _swap,
    "sector lost": _lose,
    "sector repeated": _repeat,
    "cut short": _cut,
}


def damaged_copies(data: bytes, damage: str, count: int) -> Iterator[bytes]:
    """Damage an image in one of the :data:`DAMAGES`, always in the same places."""
    chosen = random.Random(f"{damage} {len(data)}")
    for _ in range(count):
        copy = bytearray(data)
        DAMAGES[damage](copy, chosen)
        if copy != data:
            yield bytes(copy)
