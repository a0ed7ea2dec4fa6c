"""Small pictures in every format and state, made by Pillow: for tests and benchmarks."""

import io
import random
import zlib
from collections.abc import Iterator

import numpy as np
from PIL import Image


def make_picture(width: int = 80, height: int = 60, seed: int = 0) -> Image.Image:
    """Draw coloured blocks with noise: edges, plains and detail, like a photograph."""
    rng = np.random.default_rng(seed)
    blocks = rng.integers(0, 200, (height // 10 + 1, width // 10 + 1, 3), dtype=np.uint8)
    drawn = blocks.repeat(10, axis=0).repeat(10, axis=1)[:height, :width]
    noise = rng.integers(0, 56, drawn.shape, dtype=np.uint8)
    return Image.fromarray(drawn + noise)


def encode(picture: Image.Image, format: str, **options: object) -> bytes:
    """Encode a picture with Pillow's options for the format."""
    buffer = io.BytesIO()
    picture.save(buffer, format, **options)
    return buffer.getvalue()


def encoded_pictures(width: int = 80, height: int = 60) -> dict[str, bytes]:
    """Encode one picture in every way that datasets hold images."""
    plain = make_picture(width, height)
    rng = np.random.default_rng(1)
    alpha = plain.copy()
    alpha.putalpha(Image.fromarray(rng.integers(0, 256, (height, width), dtype=np.uint8)))
    palette = plain.quantize(32)
    deep = Image.fromarray(rng.integers(0, 1 << 16, (height, width), dtype=np.uint16))
    turned = Image.Exif()
    turned[0x0112] = 6
    return {
        "jpeg": encode(plain, "JPEG", quality=90),
        "jpeg_420": encode(plain, "JPEG", quality=70, subsampling=2),
        "jpeg_progressive": encode(plain, "JPEG", progressive=True),
        "jpeg_gray": encode(plain.convert("L"), "JPEG"),
        "jpeg_cmyk": encode(plain.convert("CMYK"), "JPEG"),
        "jpeg_turned": encode(plain, "JPEG", exif=turned),
        "png": encode(plain, "PNG"),
        "png_alpha": encode(alpha, "PNG"),
        "png_gray_alpha": encode(alpha.convert("LA"), "PNG"),
        "png_bilevel": encode(plain.convert("1"), "PNG"),
        "png_palette": encode(palette, "PNG"),
        "png_palette_transparent": encode(palette, "PNG", transparency=3),
        "png_16_bit": encode(deep, "PNG"),
        "webp": encode(plain, "WEBP"),
        "webp_lossless_alpha": encode(alpha, "WEBP", lossless=True),
        "gif": encode(palette, "GIF"),
        "avif": encode(plain, "AVIF"),
        "tiff": encode(plain, "TIFF", compression="tiff_lzw"),
        "bmp": encode(plain, "BMP"),
        "jp2": encode(plain, "JPEG2000"),
    }


def damaged_pictures(count: int, seed: int = 0) -> Iterator[tuple[str, bytes]]:
    """Damage pictures in every way that datasets hold damage.

    Yields:
        What was done, and the bytes: cut short anywhere, bits flipped, stretches
        overwritten, headers scrambled, and files that never were images.
    """
    chosen = random.Random(seed)
    pictures = encoded_pictures()
    for number in range(count):
        name, data = chosen.choice(list(pictures.items()))
        what = ("cut", "flipped", "overwritten", "scrambled", "other")[number % 5]
        yield f"{name} {what}", _damaged(what, bytearray(data), chosen)


def _damaged(what: str, data: bytearray, chosen: random.Random) -> bytes:
    if what == "cut":
        return bytes(data[: chosen.randrange(len(data))])
    if what == "flipped":
        for _ in range(chosen.randrange(1, 9)):
            data[chosen.randrange(len(data))] ^= 1 << chosen.randrange(8)
    elif what == "overwritten":
        start = chosen.randrange(len(data))
        data[start : start + 20] = chosen.randbytes(20)
    elif what == "scrambled":
        for _ in range(4):
            data[chosen.randrange(min(64, len(data)))] = chosen.randrange(256)
    else:
        others = [
            b"",
            b"<!DOCTYPE html><html><body>404 Not Found</body></html>",
            chosen.randbytes(2000),
            data[:2] + chosen.randbytes(500),
            data + chosen.randbytes(100),
            b"\0" * 1000,
        ]
        return bytes(chosen.choice(others))
    return bytes(data)


def bomb_png(width: int, height: int) -> bytes:
    """Make a PNG whose header claims a size that its few bytes of data don't have."""
    data = bytearray(encode(make_picture(8, 8), "PNG"))
    data[16:24] = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    return bytes(data)
