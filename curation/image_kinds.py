"""Which image format a file is of, by its first bytes, and what it is if it is no image.

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
    (b"II+\0", "tif"),  # BigTIFF, for more than 4 GB
    (b"MM\0+", "tif"),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "jp2"),
    (b"\xff\x4f\xff\x51", "jp2"),  # a codestream without the box around it
)
_OTHERS = (
    (b"\xff\x0a", "JPEG XL"),
    (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
    (b"II\xbc", "JPEG XR"),
    (b"II*\0\x10\0\0\0CR", "a camera's raw file (CR2)"),
    (b"8BPS", "a Photoshop file (PSD)"),
    (b"gimp xcf", "a GIMP file (XCF)"),
    (b"%PDF-", "PDF"),
    (b"%!PS", "PostScript"),
    (b"\xc5\xd0\xd3\xc6", "PostScript"),
    (b"FUJIFILMCCD-RAW", "a camera's raw file (RAF)"),
    (b"IIRO", "a camera's raw file (ORF)"),
    (b"IIRS", "a camera's raw file (ORF)"),
    (b"IIU\0", "a camera's raw file (RW2)"),
    (b"FOVb", "a camera's raw file (X3F)"),
    (b"\0MRM", "a camera's raw file (MRW)"),
    (b"\0\0\1\0", "an icon (ICO)"),
    (b"icns", "an icon (ICNS)"),
    (b"\x8aMNG", "MNG"),
    (b"\x8bJNG", "JNG"),
    (b"BPG\xfb", "BPG"),
    (b"FLIF", "FLIF"),
    (b"qoif", "QOI"),
    (b"farbfeld", "farbfeld"),
    (b"DDS ", "DDS"),
    (b"\x76\x2f\x31\x01", "OpenEXR"),
    (b"#?RADIANCE", "Radiance HDR"),
    (b"SIMPLE  =", "FITS"),
    (b"\xd7\xcd\xc6\x9a", "WMF"),
    (b"AT&TFORM", "DjVu"),
    (b"\x1a\x45\xdf\xa3", "a video (Matroska or WebM)"),
    (b"FLV", "a video (FLV)"),
    (b"\x1f\x8b", "a gzip file"),
    (b"PK\3\4", "a zip file"),
    (b"7z\xbc\xaf", "a 7z file"),
    (b"Rar!", "a RAR file"),
)
_OTHER_BRANDS = (
    ((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx"), "HEIC"),
    ((b"mif1", b"msf1"), "HEIF"),
    ((b"crx ",), "a camera's raw file (CR3)"),
    ((b"isom", b"iso2", b"mp41", b"mp42", b"avc1", b"qt  ", b"M4V "), "a video (MP4)"),
)
"""Brands of an ISO media file, those that say more first."""
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
    """Say what a file is, or looks like, that is no image of a format that can be read."""
    if not head:
        return "the file is empty"
    name = other_kind(head)
    if name:
        return f"no image of a known format: it is {name}"
    return f"no image of a known format: it begins with {head[:16]!r}"


def other_kind(head: bytes) -> str | None:
    """Name the format of a file, by its first ``HEAD_BYTES``, that is not read here."""
    for signature, name in _OTHERS:
        if head.startswith(signature):
            return name
    if head[4:8] == b"ftyp":
        brands = _brands(head)
        for known, name in _OTHER_BRANDS:
            if not set(known).isdisjoint(brands):
                return name
    return _text_kind(head.lstrip(b"\xef\xbb\xbf \t\r\n").lower())


def _text_kind(text: bytes) -> str | None:
    if text.startswith(b"<svg") or (text.startswith(b"<?xml") and b"<svg" in text):
        return "SVG"
    if text.startswith(b"<!doctype svg"):
        return "SVG"
    return None


def _brands(head: bytes) -> list[bytes]:
    """Give the brands of an ISO media file: the major one, then the compatible ones."""
    box = head[8 : int.from_bytes(head[:4], "big")]
    return [box[at : at + 4] for at in range(0, len(box), 4) if at != 4]
