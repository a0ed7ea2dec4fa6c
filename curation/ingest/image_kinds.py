"""Which image format a file is of, by its first bytes.

Nothing is decoded here, so nothing hostile is parsed: that an image can be decoded is found
out when it is embedded. Which formats those are is said in ``curation/recipe.py``.

Source: the formats' specifications, "File signature" or "Magic number" in each.
"""

HEAD_BYTES = 64
"""Enough to know every format by."""

_SIGNATURES = (
    (b"\xff\xd8\xff", "jpg"),
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"GIF87a", "gif"),
    (b"GIF89a", "gif"),
    (b"II*\0", "tif"),
    (b"MM\0*", "tif"),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "jp2"),
    (b"\xff\x4f\xff\x51", "jp2"),  # a codestream without the box around it
)
_AVIF_BRANDS = (b"avif", b"avis")
_BMP_HEADER_BYTES = (12, 40, 52, 56, 64, 108, 124)  # of the versions of its header


def image_extension(head: bytes) -> str | None:
    """Give the extension that an image should have: ``jpg``, ``png``, ``webp`` ….

    Args:
        head: The first ``HEAD_BYTES`` of the file, or all of a shorter one.

    Returns:
        One that recipes look for by default; None if it is no image of such a format.
    """
    for signature, extension in _SIGNATURES:
        if head.startswith(signature):
            return extension
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "webp"
    if head[4:8] == b"ftyp" and any(brand in _brands(head) for brand in _AVIF_BRANDS):
        return "avif"
    if head[:2] == b"BM" and int.from_bytes(head[14:18], "little") in _BMP_HEADER_BYTES:
        return "bmp"
    return None


def explain_no_image(head: bytes) -> str:
    """Say what a file looks like that is no image."""
    if not head:
        return "the file is empty"
    return f"no image of a known format: it begins with {head[:16]!r}"


def _brands(head: bytes) -> list[bytes]:
    """Give the brands of an ISO media file: the major one, then the compatible ones."""
    box = head[8 : int.from_bytes(head[:4], "big")]
    return [box[at : at + 4] for at in range(0, len(box), 4) if at != 4]
