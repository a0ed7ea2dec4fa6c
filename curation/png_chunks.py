"""Whether a PNG is as its writer left it: plain, and whole by its checksums.

Pillow and nvImageCodec forgive different damage, but all that can happen to a file once it
is written changes a checksum. What is odd, or not as it was written, is left to Pillow,
whose verdict is the rule (:mod:`curation.image_decoding`). So is what nvImageCodec refuses
of the rest: under right checksums it refuses more than Pillow, and nothing less.

Nothing is inflated. A photograph's checksums take 2% of decoding it.

Source: PNG specification, third edition (2025), 5.3 to 5.6 and 11.2.
"""

import zlib

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_HEADER_BYTES = 13
_AROUND = 12  # bytes of a chunk that are not its data: length, type, checksum
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by type of colour
MOST_IMAGE_DATA = 16 << 20
"""Bytes of deflated image data; to inflate them takes 30 s at most."""
_ANIMATION = (b"acTL", b"fcTL", b"fdAT")


def is_plain_png(data: bytes) -> bool:
    """Tell whether every decoder takes a PNG, and takes it alike.

    Given that Pillow opens it, which looks into some of its chunks.

    Plain is: at most 8 bits a channel, not interlaced, not animated, one run of image data
    and then the end, every checksum right, and no more image data than the image needs, or
    than 16 MiB. What follows the end does not count.
    """
    if not data.startswith(_SIGNATURE):
        return False
    whole = memoryview(data)
    at, last, room = len(_SIGNATURE), b"", 0
    while last != b"IEND":
        kind, size = data[at + 4 : at + 8], int.from_bytes(data[at : at + 4], "big")
        end = at + _AROUND + size
        if end > len(data) or not _may_follow(last, kind):
            return False
        if kind == b"IHDR":
            if not _is_plain_header(header := data[at + 8 : end - 4]):
                return False
            room = _most_image_data(header)
        room -= size if kind == b"IDAT" else 0
        if room < 0:
            return False
        checksum = int.from_bytes(data[end - 4 : end], "big")
        if zlib.crc32(whole[at + 4 : end - 4]) != checksum:
            return False
        at, last = end, kind
    return True


def _may_follow(last: bytes, kind: bytes) -> bool:
    """Leave to Pillow what is not header, other chunks, image data, end, in this order."""
    if not last or kind == b"IHDR":
        return not last and kind == b"IHDR"
    if last == b"IDAT":
        return kind in (b"IDAT", b"IEND")
    return kind != b"IEND" and kind not in _ANIMATION


def _most_image_data(header: bytes) -> int:
    """Give how many bytes of image data may be deflated, and be inflated quickly.

    nvImageCodec inflates all of them, where Pillow stops when the image is whole; a byte
    can become 1,032. Deflate's longest is 5 bytes more for each 16 KiB.
    """
    width, height = int.from_bytes(header[:4], "big"), int.from_bytes(header[4:8], "big")
    bits = _CHANNELS.get(header[9], 4) * header[8]
    inflated = height * (1 + -(-width * bits // 8))
    return min(inflated + inflated // 1000 + 64, MOST_IMAGE_DATA)


def _is_plain_header(header: bytes) -> bool:
    """Tell by bits, compression, filter and interlacing, which follow size and colours."""
    if len(header) != _HEADER_BYTES:
        return False
    bits, others = header[8], header[10:]
    return bits <= 8 and others == bytes(3)
